"""What a page itself asks of crawlers: <meta name=robots> and the header X-Robots-Tag. Pure.

Source: https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Rules that have a value; any other name before a colon is that of a crawler.
_WITH_VALUE = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})
_NOINDEX = frozenset({"noindex", "none"})
_NOFOLLOW = frozenset({"nofollow", "none"})


@dataclass(frozen=True, slots=True)
class PageRules:
    """`noindex`: the page is not to be kept; `nofollow`: its links are not to be followed."""

    noindex: bool = False
    nofollow: bool = False


def page_rules(product: str, meta: Iterable[tuple[str, str]], headers: Iterable[str]) -> PageRules:
    """Return what holds for the crawler `product`: everything that is said to it or to all, together.

    `meta` are the names and contents of <meta> elements, `headers` the values of X-Robots-Tag.
    """
    product = product.lower()
    rules: set[str] = set()
    for name, content in meta:
        if name.lower() in ("robots", product):
            rules.update(rule.strip().lower() for rule in content.split(","))
    for value in headers:
        rules.update(rule for agent, rule in _rules_of_header(value) if agent in ("", "*", product))
    return PageRules(noindex=not rules.isdisjoint(_NOINDEX), nofollow=not rules.isdisjoint(_NOFOLLOW))


def _rules_of_header(value: str) -> Iterator[tuple[str, str]]:
    """The rules of one header, each with the crawler that it is said to: a name holds up to the next one."""
    agent = ""
    for part in value.lower().split(","):
        name, colon, rule = part.partition(":")
        name = name.strip()
        if colon and name not in _WITH_VALUE and " " not in name:  # a name has no space, a date before its time has one
            agent, part = name, rule  # noqa: PLW2901  # what remains of it
        yield agent, part.strip()
