"""The scope of a crawl: which of the URLs that a page links to become pages of the job."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

import re2  # type: ignore[import-untyped]  # google-re2 ships no types
from tallyho_contracts.crawls import CrawlOptions

from crawler.urls import path, site


class Searches(Protocol):
    """A compiled pattern, as far as it is used here."""

    def search(self, text: str) -> object | None: ...


@dataclass(frozen=True, slots=True)
class Scope:
    """The rules of one crawl, ready to be applied. Seeds are exempt from all of them."""

    options: CrawlOptions
    sites: frozenset[str]
    include: tuple[Searches, ...]
    exclude: tuple[Searches, ...]

    @classmethod
    def of(cls, options: CrawlOptions, sites: frozenset[str]) -> Self:
        """Compile the options of a crawl whose seeds lie on `sites`. Raises re2.error for a pattern that is none."""
        return cls(options, sites, include=_compiled(options.include), exclude=_compiled(options.exclude))

    def refusal(self, url: str, depth: int) -> str | None:
        """Return why a found URL is not followed, or None.

        Reasons are "depth", "off_site", "not_below", "excluded" and "not_included".
        """
        options = self.options
        if options.max_depth is not None and depth > options.max_depth:
            return "depth"
        if (options.same_site or options.below) and (reason := self._refusal_of_place(url, depth)):
            return reason
        searched = path(url) if options.match_path else url
        if any(pattern.search(searched) for pattern in self.exclude):
            return "excluded"
        if self.include and not any(pattern.search(searched) for pattern in self.include):
            return "not_included"
        return None

    def _refusal_of_place(self, url: str, depth: int) -> str | None:
        if not self._is_on_site(site(url)):
            return "off_site" if self.options.same_site else None
        # At depth 0 stand only the seeds and where they redirect to: that is meant, wherever it lies.
        if self.options.below and depth > 0 and not path(url).startswith(self.options.below):
            return "not_below"
        return None

    def _is_on_site(self, found: str) -> bool:
        if found in self.sites:
            return True
        return self.options.subdomains and any(found.endswith(f".{one}") for one in self.sites)


def _compiled(patterns: Iterable[str]) -> tuple[Searches, ...]:
    options = re2.Options()
    options.log_errors = False
    return tuple(re2.compile(pattern, options) for pattern in patterns)
