"""The scope of a crawl: which of the URLs that a page links to become pages of the job."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, Self

import re2  # type: ignore[import-untyped]  # google-re2 ships no types
from tallyho_contracts.crawls import CrawlOptions

from crawler import urls
from crawler.traps import is_trap


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
    below: tuple[str, ...]
    folders: tuple[str, ...]

    @classmethod
    def of(cls, options: CrawlOptions, sites: frozenset[str]) -> Self:
        """Compile the options of a crawl whose seeds lie on `sites`. Raises re2.error for a pattern that is none."""
        below = tuple(map(urls.canonical_path, options.below))
        folders = tuple(path if path.endswith("/") else f"{path}/" for path in below)
        return cls(options, sites, _compiled(options.include), _compiled(options.exclude), below, folders)

    def refusal(self, url: str, depth: int, *, found_on: str | None = None) -> str | None:
        """Return why a URL found on a page (or by a redirect, which counts as found nowhere) is not followed, or None.

        Reasons are "depth", "off_site", "not_below", "excluded", "not_included" and "trap".
        """
        if self.options.max_depth is not None and depth > self.options.max_depth:
            return "depth"
        is_elsewhere = not self._is_on_site(url)
        if is_elsewhere and self.options.same_site and not (self.options.outlinks and self._may_lead_out(found_on)):
            return "off_site"
        if self._is_above(url, depth):
            return "not_below"
        if refusal := self._refusal_by_pattern(url, is_outlink=is_elsewhere and self.options.outlinks):
            return refusal
        return "trap" if is_trap(url, depth, self.options.max_depth) else None

    def _refusal_by_pattern(self, url: str, *, is_outlink: bool) -> str | None:
        searched = urls.path(url) if self.options.match_path else url
        if any(pattern.search(searched) for pattern in self.exclude):
            return "excluded"
        if self.include and not is_outlink and not any(pattern.search(searched) for pattern in self.include):
            return "not_included"
        return None

    def _is_on_site(self, url: str) -> bool:
        found = urls.site(url)
        if found in self.sites:
            return True
        return self.options.subdomains and any(found.endswith(f".{site}") for site in self.sites)

    def _may_lead_out(self, page: str | None) -> bool:
        return page is None or self._is_on_site(page)

    def _is_above(self, url: str, depth: int) -> bool:
        # At depth 0 stand only the seeds and where they redirect to: that is meant, wherever it lies.
        if not self.folders or depth == 0 or urls.site(url) not in self.sites:
            return False
        path = urls.path(url)
        return not path.startswith(self.folders) and path not in self.below


@lru_cache(maxsize=16)
def _compiled(patterns: tuple[str, ...]) -> tuple[Searches, ...]:
    """Many in one, since each search costs more than what it looks for; not where one may quote what follows it."""
    options = re2.Options()
    options.log_errors = False
    compiled = tuple(re2.compile(pattern, options) for pattern in patterns)
    together = "|".join(f"(?:{pattern})" for pattern in patterns)
    if len(patterns) < 2 or r"\Q" in together:
        return compiled
    try:
        return (re2.compile(together, options),)
    except re2.error:  # they are too large together, or two groups have one name
        return compiled
