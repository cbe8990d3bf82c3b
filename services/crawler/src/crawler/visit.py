"""A visit to one page: ask its robots.txt, fetch it, extract it. Ends as a `Visit`, or `Postponed`."""

import asyncio
import random
import zlib
from dataclasses import dataclass

from tallyho_contracts.pages import Outcome

from crawler.fetch import Failed, Fetched, Fetcher, Redirected, Result, Skipped
from crawler.frontier import MAX_REDIRECTS, DocumentContent, Postponed, QueuedPage, Visit
from crawler.isolation import IsolatedParser, ParsingFailedError
from crawler.parsing import Parsed, ToParse, finish, read
from crawler.politeness import OriginUnreachableError, Politeness
from crawler.retry import next_attempt


@dataclass(frozen=True)
class Visitor:
    """What a visit needs."""

    fetcher: Fetcher
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
                try:
                    document = await self._document(page, result)
                except ParsingFailedError as error:
                    return Visit(page, Outcome.FAILED, error.reason, result.status)
                return Visit(page, Outcome.COMPLETED, status_code=result.status, document=document)
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

    async def _document(self, page: QueuedPage, fetched: Fetched) -> DocumentContent:
        options = page.lane.options
        to_parse = ToParse(
            fetched.body, fetched.content_type, page.url, markdown=options.markdown, keep_html=options.keep_html
        )
        parsed = await self._parsed(to_parse)
        return DocumentContent(
            title=parsed.title,
            content=parsed.content,
            links=tuple(parsed.links),
            content_hash=parsed.content_hash,
            status_code=fetched.status,
            content_type=fetched.content_type.replace("\0", ""),
            etag=fetched.etag,
            last_modified=fetched.last_modified,
            description=parsed.description,
            language=parsed.language,
            metadata=parsed.metadata,
            html=None if parsed.html is None else await asyncio.to_thread(zlib.compress, parsed.html.encode()),
        )

    async def _parsed(self, page: ToParse) -> Parsed:
        if not page.is_light:
            return await self.parser.parse(page)
        kept = read(page)
        if not kept.main and not page.keep_html:
            return finish(page, kept)
        return await asyncio.to_thread(finish, page, kept)
