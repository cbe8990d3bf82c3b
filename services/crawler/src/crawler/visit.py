"""A visit to one page: ask its robots.txt, fetch it, extract it. Ends as a `Visit`, or `Postponed`."""

import asyncio
import random
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from http import HTTPStatus
from time import monotonic
from typing import Protocol

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.pages import Outcome
from tallyho_postgres.pool import Pool

from crawler import documents
from crawler.extract import Extracted
from crawler.fetch import Failed, Fetched, Fetcher, NotModified, Redirected, Result, Skipped
from crawler.frontier import BEYOND, MAX_REDIRECTS, DocumentContent, Links, Postponed, QueuedPage, Visit
from crawler.halts import Halts
from crawler.isolation import IsolatedParser, ParsingFailedError
from crawler.links import PageLinks, canonical_in_header, refresh_of
from crawler.metadata import language_tag
from crawler.parsing import Parsed, ToParse, finish, read
from crawler.politeness import OriginUnreachableError, Politeness
from crawler.retry import next_attempt
from crawler.robots import Robots, product_token
from crawler.robots_tags import PageRules, page_rules
from crawler.sitemaps import MAX_BYTES as MAX_LIST_BYTES
from crawler.urls import document_id, site

# A page that leads on so soon is a redirect; one that leaves more time is meant to be read.
INSTANT_SECONDS = 1
LISTS_AT_ONCE = 3
# What decides what is kept of a page, besides the page; the number is that of the extraction itself.
_MADE_BY = ("markdown", "keep_html", "robots_tags", "canonical")
_EXTRACTION = 3
_NO_SUCH_PAGE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


class FetchingBrokenError(Exception):
    """This process can fetch no page any more: it has to end, and another one begins anew."""


class FetchesPages(Protocol):
    """A `Fetcher` or a `Renderer`, which raises FetchingBrokenError."""

    user_agent: str

    async def fetch(self, url: str) -> Result: ...


