"""The outcome of a campaign as a table."""

from collections.abc import Iterator
from statistics import median

from chaos.campaign import Outcome

HEAD = ("fault", "injected", "lost", "twice", "recovered after (median, max)")


def lines(outcome: Outcome) -> Iterator[str]:
    """The table, and below it whatever is wrong."""
    verdict = outcome.verdict
    names = sorted({*outcome.injected, *verdict.lost})
    rows = [
        (
            name,
            str(outcome.injected.get(name, 0)),
            str(verdict.lost.get(name, 0)),
            str(verdict.twice.get(name, 0)),
            _seconds(outcome.recoveries.get(name, [])),
        )
        for name in names
    ]
    width = max(map(len, [*names, HEAD[0]]))
    for fault, *numbers in [HEAD, *rows]:
        yield f"{fault:<{width}}" + "".join(
            f"  {number:>{len(head)}}" for number, head in zip(numbers, HEAD[1:], strict=True)
        )
    yield f"{outcome.faults} faults, {outcome.crawls} crawls, {verdict.documents} documents"
    yield from (f"wrong: {problem}" for problem in verdict.problems)


def _seconds(recoveries: list[float]) -> str:
    return f"{median(recoveries):.1f} s, {max(recoveries):.1f} s" if recoveries else "-"
