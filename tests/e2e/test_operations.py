"""What an operator does: audit counts, look after dead letters, notice a job that has fallen silent."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from uuid import UUID

import aio_pika
import asyncpg
import pytest
from aio_pika.abc import AbstractChannel
from aiohttp import ClientSession
from crawling import crawl
from sites import made_up_site
from tallyho.client import Tallyho
from tallyho.system import System, SystemOptions, running_system
from tallyho_contracts.jobs import Job, JobState, JobStatus
from tallyho_contracts.registry import EVENTS
from tallyho_messaging.topology import DEAD_LETTERS

# Longer than any pause of a crawl whose crawler is not stopped: the retry of a page, on a busy machine.
SILENCE_SECONDS = 8.0


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """One whose trackers lose patience soon."""
    settings = {"TRACKER_SILENCE_SECONDS": str(SILENCE_SECONDS)}
    options = SystemOptions(trackers=2, allow_private_addresses=True, settings=settings)
    with running_system(options, report=print, supervised=True) as system:
        yield system


@pytest.fixture
async def broker(system: System) -> AsyncIterator[AbstractChannel]:
    """The broker, without dead letters."""
    async with await aio_pika.connect(system.amqp_url) as connection:
        channel = await connection.channel()
        await (await channel.declare_queue(DEAD_LETTERS, passive=True)).purge()
        yield channel


@dataclass(frozen=True)
class Ran:
    code: int
    out: list[str]
    err: list[str]


async def tallyho(system: System, *words: str) -> Ran:
    """Run `tallyho` to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tallyho", *words),
        env={**os.environ, "TALLYHO_URL": system.url, "AMQP_URL": system.amqp_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Ran(process.returncode, out.decode().splitlines(), err.decode().splitlines())


async def change(system: System, statement: str, *values: object) -> None:
    """Do to the database what no service does."""
    connection = await asyncpg.connect(system.database_url)
    await connection.execute(statement, *values)
    await connection.close()


async def letters(system: System, number: int) -> list[str]:
    """The lines of `dead-letters list`, once there are so many."""
    async with asyncio.timeout(60):
        while len((listed := await tallyho(system, "dead-letters", "list")).out) < number:
            pass
    assert (listed.code, listed.err) == (0, [])
    return listed.out


async def test_audit_of_a_crawl_finds_no_drift(system: System) -> None:
    with made_up_site(60) as site:
        job = str((await crawl(system.url, site))[-1].job_id)
    audited = await tallyho(system, "audit", job, "--json")
    everything = await tallyho(system, "audit")

    found = json.loads(audited.out[0])
    assert (audited.code, len(audited.out)) == (0, 1)
    assert (found["saved"], found["listed"], found["document_count"], found["last_ordinal"]) == (60, 60, 60, 60)
    assert everything.code == 0
    assert everything.out[-1].endswith(" 0 with drift")


async def test_audit_finds_what_is_missing_on_either_side(system: System) -> None:
    with made_up_site(20) as site:
        first, second, third = [(await crawl(system.url, site))[-1].job_id for _ in range(3)]
    await change(system, "DELETE FROM crawler.job_documents WHERE job_id = $1", first)
    await change(system, "DELETE FROM job_tracker.job_documents WHERE parent_job_id = $1 AND ordinal = 7", second)
    try:
        runs = [await tallyho(system, "audit", str(job)) for job in (first, second, third)]
        everything = await tallyho(system, "audit")
    finally:
        await change(system, "DELETE FROM job_tracker.jobs WHERE job_id = ANY($1)", [first, second])

    assert [ran.code for ran in runs] == [1, 1, 0]
    assert "20 missing in crawler" in runs[0].out[0]
    assert "1 missing in tracker" in runs[1].out[0]
    assert "1 ordinals missing (7)" in runs[1].out[0]
    assert everything.code == 1
    assert everything.out[-1].endswith(" 2 with drift")


async def test_dead_letter_is_listed_shown_and_replayed(system: System, broker: AbstractChannel) -> None:
    body = b'{"type": "document.saved.v99"}'
    await (await broker.get_exchange(EVENTS)).publish(aio_pika.Message(body), "document.saved.v99")
    [line] = await letters(system, 1)
    letter = line.split()[0]
    shown = await tallyho(system, "dead-letters", "show", letter)
    again = await letters(system, 1)
    replayed = await tallyho(system, "dead-letters", "replay", letter)
    [line_after] = await letters(system, 1)  # it died once more
    unknown = await tallyho(system, "dead-letters", "show", letter)
    discarded = await tallyho(system, "dead-letters", "discard", "--all")

    assert again == [line]
    assert "job-tracker.events  document.saved.v99" in line
    assert shown.code == 0
    assert "queue: job-tracker.events" in shown.out
    assert shown.out[-1] == body.decode()
    assert (replayed.code, replayed.out) == (0, ["1 replayed"])
    assert line_after.split()[0] != letter
    assert (unknown.code, unknown.out, unknown.err) == (1, [], [f"tallyho: no dead letter {letter}"])
    assert (discarded.code, discarded.out) == (0, ["1 discarded"])
    assert (await tallyho(system, "dead-letters", "list")).out == []


async def test_replayed_event_counts_once(system: System, broker: AbstractChannel) -> None:
    with made_up_site(20) as site:
        last = (await crawl(system.url, site))[-1]
    connection = await asyncpg.connect(system.database_url)
    [document] = await connection.fetch(
        "SELECT * FROM job_tracker.job_documents WHERE parent_job_id = $1 AND ordinal = 1", last.job_id
    )
    await connection.close()
    data = {
        "job_id": str(document["page_id"]),
        "parent_job_id": str(last.job_id),
        "document_id": str(document["document_id"]),
        "source_url": document["source_url"],
        "content_hash": document["content_hash"],
        "change": "created",
        "timestamp": document["saved_at"].isoformat(),
    }
    event = {
        "specversion": "1.0",
        "id": str(document["document_id"]),
        "source": "/crawler",
        "type": "document.saved.v1",
        "subject": str(last.job_id),
        "time": document["saved_at"].isoformat(),
        "dataschema": "tallyho:/schemas/document.saved.v1.json",
        "data": data,
    }
    headers = {"x-tallyho-reason": "made up", "x-tallyho-queue": "job-tracker.events"}
    for number in range(2):
        message = aio_pika.Message(
            json.dumps(event).encode(), type="document.saved.v1", message_id=f"made-up-{number}", headers=dict(headers)
        )
        await broker.default_exchange.publish(message, DEAD_LETTERS)
    replayed = await tallyho(system, "dead-letters", "replay", "made-up-1", "made-up-0", "made-up-2")
    async with Tallyho(system.url) as client:
        job = await client.job(last.job_id)

    assert (replayed.code, replayed.out) == (1, ["2 replayed"])
    assert replayed.err == ["tallyho: no dead letter made-up-2"]
    assert (await tallyho(system, "dead-letters", "list")).out == []
    assert (job.document_count, job.revision) == (20, last.revision)
    assert (await tallyho(system, "audit", str(last.job_id))).code == 0


async def test_silent_job_is_reported_and_goes_on(system: System) -> None:
    crawler = system.services["crawler-1"]
    states: list[JobState] = []
    silent: Job | None = None
    with made_up_site(40, latency=0.2) as site:
        async with Tallyho(system.url) as client:
            job_id = (await client.create_job([site])).job_id
            async for state in client.watch(job_id):
                states.append(state)
                if state.stalled_since and silent is None:
                    silent = await client.job(job_id)
                    os.kill(crawler.pid, signal.SIGCONT)
                elif state.document_count and silent is None:
                    os.kill(crawler.pid, signal.SIGSTOP)

    silences = [state for state in states if state.stalled_since]
    assert len(silences) == 1
    assert silent is not None
    assert silent.revision == silences[0].revision
    assert silent.waits_for is not None
    assert silent.waits_for.known_pages == silences[0].total_children
    assert silent.waits_for.pages
    assert all(page.url and page.since for page in silent.waits_for.pages)
    assert states[-1].status is JobStatus.COMPLETED
    assert (states[-1].document_count, states[-1].stalled_since) == (40, None)


async def test_deleted_job_is_gone_with_its_documents_and_who_watches_is_told(system: System) -> None:
    with made_up_site(20) as site:
        states = await crawl(system.url, f"{site}/0")
    job_id = states[-1].job_id
    async with ClientSession() as session, session.ws_connect(f"{system.url}/v1/ws") as socket:
        await socket.send_json({"type": "subscribe", "payload": {"job_id": str(job_id)}})
        ran = await tallyho(system, "delete", str(job_id))
        async with asyncio.timeout(30):
            while not (frame := await socket.receive_json())["payload"].get("deleted_at"):
                continue
    again = await tallyho(system, "delete", str(job_id))

    assert (ran.code, ran.out) == (0, [f"{job_id} deleted: {states[-1].document_count} documents"])
    assert frame["payload"]["revision"] == states[-1].revision + 1
    assert again.code == 2
    assert "there is no job" in again.err[0]
    assert await nothing_left(system, job_id)


async def nothing_left(system: System, job_id: UUID) -> bool:
    """Wait until both services have forgotten a job; whether they did soon."""
    left = """
        SELECT (SELECT count(*) FROM crawler.job_documents WHERE job_id = $1)
            + (SELECT count(*) FROM crawler.seen WHERE job_id = $1)
            + (SELECT count(*) FROM job_tracker.job_documents WHERE parent_job_id = $1)
            + (SELECT count(*) FROM job_tracker.pages WHERE parent_job_id = $1)
    """
    connection = await asyncpg.connect(system.database_url)
    try:
        async with asyncio.timeout(30):
            while await connection.fetchval(left, job_id):
                await asyncio.sleep(0.1)  # a table can't be awaited
    finally:
        await connection.close()
    return True
