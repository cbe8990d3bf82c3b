"""The client library: `async with Tallyho(url) as client`, then create, watch, list and steer jobs."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

import aiohttp
from pydantic import BaseModel, ValidationError
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import Document, SavedDocumentList
from tallyho_contracts.jobs import Job, JobList, JobState
from tallyho_contracts.pages import Page, PageList, PageState

from tallyho.errors import NotAGateway, refused_with
from tallyho.outage import GatewayAway, Outage
from tallyho.subscription import subscribed_states

DEFAULT_URL = "http://127.0.0.1:8080"
ModelT = TypeVar("ModelT", bound=BaseModel)

# What a gateway, or a proxy before it, answers while it or what it needs restarts.
AWAY = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
BROKEN = (aiohttp.ClientError, ConnectionError, TimeoutError)


class Tallyho:
    """A gateway, as its clients see it. All errors are TallyhoErrors.

    Every call is repeated while the gateway is away, which is safe: a creation carries an idempotency key, the others
    say how things should be. A gateway that has answered may be away for `patience` seconds, one that never did for
    `first_patience`; then GatewayUnreachable is raised.
    """

    def __init__(self, url: str = DEFAULT_URL, *, patience: float = 60, first_patience: float = 3) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self._first_patience = first_patience
        self._reached = False
        self._opened: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30)
        self._opened = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            raise RuntimeError("use `async with Tallyho(url) as client`")
        return self._opened

    async def create_job(
        self,
        seeds: Sequence[str],
        *,
        options: CrawlOptions | None = None,
        name: str = "",
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a crawl. The same idempotency key and request give the same job, however often they are sent."""
        asked: dict[str, Any] = {"seeds": list(seeds), "name": name}
        if options is not None:
            asked["options"] = options.model_dump(mode="json", exclude_unset=True)
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        return await self._request(Job, "POST", "jobs", json=asked, headers=headers)

    async def job(self, job_id: UUID | str) -> Job:
        """The job as it is now."""
        return await self._request(Job, "GET", f"jobs/{job_id}")

    async def jobs(self, *, live: bool = False) -> AsyncIterator[JobState]:
        """All jobs, the newest first; with `live` only those that are not terminal."""
        query = {"limit": "200", "live": str(live).lower()}
        while True:
            found = await self._request(JobList, "GET", "jobs", params=query)
            for state in found.jobs:
                yield state
            if found.next is None:
                return
            query["before"] = str(found.next)

    async def cancel(self, job_id: UUID | str) -> Job:
        """Stop the job; its documents stay."""
        return await self._request(Job, "POST", f"jobs/{job_id}/cancel")

    async def pause(self, job_id: UUID | str) -> Job:
        """Fetch no more pages of the job until it is resumed."""
        return await self._request(Job, "POST", f"jobs/{job_id}/pause")

    async def resume(self, job_id: UUID | str) -> Job:
        """Go on with a paused job."""
        return await self._request(Job, "POST", f"jobs/{job_id}/resume")

    async def pages(self, job_id: UUID | str, *, state: PageState | None = None) -> AsyncIterator[Page]:
        """The job's pages, in the order of their ids; with `state` only those in that state."""
        query = {"limit": "1000"} | ({"state": state.value} if state else {})
        while True:
            found = await self._request(PageList, "GET", f"jobs/{job_id}/pages", params=query)
            for page in found.pages:
                yield page
            if found.next is None:
                return
            query["after"] = str(found.next)

    async def saved_documents(self, job_id: UUID | str) -> AsyncIterator[UUID]:
        """The ids of the documents that the crawler saved for the job, in their order."""
        query = {"limit": "1000"}
        while True:
            found = await self._request(SavedDocumentList, "GET", f"jobs/{job_id}/saved-documents", params=query)
            for document_id in found.document_ids:
                yield document_id
            if found.next is None:
                return
            query["after"] = str(found.next)

    async def documents(self, job_id: UUID | str, *, after: int = 0) -> AsyncGenerator[Document, None]:
        """The job's documents above the ordinal `after`, in order; a stream that breaks goes on where it stopped."""
        outage = Outage(self.url)
        while True:
            try:
                async with aclosing(self._documents_stream(job_id, after)) as documents:
                    async for document in documents:
                        outage.over()
                        if document.ordinal > after:
                            after = document.ordinal
                            yield document
                    return
            except BROKEN as error:
                await self._wait(outage, error)

    async def watch(self, job_id: UUID | str, *, revision: int | None = None) -> AsyncGenerator[JobState, None]:
        """The states of a job as they come, each newer than the one before, until its terminal state.

        Starts with the present state, or with the first after `revision`. A lost connection is made again, and the
        watch goes on from the last state.
        """
        if revision is not None:
            job = await self.job(job_id)
            if job.status.is_terminal and job.revision <= revision:
                return  # nothing will ever be newer
        outage = Outage(self.url)
        while True:
            try:
                async with aclosing(self._states(job_id, revision)) as states:
                    async for state in states:
                        outage.over()
                        if state is None or (revision is not None and state.revision <= revision):
                            continue
                        revision = state.revision
                        yield state
                        if state.status.is_terminal:
                            return
            except BROKEN as error:
                await self._wait(outage, error)

    async def _states(self, job_id: UUID | str, revision: int | None) -> AsyncGenerator[JobState | None, None]:
        url = f"{self.url}/v1/ws"
        async with aclosing(subscribed_states(self._session, url, str(job_id), revision)) as states:
            async for state in states:
                self._reached = True
                yield state

    async def _documents_stream(self, job_id: UUID | str, after: int) -> AsyncGenerator[Document, None]:
        request = self._session.get(
            f"{self.url}/v1/jobs/{job_id}/documents",
            params={"after": str(after)},
            headers={"Accept": "application/jsonl"},
        )
        async with request as response:
            self._check(response.status, b"" if response.ok else await response.read())
            async for line in response.content:
                yield _parsed(Document, line)

    async def _request(self, model: type[ModelT], method: str, path: str, **request: Any) -> ModelT:
        outage = Outage(self.url)
        while True:
            try:
                async with self._session.request(method, f"{self.url}/v1/{path}", **request) as response:
                    body = await response.read()
                    self._check(response.status, body)
                    return _parsed(model, body)
            except BROKEN as error:
                await self._wait(outage, error)

    def _check(self, status: int, body: bytes) -> None:
        self._reached = True
        if status >= HTTPStatus.BAD_REQUEST:
            error = refused_with(status, body)
            raise GatewayAway(f"{status}: {error}") if status in AWAY else error

    async def _wait(self, outage: Outage, error: Exception) -> None:
        """Wait before the next attempt, or raise: what is not HTTP, or no WebSocket, will not become one."""
        if isinstance(error, aiohttp.ClientResponseError) and error.status not in AWAY:
            raise NotAGateway(f"no gateway answers at {self.url}: {error.status} {error.message}") from error
        self._reached = self._reached or isinstance(error, GatewayAway | aiohttp.ClientResponseError)
        await outage.wait(error, patience=self._patience if self._reached else self._first_patience)


def _parsed(model: type[ModelT], body: bytes) -> ModelT:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise NotAGateway("an answer came that is not a gateway's") from error
