"""The client library: `async with Tallyho(url) as client`, then crawl, watch, list and steer jobs."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Self, Unpack
from uuid import UUID, uuid4

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import Document, JobDocument, SavedDocumentList, StoredDocument
from tallyho_contracts.jobs import Job, JobList, JobState, JobStatus
from tallyho_contracts.logs import JobLog, JobLogTail
from tallyho_contracts.pages import Page, PageList, PageState
from tallyho_contracts.urls import JobLedger, UrlList

from tallyho.crawl_rules import CrawlRules, Limits, crawl_options
from tallyho.errors import CrawlUnsuccessful, NotAllowed, NotFound
from tallyho.frames import documents_in, state_in
from tallyho.gateway import Gateway, parsed
from tallyho.newest import newest_of


class Tallyho:
    """A gateway, as its clients see it. All errors are TallyhoErrors.

    `url` and `api_key` default to the environment's TALLYHO_URL and TALLYHO_API_KEY, the address then to port 8080 of
    this machine.

    Every call is repeated while the gateway is away or fails, which is safe: a creation carries an idempotency key, the
    others say how things should be. A gateway that has answered may be away for `patience` seconds, one that never did
    for `first_patience`; then GatewayUnreachable is raised.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        patience: float = 60,
        first_patience: float = 3,
    ) -> None:
        self._gateway = Gateway(url, api_key, patience=patience, first_patience=first_patience)

    async def __aenter__(self) -> Self:
        await self._gateway.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._gateway.close()

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return self._gateway.url

    async def crawl(
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

        `on_progress` is called with each state as it comes. With `check` a crawl that failed or was cancelled raises
        CrawlUnsuccessful. When the wait is cancelled, the crawl goes on.
        """
        last: JobState = await self.create_job(seeds, name=name, idempotency_key=idempotency_key, **rules)
        async with aclosing(self.watch(last.job_id)) as states:
            async for last in states:
                if on_progress is not None:
                    on_progress(last)
        if check and last.status is not JobStatus.COMPLETED:
            raise CrawlUnsuccessful(last)
        return last

    async def create_job(
        self,
        seeds: str | Sequence[str],
        *,
        options: CrawlOptions | None = None,
        name: str = "",
        idempotency_key: str | None = None,
        **rules: Unpack[CrawlRules],
    ) -> Job:
        """Submit a crawl. The same idempotency key and request give the same job, however often they are sent."""
        asked: dict[str, Any] = {"seeds": [seeds] if isinstance(seeds, str) else list(seeds), "name": name}
        chosen = {} if options is None else options.model_dump(mode="json", exclude_unset=True)
        chosen |= crawl_options(rules).model_dump(mode="json", exclude_unset=True)
        if chosen:
            asked["options"] = chosen
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return await self._gateway.ask(Job, "POST", "jobs", json=asked, headers=headers)

    async def job(self, job_id: UUID | str) -> Job:
        """The job as it is now."""
        return await self._gateway.ask(Job, "GET", f"jobs/{job_id}")

    async def jobs(self, *, live: bool = False) -> AsyncGenerator[JobState, None]:
        """All jobs, the newest first; with `live` only those that are not terminal."""
        query = {"limit": "200", "live": str(live).lower()}
        while True:
            found = await self._gateway.ask(JobList, "GET", "jobs", params=query)
            for state in found.jobs:
                yield state
            if found.next is None:
                return
            query["before"] = str(found.next)

    async def cancel(self, job_id: UUID | str) -> Job:
        """Stop the job; its documents stay."""
        return await self._gateway.ask(Job, "POST", f"jobs/{job_id}/cancel")

    async def pause(self, job_id: UUID | str) -> Job:
        """Fetch no more pages of the job until it is resumed."""
        return await self._gateway.ask(Job, "POST", f"jobs/{job_id}/pause")

    async def resume(self, job_id: UUID | str) -> Job:
        """Go on with a paused job."""
        return await self._gateway.ask(Job, "POST", f"jobs/{job_id}/resume")

    async def change(self, job_id: UUID | str, **limits: Unpack[Limits]) -> Job:
        """Give a live job another `max_pages`, `max_failures` or `delay`; None for no limit. The others stay."""
        return await self._gateway.ask(Job, "PATCH", f"jobs/{job_id}", json=dict(limits))

    async def retry(self, job_id: UUID | str, *, idempotency_key: str | None = None) -> Job:
        """Create a job that visits the failed pages of one that has ended, and goes on from there."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return await self._gateway.ask(Job, "POST", f"jobs/{job_id}/retry", headers=headers)

    async def delete(self, job_id: UUID | str) -> Job:
        """Delete a job that has ended, with the documents that no other job has; returns it as it was."""
        seen: Job | None = None
        with suppress(NotAllowed):  # a key may be good for writing alone
            seen = await self.job(job_id)
        try:
            return await self._gateway.ask(Job, "DELETE", f"jobs/{job_id}")
        except NotFound:
            if seen is None:
                raise
            return seen  # an attempt before has deleted it, and its answer was lost

    async def pages(self, job_id: UUID | str, *, state: PageState | None = None) -> AsyncGenerator[Page, None]:
        """The job's pages, in the order of their ids; with `state` only those in that state."""
        query = {"limit": "1000"} | ({"state": state.value} if state else {})
        while True:
            found = await self._gateway.ask(PageList, "GET", f"jobs/{job_id}/pages", params=query)
            for page in found.pages:
                yield page
            if found.next is None:
                return
            query["after"] = str(found.next)

    async def ledger(self, job_id: UUID | str) -> JobLedger:
        """Every URL that the job met, counted by state and reason; at the job's end they add up to `urls_met`."""
        return await self._gateway.ask(JobLedger, "GET", f"jobs/{job_id}/ledger")

    async def urls(
        self, job_id: UUID | str, *, state: PageState | None = None, reason: str | None = None
    ) -> AsyncGenerator[Page, None]:
        """Every URL that the job met: its pages, then those that are none; with `state` and `reason` only such."""
        query = {"limit": "1000"} | ({"state": state.value} if state else {}) | ({"reason": reason} if reason else {})
        while True:
            found = await self._gateway.ask(UrlList, "GET", f"jobs/{job_id}/urls", params=query)
            for url in found.urls:
                yield url
            if found.next is None:
                return
            query["after"] = found.next

    async def log(self, job_id: UUID | str, *, limit: int = 200) -> list[JobLog]:
        """The newest lines of the job's log, the oldest of them first; the gateway keeps some, also of an ended job."""
        params = {"limit": str(limit)}
        return list((await self._gateway.ask(JobLogTail, "GET", f"jobs/{job_id}/log", params=params)).lines)

    async def document(self, document_id: UUID | str) -> StoredDocument:
        """A document with its text, as it was last saved by whichever job."""
        return await self._gateway.ask(StoredDocument, "GET", f"documents/{document_id}")

    async def html(self, document_id: UUID | str) -> str:
        """The source of a document's page, as it was last saved; NotFound where it was not kept (`keep_html`)."""
        return (await self._gateway.read("GET", f"documents/{document_id}", params={"format": "html"})).decode()

    async def saved_documents(self, job_id: UUID | str) -> AsyncGenerator[UUID, None]:
        """The ids of the documents that the crawler saved for the job, in their order."""
        query = {"limit": "1000"}
        while True:
            path = f"jobs/{job_id}/saved-documents"
            found = await self._gateway.ask(SavedDocumentList, "GET", path, params=query)
            for document_id in found.document_ids:
                yield document_id
            if found.next is None:
                return
            query["after"] = str(found.next)

    async def documents(
        self, job_id: UUID | str, *, after: int = 0, live: bool = False
    ) -> AsyncGenerator[Document, None]:
        """The job's documents above the ordinal `after`, in order; a stream that breaks goes on where it stopped.

        With `live` it follows a job that is still at work, and ends with the job's last document.
        """
        source = self._documents_as_they_come if live else self._documents_by_now
        async with aclosing(source(_as_told(job_id), after)) as documents:
            async for document in documents:
                yield document

    async def contents(
        self, job_id: UUID | str, *, after: int = 0, html: bool = False
    ) -> AsyncGenerator[JobDocument, None]:
        """The documents that the job has by now with their texts and links, above the ordinal `after`, in order.

        With `html` also the sources of their pages, where kept. A stream that breaks goes on where it stopped.
        """

        def connect() -> AsyncGenerator[bytes, None]:
            query = {"after": str(after)} | ({"html": "true"} if html else {})
            return self._gateway.lines(f"jobs/{job_id}/contents", query)

        async with aclosing(self._gateway.lasting(connect)) as lines:
            async for line in lines:
                found = parsed(JobDocument, line)
                if found.document.ordinal > after:
                    after = found.document.ordinal
                    yield found

    async def watch(self, job_id: UUID | str, *, revision: int | None = None) -> AsyncGenerator[JobState, None]:
        """The states of a job as they come, each newer than the one before, until its terminal state.

        Starts with the present state, or with the first after `revision`. A lost connection is made again, and the
        watch goes on from the last state. Who takes his time between two states gets the newest then.
        """
        if revision is not None:
            job = await self.job(job_id)
            if job.status.is_terminal and job.revision <= revision:
                return  # nothing will ever be newer
        async with aclosing(newest_of(self._newer_states(_as_told(job_id), revision))) as states:
            async for state in states:
                yield state

    async def _newer_states(self, job_id: str, revision: int | None) -> AsyncGenerator[JobState, None]:
        def connect() -> AsyncGenerator[Any, None]:
            known = {} if revision is None else {"revision": revision}
            return self._gateway.frames({"job_id": job_id} | known)

        async with aclosing(self._gateway.lasting(connect)) as frames:
            async for frame in frames:
                state = state_in(frame, job_id)
                if state is None or (revision is not None and state.revision <= revision):
                    continue
                revision = state.revision
                yield state
                if state.status.is_terminal:
                    return

    async def _documents_by_now(self, job_id: str, after: int) -> AsyncGenerator[Document, None]:
        def connect() -> AsyncGenerator[bytes, None]:
            return self._gateway.lines(f"jobs/{job_id}/documents", {"after": str(after)})

        async with aclosing(self._gateway.lasting(connect)) as lines:
            async for line in lines:
                document = parsed(Document, line)
                if document.ordinal > after:
                    after = document.ordinal
                    yield document

    async def _documents_as_they_come(self, job_id: str, after: int) -> AsyncGenerator[Document, None]:
        final: int | None = None  # how many there are, once the job has ended

        def connect() -> AsyncGenerator[Document | JobState | None, None]:
            return self._news(job_id, after)

        async with aclosing(self._gateway.lasting(connect)) as news:
            async for item in news:
                if isinstance(item, Document):
                    after = item.ordinal
                    yield item
                elif item is not None and item.status.is_terminal:
                    final = item.document_count
                if final is not None and after >= final:
                    return

    async def _news(self, job_id: str, after: int) -> AsyncGenerator[Document | JobState | None, None]:
        """The next documents of a job and its states; None for what only shows that the gateway is there."""
        documents = {"job_id": job_id, "stream": "document_saved", "ordinal": after}
        async with aclosing(self._gateway.frames({"job_id": job_id}, documents)) as frames:
            async for frame in frames:
                for document in documents_in(frame, job_id, after):
                    after = document.ordinal
                    yield document
                yield state_in(frame, job_id)


def _as_told(job_id: UUID | str) -> str:
    """The id as the gateway spells it in what it tells of the job; what is none, the gateway is to refuse."""
    try:
        return str(UUID(str(job_id)))
    except ValueError:
        return str(job_id)
