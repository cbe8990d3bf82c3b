"""A headless browser, and the gateway it looks at: the real application, with a tracker of a few lines behind it."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import (
    Job,
    JobCancel,
    JobCreate,
    JobCreated,
    JobGet,
    JobList,
    JobsQuery,
    JobStatus,
)
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_messaging.requests import RequestRefused
from ws_gateway import frames
from ws_gateway.app import Readiness, build_app
from ws_gateway.hub import Hub, state_of
from ws_gateway.sockets import CONNECTIONS

KINDS = ("pending", "running", "completed", "failed", "skipped", "cancelled")
START = datetime(2025, 1, 2, 12, tzinfo=UTC)


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
    """The gateway of this test. `show` makes a state the job's newest and announces it."""

    def __init__(self) -> None:
        self.jobs: dict[UUID, Job] = {}
        self.created: list[JobCreate] = []
        self.hub = Hub()
        self._port = _free_port()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start, with nothing known but what the tracker knows."""
        self.hub = Hub()
        readiness = Readiness(is_connected=lambda: True)
        app = build_app(self.hub, self.ask, readiness, allow_private_addresses=False)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    def show(self, job: Job) -> None:
        self.jobs[job.job_id] = job
        self.hub.offer(state_of(job))

    async def say_again(self, job: Job) -> None:
        """Send a state to every page, whatever the hub thinks of it."""
        assert self._runner
        for connection in self._runner.app[CONNECTIONS]:
            await connection.reply(frames.progress(state_of(job)))

    async def ask(self, message: Message) -> Any:
        match message:
            case JobsQuery():
                newest = sorted(self.jobs.values(), key=lambda job: job.created_at, reverse=True)
                return JobList(jobs=tuple(state_of(job) for job in newest[: message.limit]))
            case JobCreate():
                self.created.append(message)
                job = a_job(9000 + len(self.created), 1, "pending", name=message.name)
                self.show(job)
                return JobCreated(job=job, created=True)
            case JobCancel():
                old = self._known(message.job_id)
                change = {"status": JobStatus.CANCELLING, "revision": old.revision + 1}
                self.show(old.model_copy(update=change))
                return self.jobs[message.job_id]
            case JobGet():
                return self._known(message.job_id)
            case _:
                raise AssertionError(message)

    def _known(self, job_id: UUID) -> Job:
        if job_id not in self.jobs:
            raise RequestRefused(Refused(code=ErrorCode.NOT_FOUND, message="no such job", field="job_id"))
        return self.jobs[job_id]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def job() -> Callable[..., Job]:
    return a_job


@pytest_asyncio.fixture(loop_scope="session")
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    await gateway.start()
    yield gateway
    await gateway.stop()


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
    """A page on which any script error fails the test."""
    context = await browser.new_context(viewport={"width": 1100, "height": 900})
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    await asyncio.sleep(0)
    await context.close()
    assert faults == []
