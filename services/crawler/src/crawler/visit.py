"""A visit to one page: ask its robots.txt, fetch it, extract it. Ends as a `Visit`, or `Postponed`."""

import asyncio
import random
from dataclasses import dataclass, field

from tallyho_contracts.pages import Outcome

from crawler.extract import extract, to_markdown
from crawler.fetch import Failed, Fetched, Fetcher, Redirected, Result, Skipped
from crawler.frontier import MAX_REDIRECTS, DocumentContent, Postponed, QueuedPage, Visit
from crawler.halts import Halts
from crawler.politeness import OriginUnreachableError, Politeness
from crawler.retry import next_attempt

# Larger bodies are parsed in a thread: the loop must go on answering.
PARSE_INLINE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Visitor:
    """What a visit needs."""

    fetcher: Fetcher
    politeness: Politeness
    max_attempts: int
    halts: Halts = field(default_factory=Halts)

    async def visit(self, page: QueuedPage) -> Visit | Postponed | None:
        """Visit a page; None when its origin's turn is too far off, and the page stays as it is."""
        try:
            robots = await self.politeness.robots(page.lane.origin)
        except OriginUnreachableError as error:
            return self._failed(page, error.failed)
        if not robots.allows(page.url):
            return Visit(page, Outcome.SKIPPED, "robots")
        # It can take a while until it is this page's turn.
        if not await self.politeness.turn(page.lane, robots) or page.lane.job_id in self.halts:
            return None
        return await self._ended(page, await self.fetcher.fetch(page.url))

    async def _ended(self, page: QueuedPage, result: Result) -> Visit | Postponed:
        match result:
            case Fetched():
                document = await self._document(page, result)
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
        keep_html = page.lane.options.markdown
        arguments = fetched.body, fetched.content_type, page.url
        if len(fetched.body) > PARSE_INLINE_BYTES:
            extracted = await asyncio.to_thread(extract, *arguments, keep_html=keep_html)
        else:
            extracted = extract(*arguments, keep_html=keep_html)
        content = extracted.text
        if extracted.html:
            content = await asyncio.to_thread(to_markdown, extracted.html, url=page.url, otherwise=content)
        return DocumentContent(
            title=extracted.title,
            content=content,
            links=tuple(extracted.links),
            content_hash=extracted.content_hash,
            status_code=fetched.status,
            content_type=fetched.content_type.replace("\0", ""),
            etag=fetched.etag,
            last_modified=fetched.last_modified,
        )
