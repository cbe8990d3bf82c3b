"""The client library for programs without async: the same calls, which block."""

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import closing
from typing import Any, Self, TypeVar, Unpack
from uuid import UUID

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import Document, JobDocument, StoredDocument
from tallyho_contracts.jobs import Job, JobState, JobStatus
from tallyho_contracts.logs import JobLog
from tallyho_contracts.pages import Page, PageState
from tallyho_contracts.urls import JobLedger

from tallyho.client import Tallyho
from tallyho.crawl_rules import CrawlRules, Limits
from tallyho.errors import CrawlUnsuccessful

T = TypeVar("T")


class SyncTallyho:
    """A gateway, as its clients see it: `Tallyho`, with calls that block and plain generators.

    It works on an event loop of its own, in a thread of its own; any thread may call it. `close` it, or use it in a
    `with` block: whatever still waits then, raises RuntimeError.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        patience: float = 60,
        first_patience: float = 3,
    ) -> None:
        self._client = Tallyho(url, api_key=api_key, patience=patience, first_patience=first_patience)
        self._loop = asyncio.new_event_loop()
        self._submitting = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="tallyho", daemon=True)
        self._thread.start()
        self._run(self._client.__aenter__())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections and the thread; a second time it does nothing."""
        with self._submitting:
            if not self._closed and self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._closed = True
        self._thread.join()

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return self._client.url

    def crawl(
        self,
        seeds: str | Sequence[str],
        *,
        name: str = "",
        idempotency_key: str | None = None,
        check: bool = False,
        on_progress: Callable[[JobState], object] | None = None,
        **rules: Unpack[CrawlRules],
    ) -> JobState:
        """Crawl from one URL or several and wait to the end; the last state.

        `on_progress` is called with each state as it comes, in the thread that called. With `check` a crawl that
        failed or was cancelled raises CrawlUnsuccessful. When the wait is interrupted, the crawl goes on.
        """
        last: JobState = self.create_job(seeds, name=name, idempotency_key=idempotency_key, **rules)
        with closing(self.watch(last.job_id)) as states:
            for last in states:
                if on_progress is not None:
                    on_progress(last)
        if check and last.status is not JobStatus.COMPLETED:
            raise CrawlUnsuccessful(last)
        return last

    def create_job(
        self,
        seeds: str | Sequence[str],
        *,
        options: CrawlOptions | None = None,
        name: str = "",
        idempotency_key: str | None = None,
        **rules: Unpack[CrawlRules],
    ) -> Job:
        """Submit a crawl. The same idempotency key and request give the same job, however often they are sent."""
        return self._run(
            self._client.create_job(seeds, options=options, name=name, idempotency_key=idempotency_key, **rules)
        )

    def job(self, job_id: UUID | str) -> Job:
        """The job as it is now."""
        return self._run(self._client.job(job_id))

    def jobs(self, *, live: bool = False) -> Generator[JobState, None, None]:
        """All jobs, the newest first; with `live` only those that are not terminal."""
        return self._each(self._client.jobs(live=live))

    def cancel(self, job_id: UUID | str) -> Job:
        """Stop the job; its documents stay."""
        return self._run(self._client.cancel(job_id))

    def pause(self, job_id: UUID | str) -> Job:
        """Fetch no more pages of the job until it is resumed."""
        return self._run(self._client.pause(job_id))

    def resume(self, job_id: UUID | str) -> Job:
        """Go on with a paused job."""
        return self._run(self._client.resume(job_id))

    def change(self, job_id: UUID | str, **limits: Unpack[Limits]) -> Job:
        """Give a live job another `max_pages`, `max_failures` or `delay`; None for no limit. The others stay."""
        return self._run(self._client.change(job_id, **limits))

    def retry(self, job_id: UUID | str, *, idempotency_key: str | None = None) -> Job:
        """Create a job that visits the failed pages of one that has ended, and goes on from there."""
        return self._run(self._client.retry(job_id, idempotency_key=idempotency_key))

    def delete(self, job_id: UUID | str) -> Job:
        """Delete a job that has ended, with the documents that no other job has; returns it as it was."""
        return self._run(self._client.delete(job_id))

    def pages(self, job_id: UUID | str, *, state: PageState | None = None) -> Generator[Page, None, None]:
        """The job's pages, in the order of their ids; with `state` only those in that state."""
        return self._each(self._client.pages(job_id, state=state))

    def ledger(self, job_id: UUID | str) -> JobLedger:
        """Every URL that the job met, counted by state and reason; at the job's end they add up to `urls_met`."""
        return self._run(self._client.ledger(job_id))

    def urls(
        self, job_id: UUID | str, *, state: PageState | None = None, reason: str | None = None
    ) -> Generator[Page, None, None]:
        """Every URL that the job met: its pages, then those that are none; with `state` and `reason` only such."""
        return self._each(self._client.urls(job_id, state=state, reason=reason))

    def log(self, job_id: UUID | str, *, limit: int = 200) -> list[JobLog]:
        """The newest lines of the job's log, the oldest of them first; the gateway keeps some, also of an ended job."""
        return self._run(self._client.log(job_id, limit=limit))

    def document(self, document_id: UUID | str) -> StoredDocument:
        """A document with its text, as it was last saved by whichever job."""
        return self._run(self._client.document(document_id))

    def html(self, document_id: UUID | str) -> str:
        """The source of a document's page, as it was last saved; NotFound where it was not kept (`keep_html`)."""
        return self._run(self._client.html(document_id))

    def saved_documents(self, job_id: UUID | str) -> Generator[UUID, None, None]:
        """The ids of the documents that the crawler saved for the job, in their order."""
        return self._each(self._client.saved_documents(job_id))

    def documents(self, job_id: UUID | str, *, after: int = 0, live: bool = False) -> Generator[Document, None, None]:
        """The job's documents above the ordinal `after`, in order; a stream that breaks goes on where it stopped.

        With `live` it follows a job that is still at work, and ends with the job's last document.
        """
        return self._each(self._client.documents(job_id, after=after, live=live))

    def contents(self, job_id: UUID | str, *, after: int = 0, html: bool = False) -> Generator[JobDocument, None, None]:
        """The documents that the job has by now with their texts and links, above the ordinal `after`, in order.

        With `html` also the sources of their pages, where kept. A stream that breaks goes on where it stopped.
        """
        return self._each(self._client.contents(job_id, after=after, html=html))

    def watch(self, job_id: UUID | str, *, revision: int | None = None) -> Generator[JobState, None, None]:
        """The states of a job as they come, each newer than the one before, until its terminal state.

        Starts with the present state, or with the first after `revision`. A lost connection is made again, and the
        watch goes on from the last state. Who takes his time between two states gets the newest then.
        """
        return self._each(self._client.watch(job_id, revision=revision))

    def _each(self, items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """What comes from a generator of the loop's thread, one at a time as it is asked for."""
        turn = asyncio.Lock()  # one that was interrupted must have ended before the generator can be closed

        async def following() -> tuple[T, ...]:
            async with turn:
                try:
                    return (await anext(items),)
                except StopAsyncIteration:
                    return ()

        async def close() -> None:
            async with turn:
                await items.aclose()

        try:
            while found := self._run(following()):
                yield found[0]
        finally:
            if not self._closed:
                self._run(close())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this in the loop's thread, and wait for it here."""
        with self._submitting:
            # A thread does not survive a fork: the child process would wait for ever.
            if self._closed or not self._thread.is_alive():
                work.close()
                raise RuntimeError("this client is closed, or belongs to the process that this one was forked from")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise RuntimeError("the client was closed while this call waited") from None
        finally:
            future.cancel()  # when the wait was interrupted

    def _work(self) -> None:
        """Be the loop's thread: run until told to stop, then cancel what still waits and end the session."""
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        while waiting := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
        await self._loop.shutdown_asyncgens()
        await self._client.__aexit__()
