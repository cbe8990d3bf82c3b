"""A headless browser, and the gateway it looks at: the real application, with a tracker of a few lines behind it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright, expect
from tallyho_backing_services import hold_port, port_of
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import Change, Document, DocumentGet, DocumentList, DocumentsQuery, StoredDocument
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import (
    Job,
    JobCancel,
    JobChange,
    JobCreate,
    JobCreated,
    JobGet,
    JobList,
    JobPause,
    JobResume,
    JobRetry,
    JobsQuery,
    JobStatus,
    JobSummary,
    JobSummaryQuery,
)
from tallyho_contracts.logs import JobLog, JobLogQuery, JobLogTail
from tallyho_contracts.pages import Page as CrawledPage
from tallyho_contracts.pages import PageList, PagesQuery
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_contracts.urls import UrlsCount, UrlsCounted
from tallyho_messaging.requests import RequestRefused, RequestTimedOut
from ws_gateway import frames
from ws_gateway.app import Options, Readiness, build_app
from ws_gateway.connection import Connection
from ws_gateway.hub import Hub, state_of
from ws_gateway.logs import LogBook
from ws_gateway.sockets import CONNECTIONS

KINDS = ("pending", "running", "completed", "failed", "skipped", "cancelled")
START = datetime(2025, 1, 2, 12, tzinfo=UTC)
# What a page leads to comes late on a busy machine; only a test that fails waits so long.
expect.set_options(timeout=30_000)


def a_job(number: int, revision: int, status: str = "running", *, name: str = "", **counts: int) -> Job:
    """Job `number`; counts are named by their state, `documents` are the completed ones unless given."""
    documents = counts.pop("documents", counts.get("completed", 0))
    ended = JobStatus(status).is_terminal
    created = START + timedelta(minutes=number)
    children = {f"{kind}_children": counts.get(kind, 0) for kind in KINDS}
    return Job(
        job_id=UUID(int=number),
        revision=revision,
        name=name or f"site-{number}.example",
        status=JobStatus(status),
        progress_text="",
        timestamp=created,
        total_children=sum(children.values()),
        **children,
        document_count=documents,
        documents_per_second=documents / 90,
        created_at=created,
        started_at=created if status != "pending" else None,
        finished_at=created + timedelta(seconds=90) if ended else None,
        seeds=("https://example.com/",),
        options=CrawlOptions(),
    )


class Gateway:
    """The gateway of this test. `show` makes a state the job's newest and announces it.

    `documents`, `pages`, `summaries` and `lines` are what the tracker has of a job, `texts` what the crawler keeps.
    `unanswered` are the types of requests that get no answer the next time; jobs are listed while `lists` is set.
    """

    def __init__(self) -> None:
        self.jobs: dict[UUID, Job] = {}
        self.documents: dict[UUID, list[Document]] = {}
        self.pages: dict[UUID, list[CrawledPage]] = {}
        self.summaries: dict[UUID, JobSummary] = {}
        self.urls: dict[UUID, UrlsCounted] = {}
        self.lines: dict[UUID, list[JobLog]] = {}
        self.texts: dict[UUID, StoredDocument] = {}
        self.created: list[JobCreate] = []
        self.unanswered: set[type[Message]] = set()
        self.lists = asyncio.Event()
        self.lists.set()
        self.options = Options()
        self.hub = Hub()
        self.logs = LogBook()
        self._holder = hold_port()
        self._runner: web.AppRunner | None = None
        self._lost: set[Connection] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{port_of(self._holder)}"

    async def start(self) -> None:
        """Start, with nothing known but what the tracker knows."""
        self.hub, self.logs = Hub(), LogBook()
        for job in self.jobs.values():
            self.hub.offer(state_of(job))
        app = build_app(
            self.hub,
            self.ask,
            Readiness(is_connected=lambda: True),
            allow_private_addresses=False,
            logs=self.logs,
            options=self.options,
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port_of(self._holder), reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def close(self) -> None:
        await self.stop()
        self._holder.close()

    def show(self, job: Job) -> None:
        self.jobs[job.job_id] = job
        self.hub.offer(state_of(job))

    def save(self, number: int, *documents: Document) -> None:
        """Give a job documents; its next state has to count them."""
        self.documents.setdefault(UUID(int=number), []).extend(documents)

    async def say_again(self, job: Job) -> None:
        """Send a state to every page, whatever the hub thinks of it."""
        assert self._runner
        for connection in self._runner.app[CONNECTIONS]:
            await connection.reply(frames.progress(state_of(job)))

    def cut(self) -> None:
        """Lose every connection, as a network does: without a word."""
        assert self._runner
        for connection in self._runner.app[CONNECTIONS].copy():
            connection._cut_off()
            self._lost.add(connection)

    async def found_again(self) -> None:
        """Wait until what was cut has come back: the page then knows that it was."""
        assert self._runner
        async with asyncio.timeout(30):
            while not self._runner.app[CONNECTIONS] - self._lost:
                await asyncio.sleep(0.01)

    async def ask(self, message: Message) -> Any:
        if type(message) in self.unanswered:
            self.unanswered.remove(type(message))
            raise RequestTimedOut("no answer")
        match message:
            case JobsQuery():
                await self.lists.wait()
                return self._list(message)
            case JobCreate():
                self.created.append(message)
                new = a_job(9000 + len(self.created), 1, "pending", name=message.name)
                self.show(new.model_copy(update={"seeds": message.seeds, "options": message.options}))
                return JobCreated(job=self.jobs[new.job_id], created=True)
            case JobRetry():
                old = self._known(message.retry_of)
                self.show(a_job(9500, 1, "pending", name=old.name).model_copy(update={"retry_of": old.job_id}))
                return JobCreated(job=self.jobs[UUID(int=9500)], created=True)
            case JobChange():
                old = self._known(message.job_id)
                limits = {field.value: getattr(message, field) for field in message.fields}
                options = old.options.model_copy(update=limits)
                self.show(old.model_copy(update={"options": options, "revision": old.revision + 1}))
                return self.jobs[message.job_id]
            case JobCancel() | JobPause() | JobResume():
                old = self._known(message.job_id)
                status = {JobCancel: "cancelling", JobPause: "paused", JobResume: "running"}[type(message)]
                self.show(old.model_copy(update={"status": JobStatus(status), "revision": old.revision + 1}))
                return self.jobs[message.job_id]
            case JobGet():
                return self._known(message.job_id)
            case UrlsCount():
                return self.urls.get(message.job_id, UrlsCounted(urls_met=0, skipped=()))
            case JobSummaryQuery():
                return self.summaries.get(message.job_id, JobSummary(pages=(), documents=()))
            case JobLogQuery():
                self._known(message.job_id)
                return JobLogTail(lines=tuple(self.lines.get(message.job_id, [])[-message.limit :]))
            case DocumentsQuery():
                found = self.documents.get(message.job_id, [])[message.after :][: message.limit]
                return DocumentList(documents=tuple(found))
            case PagesQuery():
                pages = [page for page in self.pages.get(message.job_id, []) if page.state is message.state]
                more = len(pages) > message.limit
                return PageList(
                    pages=tuple(pages[: message.limit]), next=pages[message.limit].page_id if more else None
                )
            case DocumentGet() if message.document_id in self.texts:
                return self.texts[message.document_id]
            case _:
                raise _not_found(message)

    def _list(self, wanted: JobsQuery) -> JobList:
        newest = sorted(self.jobs.values(), key=lambda job: job.created_at, reverse=True)
        ids = [job.job_id for job in newest]
        start = ids.index(wanted.before) + 1 if wanted.before else 0
        found = newest[start : start + wanted.limit]
        is_last = start + wanted.limit >= len(newest)
        return JobList(jobs=tuple(map(state_of, found)), next=None if is_last else found[-1].job_id)

    def _known(self, job_id: UUID) -> Job:
        if job_id not in self.jobs:
            raise RequestRefused(Refused(code=ErrorCode.NOT_FOUND, message="no such job", field="job_id"))
        return self.jobs[job_id]


def _not_found(message: Message) -> RequestRefused:
    return RequestRefused(Refused(code=ErrorCode.NOT_FOUND, message=f"nothing for {message!r}"))


def a_document(number: int, ordinal: int, *, url: str = "", title: str = "", seconds: float = 0) -> Document:
    """Document `ordinal` of job `number`."""
    return Document(
        document_id=UUID(int=(number << 32) + ordinal),
        ordinal=ordinal,
        source_url=url or f"https://example.com/page-{ordinal}",
        title=title or f"Page {ordinal}",
        change=Change.CREATED,
        saved_at=START + timedelta(minutes=number, seconds=seconds),
    )


@pytest.fixture
def document() -> Callable[..., Document]:
    return a_document


@pytest.fixture
def job() -> Callable[..., Job]:
    return a_job


@pytest_asyncio.fixture(loop_scope="session")
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    await gateway.start()
    yield gateway
    await gateway.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page on which any script error and any line on the console fails the test."""
    context = await browser.new_context(viewport={"width": 1240, "height": 900})
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if not _is_of_the_network(line.text) else None)
    yield page
    await asyncio.sleep(0)
    await context.close()
    assert faults == []


def _is_of_the_network(line: str) -> bool:
    """Chromium itself reports each request that fails; a gateway that is away is what some tests are about."""
    return line.startswith(("Failed to load resource", "WebSocket connection to"))
