"""The scope of a crawl: which of the URLs that a page links to become pages of the job."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import re2  # type: ignore[import-untyped]  # google-re2 ships no types
from tallyho_contracts.crawls import CrawlOptions

from crawler.urls import site


class Searches(Protocol):
    """A compiled pattern, as far as it is used here."""

    def search(self, text: str) -> object | None: ...


@dataclass(frozen=True, slots=True)
class Scope:
    """The rules of one crawl, ready to be applied. Seeds are exempt from all of them."""

    max_depth: int | None
    sites: frozenset[str] | None
    include: tuple[Searches, ...]
    exclude: tuple[Searches, ...]

    @classmethod
    def of(cls, options: CrawlOptions, sites: frozenset[str]) -> Self:
        """Compile the options of a crawl whose seeds lie on `sites`. Raises re2.error for a pattern that is none."""
        return cls(
            max_depth=options.max_depth,
            sites=sites if options.same_site else None,
            include=_compiled(options.include),
            exclude=_compiled(options.exclude),
        )

    def refusal(self, url: str, depth: int) -> str | None:
        """Return why a found URL is not followed ("depth", "off_site", "excluded", "not_included"), or None."""
        if self.max_depth is not None and depth > self.max_depth:
            return "depth"
        if self.sites is not None and site(url) not in self.sites:
            return "off_site"
        if any(pattern.search(url) for pattern in self.exclude):
            return "excluded"
        if self.include and not any(pattern.search(url) for pattern in self.include):
            return "not_included"
        return None


def _compiled(patterns: Iterable[str]) -> tuple[Searches, ...]:
    options = re2.Options()
    options.log_errors = False
    return tuple(re2.compile(pattern, options) for pattern in patterns)
