"""The gateway on a real port of this process, with a tracker of a few lines behind its request port."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from aiohttp import ClientWebSocketResponse
from aiohttp.test_utils import TestClient, TestServer
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import (
    Document,
    DocumentGet,
    DocumentList,
    DocumentsGet,
    DocumentsQuery,
    SavedDocumentList,
    SavedDocumentsQuery,
    StoredDocument,
    StoredDocuments,
)
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import (
    Job,
    JobCancel,
    JobChange,
    JobCreate,
    JobCreated,
    JobDelete,
    JobGet,
    JobList,
    JobRetry,
    JobsQuery,
    JobState,
    JobStatus,
    JobSummary,
    JobSummaryQuery,
)
from tallyho_contracts.logs import JobLog, JobLogQuery, JobLogTail
from tallyho_contracts.pages import Page, PageList, PagesQuery, PageState
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_contracts.urls import SkippedUrlList, SkippedUrlsQuery, UrlsByReason, UrlsCount, UrlsCounted
from tallyho_messaging.requests import RequestRefused, RequestTimedOut
from ws_gateway import sockets
from ws_gateway.app import Options, Readiness, build_app
from ws_gateway.connection import Connection
from ws_gateway.hub import Hub
from ws_gateway.logs import LogBook
from ws_gateway.sockets import CONNECTIONS

NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)

StateFactory = Callable[..., JobState]
Frame = dict[str, Any]


def make_state(job: int | UUID, revision: int = 1, status: str = "running", documents: int = 0) -> JobState:
    ended = JobStatus(status).is_terminal
    return JobState(
        job_id=job if isinstance(job, UUID) else UUID(int=job),
        revision=revision,
        status=JobStatus(status),
        progress_text=f"0 pending, 0 running, {documents} completed, 0 failed",
        timestamp=NOON,
        total_children=documents,
        pending_children=0,
        running_children=0,
        completed_children=documents,
        failed_children=0,
        skipped_children=0,
        cancelled_children=0,
        document_count=documents,
        documents_per_second=0,
        created_at=NOON,
        started_at=NOON,
        finished_at=NOON if ended else None,
    )


def make_job(state: JobState) -> Job:
    return Job(**state.model_dump(), seeds=("https://example.com/",), options=CrawlOptions())


def make_stored(
    document_id: UUID, url: str = "https://example.com/", content: str = "# Title", html: str | None = None
) -> StoredDocument:
    return StoredDocument(
        document_id=document_id,
        url=url,
        title="Title",
        content=content,
        html=html,
        links=("https://example.com/next",),
        content_hash="0",
        status_code=200,
        content_type="text/html",
        created_at=NOON,
        saved_at=NOON,
    )


class FakeTracker:
    """Answers requests as the job tracker and the crawler do.

    `away` makes it silent, or is how it refuses everything; `before_reply` runs before each answer, `batch` is how much
    it gives at once.
    """

    def __init__(self) -> None:
        self.jobs: dict[UUID, Job] = {}
        self.keys: dict[str, JobCreate] = {}
        self.documents: list[Document] = []
        self.saved: list[UUID] = []
        self.stored: dict[UUID, StoredDocument] = {}
        self.pages: list[Page] = []
        self.skipped: list[Page] = []
        self.lines: list[JobLog] = []
        self.summary = JobSummary(pages=(), documents=())
        self.batch = 1000
        self.asked: list[Message] = []
        self.away: bool | RequestRefused = False
        self.before_reply: Callable[[], Awaitable[None] | None] = lambda: None

    async def ask(self, message: Message) -> Any:
        self.asked.append(message)
        if self.away:
            raise self.away if isinstance(self.away, RequestRefused) else RequestTimedOut("no answer")
        if waiting := self.before_reply():
            await waiting
        match message:
            case JobCreate():
                return self._create(message)
            case JobsQuery():
                return JobList(
                    jobs=tuple(JobState(**job.model_dump()) for job in self.jobs.values() if _wanted(job, message))
                )
            case DocumentsQuery():
                self._known(message.job_id)
                found = [one for one in self.documents if one.ordinal > message.after][: message.limit]
                more = bool(found) and found[-1].ordinal < len(self.documents)
                return DocumentList(documents=tuple(found), next=found[-1].ordinal if more else None)
            case JobChange():
                return self._known(message.job_id)
            case JobRetry():
                old = self._known(message.retry_of)
                create = JobCreate(job_id=message.job_id, idempotency_key=message.idempotency_key, seeds=old.seeds)
                return self._create(create)
            case JobCancel() | JobGet():
                return self._known(message.job_id)
            case JobDelete():
                self._known(message.job_id)
                return self.jobs.pop(message.job_id)
            case JobSummaryQuery():
                self._known(message.job_id)
                return self.summary
            case JobLogQuery():
                self._known(message.job_id)
                return JobLogTail(lines=tuple(self.lines[-message.limit :]))
            case PagesQuery():
                self._known(message.job_id)
                found_pages = [one for one in self.pages if _is_asked_for(one, message)]
                more_pages = len(found_pages) > min(self.batch, message.limit)
                found_pages = found_pages[: min(self.batch, message.limit)]
                return PageList(pages=tuple(found_pages), next=found_pages[-1].page_id if more_pages else None)
            case UrlsCount():
                reasons = Counter(one.reason or "" for one in self.skipped)
                rows = [
                    UrlsByReason(state=PageState.SKIPPED, reason=name, urls=n, is_page=False)
                    for name, n in reasons.items()
                ]
                return UrlsCounted(urls_met=len(self.pages) + len(self.skipped), beyond=12, skipped=tuple(rows))
            case SkippedUrlsQuery():
                after = message.after_reason, message.after
                found_urls = [one for one in self.skipped if message.reason in (None, one.reason)]
                found_urls = [one for one in found_urls if None in after or (one.reason, one.page_id) > after]
                found_urls = found_urls[: message.limit]
                return SkippedUrlList(urls=tuple(found_urls), has_more=len(found_urls) == message.limit)
            case SavedDocumentsQuery():
                found_ids = [one for one in self.saved if message.after is None or one > message.after]
                more_ids = len(found_ids) > message.limit
                found_ids = found_ids[: message.limit]
                return SavedDocumentList(document_ids=tuple(found_ids), next=found_ids[-1] if more_ids else None)
            case DocumentGet():
                if message.document_id not in self.stored:
                    raise RequestRefused(Refused(code=ErrorCode.NOT_FOUND, message="no such document"))
                return self.stored[message.document_id]
            case DocumentsGet():
                asked = message.document_ids[: self.batch]
                kept = tuple(self.stored[one] for one in asked if one in self.stored)
                return StoredDocuments(documents=kept, answered=len(asked))
            case _:
                raise AssertionError(message)

    def add(self, state: JobState) -> JobState:
        self.jobs[state.job_id] = make_job(state)
        return state

    def _known(self, job_id: UUID) -> Job:
        if job_id not in self.jobs:
            raise RequestRefused(Refused(code=ErrorCode.NOT_FOUND, message=f"no job {job_id}", field="job_id"))
        return self.jobs[job_id]

    def _create(self, message: JobCreate) -> JobCreated:
        key = message.idempotency_key
        if key and key in self.keys:
            first = self.keys[key]
            if first.model_dump(exclude={"job_id"}) != message.model_dump(exclude={"job_id"}):
                raise RequestRefused(Refused(code=ErrorCode.CONFLICT, message="another request used this key"))
            return JobCreated(job=self.jobs[first.job_id], created=False)
        job = make_job(make_state(message.job_id, status="pending"))
        job = self.jobs[message.job_id] = job.model_copy(
            update={"seeds": message.seeds, "name": message.name, "options": message.options}
        )
        if key:
            self.keys[key] = message
        return JobCreated(job=job, created=True)


def _is_asked_for(page: Page, query: PagesQuery) -> bool:
    is_of_kind = query.state in (None, page.state) and query.reason in (None, page.reason)
    return is_of_kind and (query.after is None or page.page_id > query.after)


def _wanted(job: Job, query: JobsQuery) -> bool:
    return not (query.live and job.status.is_terminal)


class Watcher:
    """A WebSocket client that keeps what it receives."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, type_: str, **payload: Any) -> None:
        await self.socket.send_json({"type": type_, "payload": payload})

    async def next(self) -> Frame:
        frame: Frame = await self.socket.receive_json(timeout=30)
        return frame

    async def answer_to(self, type_: str, **payload: Any) -> Frame:
        await self.send(type_, **payload)
        return await self.next()

    async def states_until(self, job_id: UUID, revision: int) -> list[Frame]:
        """The payloads up to this one of this job."""
        payloads = []
        while True:
            frame = await self.next()
            assert frame["type"] == "parent_job_progress"
            payloads.append(frame["payload"])
            if payloads[-1]["job_id"] == str(job_id) and payloads[-1]["revision"] >= revision:
                return payloads


