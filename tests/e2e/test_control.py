"""Pause, resume, cancel, change and retry, on a whole system: within a second, however many pages a job has."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic
from uuid import UUID

import asyncpg
import pytest
from aiohttp import web
from crawling import check_every_state, check_ledger
from tallyho.client import Tallyho
from tallyho.errors import RequestConflict
from tallyho.system import System
from tallyho_contracts.jobs import JobStatus

PAGES = 100_000
SECONDS = 0.02

# A job's frontier, in both services, as if its first page had linked to so many pages.
STATEMENTS = (
    "INSERT INTO crawler.seen (job_id, page_id) SELECT $1, md5($1::text || n)::uuid FROM generate_series(1, {n}) AS n",
    "INSERT INTO crawler.queue (job_id, origin, slot, depth, page_id, url, redirects)"
    " SELECT $1, $2, n % 8, 1, md5($1::text || n)::uuid, $2 || '/page/' || n, 0 FROM generate_series(1, {n}) AS n",
    "INSERT INTO crawler.slots (origin, slot) SELECT $2, n FROM generate_series(0, 7) AS n ON CONFLICT DO NOTHING",
    "INSERT INTO crawler.lanes (job_id, origin, slot, due_at) SELECT $1, $2, n, now() FROM generate_series(0, 7) AS n"
    " ON CONFLICT DO NOTHING",
    "UPDATE crawler.jobs SET admitted = admitted + {n}, pages = pages + {n} WHERE job_id = $1",
    "INSERT INTO job_tracker.pages (parent_job_id, page_id, state, url, depth)"
    " SELECT $1, md5($1::text || n)::uuid, 0, $2 || '/page/' || n, 1 FROM generate_series(1, {n}) AS n",
    "UPDATE job_tracker.jobs SET pending = pending + {n} WHERE job_id = $1",
)


@dataclass
class Site:
    """A site whose every address is a page; it knows when each request came."""

    url: str = ""
    arrivals: list[float] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    broken: set[str] = field(default_factory=set)

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/robots.txt":
            return web.Response(status=HTTPStatus.NOT_FOUND)
        self.arrivals.append(monotonic())
        if request.path in ("/", "/hub"):
            await self.open.wait()
        await asyncio.sleep(SECONDS)  # a server that takes its time is what is served
        if request.path in self.broken:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        links = "".join(f'<a href="/{n}">{n}</a>' for n in range(1, 41)) if request.path == "/hub" else ""
        return web.Response(text=f"<title>{request.path}</title><p>{links}", content_type="text/html")

    async def next_arrival(self) -> float:
        """When the next request comes."""
        known = len(self.arrivals)
        async with asyncio.timeout(30):
            while len(self.arrivals) == known:
                await asyncio.sleep(0.01)  # a list can't be awaited
        return self.arrivals[known]


@asynccontextmanager
async def serving() -> AsyncIterator[Site]:
    site = Site()
    app = web.Application()
    app.router.add_get("/{path:.*}", site.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield site
    finally:
        site.open.set()
        await runner.cleanup()


@pytest.fixture
async def client(system: System) -> AsyncIterator[Tallyho]:
    async with Tallyho(system.url, first_patience=60) as client:
        yield client


async def add_frontier(system: System, job_id: UUID, origin: str, number: int) -> None:
    connection = await asyncpg.connect(system.database_url)
    async with connection.transaction():
        for statement in STATEMENTS:
            values = {"$1": f"'{job_id}'::uuid", "$2": f"'{origin}'::text", "{n}": str(number)}
            for name, value in values.items():
                statement = statement.replace(name, value)  # noqa: PLW2901  # filled in step by step
            await connection.execute(statement)
    await connection.close()


async def a_second(client: Tallyho, job_id: UUID) -> float:
    """A second, and more on a machine that is busy with other things: what ten requests take now."""
    began = monotonic()
    for _ in range(10):
        await client.job(job_id)
    return 1 + monotonic() - began


async def no_fetch_begins_later(site: Site, since: float, allowed: float) -> None:
    """Watch for two seconds: that something does not happen can't be awaited otherwise."""
    await asyncio.sleep(since + allowed + 2 - monotonic())

    late = [round(arrival - since, 2) for arrival in site.arrivals if arrival > since + allowed]
    assert not late