@dataclass(frozen=True)
class Visitor:
    """What a visit needs. `pages` fetches pages, `fetcher` everything else."""

    pool: Pool
    fetcher: Fetcher
    pages: FetchesPages
    politeness: Politeness
    parser: IsolatedParser
    max_attempts: int
    halts: Halts = field(default_factory=Halts)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    # One thread is enough for what one loop reads; more of them only take its core and the interpreter's lock from it.
    _finishing: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 1))
    # A list can take 50 MB.
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LISTS_AT_ONCE))

    @cached_property
    def _product(self) -> str:
        return product_token(self.fetcher.user_agent)

    async def visit(self, page: QueuedPage) -> Visit | Postponed | None:
        """Visit a page; None when its origin's turn is too far off, and the page stays as it is."""
        try:
            robots = await self.politeness.robots(page.lane.origin)
        except OriginUnreachableError as error:
            return self._failed(page, error.failed)
        visit = await self._allowed(page, robots) if robots.allows(page.url) else Visit(page, Outcome.SKIPPED, "robots")
        if isinstance(visit, Visit) and page.depth == 0 and page.lane.options.sitemap != "skip" and not page.is_list:
            origin = page.lane.origin
            return replace(visit, lists=robots.sitemaps(origin) or (f"{origin}/sitemap.xml",))
        return visit

    async def _allowed(self, page: QueuedPage, robots: Robots) -> Visit | Postponed | None:
        # A turn that waits for other lists to be read is none any more.
        async with self._reading if page.is_list else nullcontext():
            if not await self.politeness.turn(page.lane, robots):
                return None
            # It can take a while until it is this page's turn.
            if page.lane.job_id in self.halts:
                return None
            return await self._ended(page, await self._fetched(page))

    async def _fetched(self, page: QueuedPage) -> Result | NotModified:
        started = monotonic()
        result = await self._fetch(page)
        await self.politeness.answered(page.lane, result, monotonic() - started)
        return result

    async def _fetch(self, page: QueuedPage) -> Result | NotModified:
        if page.is_list:
            return await self.fetcher.fetch(page.url, first_bytes=MAX_LIST_BYTES)
        known, options = page.known, page.lane.options
        # What a page's scripts make of it, its validators don't tell.
        is_rendered = options.render != "none"
        if is_rendered or known is None or not options.revalidate or known.made_by != made_by(options):
            return await self.pages.fetch(page.url)
        return await self.fetcher.fetch_if_modified(page.url, etag=known.etag, last_modified=known.last_modified)

    async def _kept(self, page: QueuedPage) -> Visit | Postponed:
        async with self.pool.acquire() as connection:
            kept = await documents.kept_document(connection, document_id(page.url))
        if kept is None:
            return Postponed(page, 0.0, "document_deleted")
        return Visit(page, Outcome.COMPLETED, status_code=HTTPStatus.NOT_MODIFIED, document=kept)

    async def _ended(  # noqa: PLR0911  # one line for each end
        self, page: QueuedPage, result: Result | NotModified
    ) -> Visit | Postponed:
        match result:
            case NotModified():
                return await self._kept(page)
            case Fetched() if page.is_list:
                return await self._read_list(page, result)
            case Fetched():
                return await self._read(page, result)
            case Redirected(status, target) if page.redirects < MAX_REDIRECTS:
                return Visit(page, Outcome.SKIPPED, "redirect", status, redirect_to=target)
            case Redirected(status):
                return Visit(page, Outcome.FAILED, "too_many_redirects", status)
            case Skipped(reason, status):
                return Visit(page, Outcome.SKIPPED, reason, status)
            case Failed(status=status) if status in _NO_SUCH_PAGE and (page.is_list or page.known):
                return Visit(page, Outcome.SKIPPED, "no_list" if page.is_list else "gone", status)
            case Failed():
                return self._failed(page, result)

    async def _read_list(self, page: QueuedPage, fetched: Fetched) -> Visit:
        try:
            found = await self.parser.read_list(fetched.body, page.url)
        except ParsingFailedError as error:
            return Visit(page, Outcome.FAILED, error.reason, fetched.status)
        if found is None:
            return Visit(page, Outcome.SKIPPED, "no_list", fetched.status)
        beyond = {BEYOND: found.beyond} if found.beyond else {}
        return Visit(page, Outcome.SKIPPED, "list", fetched.status, listed=found.entries, skipped=beyond)

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
        found = replace(
            found,
            canonical=found.canonical or canonical_in_header(fetched.links, page.url),
            refresh=found.refresh or refresh_of(fetched.refresh, page.url, page.url),
        )
        rules = PageRules()
        if options.robots_tags:
            rules = page_rules(self._product, found.robots, fetched.robots_tags, datetime.now(UTC))
        if (target := elsewhere(page, found)) is not None:
            reason, url = target
            return Visit(page, Outcome.SKIPPED, reason, fetched.status, redirect_to=url)
        nofollow = frozenset(found.urls) if rules.nofollow else found.nofollow if options.robots_tags else frozenset()
        if rules.noindex:
            links = Links(found.urls, nofollow, found.beyond)
            return Visit(page, Outcome.SKIPPED, "noindex", fetched.status, links=links)
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
            language=parsed.language or language_tag(fetched.language),
            metadata=parsed.metadata,
            html=None if parsed.html is None else await asyncio.to_thread(zlib.compress, parsed.html.encode()),
            nofollow=tuple(nofollow),
            made_by=made_by(options),
            links_beyond=found.beyond,
        )
        return Visit(page, Outcome.COMPLETED, status_code=fetched.status, document=document)

    async def _parsed(self, page: QueuedPage, fetched: Fetched) -> Parsed:
        options = page.lane.options
        to_parse = ToParse(
            fetched.body, fetched.content_type, page.url, markdown=options.markdown, keep_html=options.keep_html
        )
        if not to_parse.is_light:
            return await self.parser.parse(to_parse)
        kept = read(to_parse) if to_parse.is_quick else await self._read_in_turn(to_parse)
        if not kept.main and not to_parse.keep_html:
            return finish(to_parse, kept)
        return await asyncio.get_running_loop().run_in_executor(self._finishing, finish, to_parse, kept)

    async def _read_in_turn(self, page: ToParse) -> Extracted:
        async with self._turn:
            await asyncio.sleep(0)  # many pages can be there at once: between two of them all else has its turn
            return read(page)


def made_by(options: CrawlOptions) -> str:
    """Name the rules by which content is made from a page."""
    return " ".join([str(_EXTRACTION), options.render, *(name for name in _MADE_BY if getattr(options, name))])


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
