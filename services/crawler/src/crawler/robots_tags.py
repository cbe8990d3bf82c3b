"""What a page itself asks of crawlers: <meta name=robots> and the header X-Robots-Tag. Pure.

Source: https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from crawler.sitemaps import moment

_UNAVAILABLE = "unavailable_after"
# Rules that have a value; any other name before a colon is that of a crawler.
_WITH_VALUE = frozenset({"max-snippet", "max-image-preview", "max-video-preview", _UNAVAILABLE})
_NOINDEX = frozenset({"noindex", "none"})
_NOFOLLOW = frozenset({"nofollow", "none"})
# What a page says beyond is not heard: a date takes long to read, and a page can hold half a million.
_MAX_VALUES = 20
_MAX_CHARACTERS = 2_000  # of each


@dataclass(frozen=True, slots=True)
class PageRules:
    """`noindex`: the page is not to be kept; `nofollow`: its links are not to be followed."""

    noindex: bool = False
    nofollow: bool = False


def page_rules(product: str, meta: Iterable[tuple[str, str]], headers: Iterable[str], now: datetime) -> PageRules:
    """Return what holds for the crawler `product`: everything that is said to it or to all, together.

    `meta` are the names and contents of <meta> elements, `headers` the values of X-Robots-Tag.
    """
    product = product.lower()
    rules: set[str] = set()
    for content in islice((content for name, content in meta if name.lower() in ("robots", product)), _MAX_VALUES):
        rules.update(_rules(content[:_MAX_CHARACTERS], now))
    for value in islice(headers, _MAX_VALUES):
        parts = [part for agent, part in _parts(value[:_MAX_CHARACTERS]) if agent in ("", "*", product)]
        rules.update(rule for part in parts for rule in _rules(part, now))
    return PageRules(noindex=not rules.isdisjoint(_NOINDEX), nofollow=not rules.isdisjoint(_NOFOLLOW))


def _parts(value: str) -> Iterator[tuple[str, str]]:
    """The parts of one header, each with the crawler that it is said to: a name holds up to the next one."""
    agent = ""
    rules: list[str] = []
    for part in value.split(","):
        name, colon, rule = part.partition(":")
        name = name.strip().lower()
        if colon and name not in _WITH_VALUE and " " not in name:  # a name has no space, a date before its time has one
            yield agent, ",".join(rules)
            agent, rules = name, [rule]
        else:
            rules.append(part)
    yield agent, ",".join(rules)


def _rules(text: str, now: datetime) -> Iterator[str]:
    """Each rule; that a page was available until a time that is over means `noindex`."""
    rules = text.lower().split(",")
    for place, rule in enumerate(rules):
        name, _, value = rule.partition(":")
        if name.strip() != _UNAVAILABLE:
            yield rule.strip()
        elif _is_over(value, ",".join((value, *rules[place + 1 : place + 2])), now=now):
            yield "noindex"


def _is_over(*texts: str, now: datetime) -> bool:
    """Whether the first of these that is a date is over; one with the day of the week has a comma in it."""
    time = next(filter(None, (moment(text.strip().upper()) for text in texts)), None)
    return time is not None and time <= now