@pytest.mark.timeout(180)
async def test_pause_resume_and_cancel_hold_within_a_second_for_a_hundred_thousand_pages(
    system: System, client: Tallyho
) -> None:
    async with serving() as site:
        job = await client.create_job(f"{site.url}/", max_pages=None)
        await site.next_arrival()
        await add_frontier(system, job.job_id, site.url, PAGES)
        site.open.set()
        await site.next_arrival()

        allowed = await a_second(client, job.job_id)
        paused_at = monotonic()
        paused = await client.pause(job.job_id)
        await no_fetch_begins_later(site, paused_at, allowed)

        resumed_at = monotonic()
        resumed = await client.resume(job.job_id)
        went_on = await site.next_arrival() - resumed_at

        cancelled_at = monotonic()
        cancelling = await client.cancel(job.job_id)
        await no_fetch_begins_later(site, cancelled_at, allowed)
        states = [state async for state in client.watch(job.job_id)]
        took = monotonic() - cancelled_at

    print(f"went on {went_on:.2f} s after the resume; all pages closed {took:.1f} s after the cancel")
    assert [state.status for state in (paused, resumed, cancelling)] == [
        JobStatus.PAUSED,
        JobStatus.RUNNING,
        JobStatus.CANCELLING,
    ]
    assert went_on < allowed + 0.5
    check_every_state(states)
    last = states[-1]
    assert last.status is JobStatus.CANCELLED
    assert last.total_children == PAGES + 1
    assert last.cancelled_children + last.completed_children == PAGES + 1
    ledger = await client.ledger(job.job_id)
    assert ledger.urls_met == sum(entry.urls for entry in ledger.entries) == PAGES + 1


async def test_budget_is_raised_and_lowered_while_a_job_runs(client: Tallyho) -> None:
    async with serving() as site:
        raised = await client.create_job(f"{site.url}/hub", max_pages=2, delay=0.2)
        await site.next_arrival()
        changed = await client.change(raised.job_id, max_pages=12, delay=None)
        site.open.set()  # with its first page under way it can't be over before it is changed
        grown = [state async for state in client.watch(raised.job_id)]

        # So slow that the change comes long before the eighth document, however late it is.
        lowered = await client.create_job(f"{site.url}/hub", max_pages=1000, delay=4)
        async for state in client.watch(lowered.job_id):
            if state.document_count >= 1:
                break
        await client.change(lowered.job_id, max_pages=8, delay=0)
        shrunk = [state async for state in client.watch(lowered.job_id)]

        assert (changed.options.max_pages, changed.options.delay) == (12, None)
        assert (grown[-1].status, grown[-1].document_count) == (JobStatus.COMPLETED, 12)
        assert (shrunk[-1].status, shrunk[-1].document_count) == (JobStatus.COMPLETED, 8)
        assert shrunk[-1].skipped_children == 33
        for states in (grown, shrunk):
            check_every_state(states)
            await check_ledger(client.url, states[-1])
        with pytest.raises(RequestConflict):
            await client.change(raised.job_id, max_pages=20)


async def test_failed_pages_are_retried_as_a_job_of_their_own(client: Tallyho) -> None:
    async with serving() as site:
        site.open.set()
        site.broken = {f"/{number}" for number in range(1, 11)}
        first = await client.crawl(f"{site.url}/hub")
        site.broken = {"/7"}
        second = await client.retry(first.job_id)
        states = [state async for state in client.watch(second.job_id)]
        urls = {document.source_url async for document in client.documents(second.job_id)}

        assert (first.document_count, first.failed_children) == (31, 10)
        assert second.retry_of == first.job_id
        assert (states[-1].document_count, states[-1].failed_children) == (9, 1)
        assert urls == {f"{site.url}/{number}" for number in range(1, 11) if number != 7}
        check_every_state(states)
        await check_ledger(client.url, states[-1])
        await check_ledger(client.url, first)
        assert (await client.job(first.job_id)).revision == first.revision
