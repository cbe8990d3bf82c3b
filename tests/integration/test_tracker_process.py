"""The tracker as the process that it is: it starts, works, waits for what is away, stops, and dies rather than limp."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from links import Link, open_link
from mailboxes import open_mailbox_of, send
from tallyho_contracts.jobs import JobCreate, JobStatus
from tallyho_contracts.registry import EVENTS
from tallyho_messaging.connection import Amqp
from tallyho_messaging.requests import Requester
from tallyho_messaging.subscription import subscribe
from tallyho_messaging.topology import CRAWLER_COMMANDS
from tallyho_messaging.wire import AnyEvent, Malformed, decode
from tallyho_postgres.pool import Pool
from tracking import SEED, Tracker, crawler_event, finished, saved, started

# A process that drains ends itself after 25 s, with another code.
BOUND_SECONDS = 40


@asynccontextmanager
async def process(amqp_url: str, database_url: str, *, until: str) -> AsyncIterator[Process]:
    """A tracker that has come as far as to log `until`."""
    environment = os.environ | {"AMQP_URL": amqp_url, "DATABASE_URL": database_url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "job_tracker", env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        await logged(process, until)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def logged(process: Process, text: str) -> None:
    """Wait for a line that contains `text`."""
    assert process.stderr
    async with asyncio.timeout(30):
        while text not in (line := (await process.stderr.readline()).decode()):
            assert line, "the process ended"


async def exit_code(process: Process) -> int:
    """How the process ends, and that it ends by itself."""
    async with asyncio.timeout(BOUND_SECONDS):
        await process.communicate()
    assert process.returncode is not None
    return process.returncode


@pytest.fixture
async def link(tracker_amqp_url: str) -> AsyncIterator[Link]:
    async with open_link(tracker_amqp_url) as link:
        yield link


async def create(amqp: Amqp) -> UUID:
    job_id = uuid4()
    async with Requester.open(amqp) as requester:
        await requester.request(JobCreate(job_id=job_id, seeds=(SEED,)), subject=job_id, timeout=10)
    return job_id


async def completed(tracker: Tracker, job_id: UUID) -> None:
    async with asyncio.timeout(20):
        while (await tracker.job(job_id)).status is not JobStatus.COMPLETED:
            await asyncio.sleep(0.05)  # a table can't be awaited


async def send_crawl(amqp: Amqp, job_id: UUID) -> None:
    """All events of a crawl of one page."""
    for event in (started(job_id, "a"), saved(job_id, "a"), finished(job_id, "a")):
        await send(amqp, EVENTS, crawler_event(event))


async def test_tracker_starts_the_crawl_counts_and_announces_then_stops_when_asked(
    amqp: Amqp, amqp_url: str, tracker_amqp_url: str, tracker_database_url: str, tracker_pool: Pool
) -> None:
    states: asyncio.Queue[AnyEvent] = asyncio.Queue()
    async with (
        process(tracker_amqp_url, tracker_database_url, until="ready") as tracker,
        open_mailbox_of(amqp_url, CRAWLER_COMMANDS) as commands,
        subscribe(
            amqp,
            queue=f"test.{uuid4()}",
            binding_keys=["job.progress.v1.*"],
            on_event=states.put_nowait,
            on_gap=lambda: None,
        ),
    ):
        job_id = await create(amqp)
        [command] = await commands.receive()
        await send_crawl(amqp, job_id)
        async with asyncio.timeout(10):
            while not (state := (await states.get()).data).status.is_terminal:
                pass
        tracker.send_signal(signal.SIGTERM)
        code = await exit_code(tracker)

    [start] = decode(command.body, command.content_type, command.type)
    assert not isinstance(start, Malformed)
    assert (start.type, start.data.seeds) == ("crawl.start.v1", (SEED,))
    assert (state.job_id, state.status, state.document_count) == (job_id, JobStatus.COMPLETED, 1)
    assert code == 0
    assert await tracker_pool.fetchval("SELECT count(*) FROM outbox") == 0


async def test_tracker_goes_on_by_itself_when_the_broker_is_back(
    amqp: Amqp, link: Link, tracker_database_url: str, tracker_pool: Pool
) -> None:
    async with process(link.url, tracker_database_url, until="ready"):
        job_id = await create(amqp)
        link.cut()
        await send_crawl(amqp, job_id)
        await link.mend()
        await completed(Tracker(tracker_pool), job_id)


async def test_tracker_goes_on_by_itself_when_the_database_is_back(
    amqp: Amqp, tracker_amqp_url: str, tracker_database_url: str, tracker_pool: Pool
) -> None:
    async with open_link(tracker_database_url) as link, process(tracker_amqp_url, link.url, until="ready"):
        job_id = await create(amqp)
        link.cut()
        await send_crawl(amqp, job_id)
        await link.mend()
        await completed(Tracker(tracker_pool), job_id)


async def test_tracker_stops_when_asked_while_the_broker_is_away(
    amqp: Amqp, link: Link, tracker_database_url: str, tracker_pool: Pool
) -> None:
    async with process(link.url, tracker_database_url, until="ready") as tracker:
        job_id = await create(amqp)
        await send_crawl(amqp, job_id)
        await completed(Tracker(tracker_pool), job_id)
        link.cut()
        await logged(tracker, "Reconnecting after")
        tracker.send_signal(signal.SIGTERM)

        assert await exit_code(tracker) == 0


async def test_tracker_stops_when_asked_while_it_still_waits_for_the_broker(
    link: Link, tracker_database_url: str
) -> None:
    link.cut()
    async with process(link.url, tracker_database_url, until="Reconnecting after") as tracker:
        tracker.send_signal(signal.SIGTERM)

        assert await exit_code(tracker) == 0


async def test_tracker_ends_when_a_part_of_it_fails(
    tracker_amqp_url: str, tracker_database_url: str, tracker_owner: Pool
) -> None:
    async with process(tracker_amqp_url, tracker_database_url, until="ready") as tracker:
        await tracker_owner.execute("DROP TABLE outbox")

        assert await exit_code(tracker) == 1


async def test_tracker_names_the_setting_it_lacks(tracker_amqp_url: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    tracker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "job_tracker",
        env=environment | {"AMQP_URL": tracker_amqp_url},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(tracker.communicate(), BOUND_SECONDS)

    assert (tracker.returncode, said) == (2, b"bad setting DATABASE_URL: Field required\n")
