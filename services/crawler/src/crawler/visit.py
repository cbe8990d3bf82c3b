"""A visit to one page: ask its robots.txt, fetch it, extract it. Ends as a `Visit`, or `Postponed`."""

import asyncio
import random
import zlib
from dataclasses import dataclass
from typing import Protocol

from tallyho_contracts.pages import Outcome

from crawler.fetch import Failed, Fetched, Redirected, Result, Skipped
from crawler.frontier import MAX_REDIRECTS, DocumentContent, Links, Postponed, QueuedPage, Visit
from crawler.isolation import IsolatedParser, ParsingFailedError
from crawler.links import PageLinks
from crawler.parsing import Parsed, ToParse, finish, read
from crawler.politeness import OriginUnreachableError, Politeness
from crawler.retry import next_attempt
from crawler.robots import product_token
from crawler.robots_tags import PageRules, page_rules
from crawler.urls import site

# A page that leads on so soon is a redirect; one that leaves more time is meant to be read.
INSTANT_SECONDS = 1


class FetchesPages(Protocol):
    """A `Fetcher` or a `Renderer`."""

    user_agent: str

    async def fetch(self, url: str) -> Result: ...


@dataclass(frozen=True)
class Visitor:
    """What a visit needs."""

    fetcher: FetchesPages
    politeness: Politeness
    parser: IsolatedParser
    max_attempts: int

    async def visit(self, page: QueuedPage) -> Visit | Postponed | None:
        """Visit a page; None when its origin's turn is too far off, and the page stays as it is."""
        try:
            robots = await self.politeness.robots(page.lane.origin)
        except OriginUnreachableError as error:
            return self._failed(page, error.failed)
        if not robots.allows(page.url):
            return Visit(page, Outcome.SKIPPED, "robots")
        if not await self.politeness.turn(page.lane.origin, robots):
            return None
        return await self._ended(page, await self.fetcher.fetch(page.url))

    async def _ended(self, page: QueuedPage, result: Result) -> Visit | Postponed:
        match result:
            case Fetched():
                return await self._read(page, result)
            case Redirected(status, target) if page.redirects < MAX_REDIRECTS:
                return Visit(page, Outcome.SKIPPED, "redirect", status, redirect_to=target)
            case Redirected(status):
                return Visit(page, Outcome.FAILED, "too_many_redirects", status)
            case Skipped(reason, status):
                return Visit(page, Outcome.SKIPPED, reason, status)
            case Failed():
                if result.retry_after:
                    await self.politeness.hold(page.lane.origin, result.retry_after)
                return self._failed(page, result)

    def _failed(self, page: QueuedPage, failed: Failed) -> Visit | Postponed:
        delay = next_attempt(failed, page.attempts + 1, self.max_attempts, random.random())  # noqa: S311  # jitter
        if delay is not None:
            return Postponed(page, delay, failed.reason)
        return Visit(page, Outcome.FAILED, failed.reason, failed.status)

    async def _read(self, page: QueuedPage, fetched: Fetched) -> Visit:
        options = page.lane.options
        try:
            parsed = await self._parsed(page, fetched)
        except ParsingFailedError as error:
            return Visit(page, Outcome.FAILED, error.reason, fetched.status)
        found = parsed.links
        rules = PageRules()
        if options.robots_tags:
            rules = page_rules(product_token(self.fetcher.user_agent), found.robots, fetched.robots_tags)
        if (target := elsewhere(page, found)) is not None:
            reason, url = target
            return Visit(page, Outcome.SKIPPED, reason, fetched.status, redirect_to=url)
        nofollow = frozenset(found.urls) if rules.nofollow else found.nofollow if options.robots_tags else frozenset()
        if rules.noindex:
            return Visit(page, Outcome.SKIPPED, "noindex", fetched.status, links=Links(found.urls, nofollow))
        document = DocumentContent(
            title=parsed.title,
            content=parsed.content,
            links=found.urls,
            content_hash=parsed.content_hash,
            status_code=fetched.status,
            content_type=fetched.content_type.replace("\0", ""),
            etag=fetched.etag,
            last_modified=fetched.last_modified,
            description=parsed.description,
            language=parsed.language,
            metadata=parsed.metadata,
            html=None if parsed.html is None else await asyncio.to_thread(zlib.compress, parsed.html.encode()),
            nofollow=tuple(nofollow),
        )
        return Visit(page, Outcome.COMPLETED, status_code=fetched.status, document=document)

    async def _parsed(self, page: QueuedPage, fetched: Fetched) -> Parsed:
        options = page.lane.options
        to_parse = ToParse(
            fetched.body, fetched.content_type, page.url, markdown=options.markdown, keep_html=options.keep_html
        )
        if not to_parse.is_light:
            return await self.parser.parse(to_parse)
        kept = read(to_parse)
        if not kept.main and not to_parse.keep_html:
            return finish(to_parse, kept)
        return await asyncio.to_thread(finish, to_parse, kept)


def elsewhere(page: QueuedPage, found: PageLinks) -> tuple[str, str] | None:
    """Return why and where a page sends its readers elsewhere, if it does: then it is no document itself."""
    if page.redirects >= MAX_REDIRECTS:
        return None
    if found.refresh and found.refresh.seconds <= INSTANT_SECONDS:
        return "meta_refresh", found.refresh.target
    canonical = found.canonical
    if page.lane.options.canonical and canonical and canonical != page.url and site(canonical) == site(page.url):
        return "canonical", canonical
    return None
