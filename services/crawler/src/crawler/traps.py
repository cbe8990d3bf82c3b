"""URLs without end: what a server can make up for ever, told from the URL and where it was found.

Pure. A link to a trap is skipped with the reason `trap`; docs/crawling.md tells the rules to the people they hit.
"""

from collections import Counter

MAX_SEGMENTS = 30
MAX_IN_A_ROW = 2  # of a segment, or of a group of them: /a/b/a/b is one more than most sites ever have
MAX_SAME = 4  # of a segment anywhere in the path
MAX_LABELS = 10  # of a host: some name servers know any name
MAX_PARAMETERS = 50
MAX_SAME_PARAMETERS = 3  # with the same value
MAX_LINKS_FROM_A_SEED = 250  # calendars link to the next month, and that to the next, for ever
_LONGEST_GROUP = 5


def is_trap(url: str, depth: int, max_depth: int | None) -> bool:
    """Whether a canonical URL, found so many links from a seed, looks made up. `max_depth` is what the job wants."""
    if max_depth is None and depth > MAX_LINKS_FROM_A_SEED:
        return True
    address, _, query = url.partition("?")
    _, _, host, *segments = address.split("/")
    if host.count(".") >= MAX_LABELS:
        return True
    if len(segments) > MAX_IN_A_ROW and _goes_in_circles(segments):
        return True
    return query.count("&") >= MAX_SAME_PARAMETERS and _repeats(query.split("&"))


def _goes_in_circles(segments: list[str]) -> bool:
    if len(segments) > MAX_SEGMENTS:
        return True
    counted = Counter(filter(None, segments)).most_common(1)
    most = counted[0][1] if counted else 0
    if most <= MAX_IN_A_ROW:
        return False
    return most > MAX_SAME or any(_is_in_a_row(segments, length) for length in range(1, _LONGEST_GROUP + 1))


def _is_in_a_row(segments: list[str], length: int) -> bool:
    """Whether a group of so many segments stands more often in a row than it may."""
    row = 0
    for before, segment in zip(segments, segments[length:], strict=False):
        row = row + 1 if before == segment else 0
        if row == length * MAX_IN_A_ROW:
            return True
    return False


def _repeats(parameters: list[str]) -> bool:
    return len(parameters) > MAX_PARAMETERS or max(Counter(parameters).values()) > MAX_SAME_PARAMETERS