class Gateway:
    """The application under test: feed `hub`, look at what comes out over HTTP."""

    def __init__(
        self, http: TestClient[Any, Any], hub: Hub, tracker: FakeTracker, readiness: Readiness, logs: LogBook
    ) -> None:
        self.http = http
        self.logs = logs
        self.hub = hub
        self.tracker = tracker
        self.readiness = readiness

    @property
    def connections(self) -> set[Connection]:
        return self.http.app[CONNECTIONS]  # type: ignore[index]

    async def watch(self, path: str = "/ws", **headers: str) -> Watcher:
        return Watcher(await self.http.ws_connect(path, headers=headers))


@pytest.fixture
def state() -> StateFactory:
    return make_state


GatewayFactory = Callable[..., Awaitable[Gateway]]


@pytest.fixture
def no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is taken for a client that stays silent before it has subscribed, however slow the machine is."""
    monkeypatch.setattr(sockets, "SILENCE_SECONDS", 3600.0)


@pytest.fixture
def stored() -> Callable[..., StoredDocument]:
    return make_stored


@pytest.fixture
async def gateway_with() -> AsyncIterator[GatewayFactory]:
    """Start gateways with options of their own, on one hub and tracker for all."""
    hub, logs, tracker = Hub(), LogBook(), FakeTracker()
    readiness = Readiness(is_connected=asyncio.Event().is_set)
    async with AsyncExitStack() as running:

        async def start(**options: Any) -> Gateway:
            app = build_app(
                hub, tracker.ask, readiness, allow_private_addresses=False, logs=logs, options=Options(**options)
            )
            server = TestServer(app)
            http = await running.enter_async_context(TestClient(server))
            server.handler.handler_cancellation = False  # as where it is deployed: a handler outlives its client
            return Gateway(http, hub, tracker, readiness, logs)

        yield start


@pytest.fixture
async def gateway(gateway_with: GatewayFactory) -> Gateway:
    return await gateway_with()


@pytest.fixture
def fill(gateway: Gateway) -> Callable[..., None]:
    """List and store documents 1 to `number`."""

    def fill(number: int, content: str = "# Title") -> None:
        for ordinal in range(len(gateway.tracker.documents) + 1, number + 1):
            url = f"https://example.com/{ordinal}"
            listed = Document(document_id=UUID(int=ordinal), ordinal=ordinal, source_url=url, saved_at=NOON)
            gateway.tracker.documents.append(listed)
            gateway.tracker.stored[listed.document_id] = make_stored(listed.document_id, url, content)

    return fill
