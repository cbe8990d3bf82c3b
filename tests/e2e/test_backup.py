"""A backup is taken of a drained system, and restored into one that went on, as docs/operations.md says."""

import asyncio
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import aio_pika
import asyncpg
import pytest
from crawling import check_count, check_every_state, crawl, settled
from sites import made_up_site
from tallyho import JobState, JobStatus, Tallyho
from tallyho.system import System, SystemOptions, running_system
from tallyho_backing_services.servers import PrivateServer
from tallyho_messaging.topology import DEAD_LETTERS, TRACKER_EVENTS

PAGES = 200
LATENCY = 0.5  # seconds a page: the crawl is at work when the backup is taken
OLD_PAGES = 20
STOP_SECONDS = 30.0  # as a pod has


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    options = SystemOptions(crawlers=2, trackers=2, allow_private_addresses=True)
    with running_system(options, report=print) as system:
        yield system


@pytest.fixture(scope="module")
def tools(system: System) -> Path:
    """The folder of pg_dump and pg_restore."""
    database = system.backing.database
    folder = Path(database.program.argv[0]).parent if isinstance(database, PrivateServer) else Path("/nowhere")
    if not (folder / "pg_dump").exists():
        pytest.skip("no pg_dump beside the database server")
    return folder


async def stop(system: System, service: str = "") -> None:
    for name, replica in system.services.items():
        if name.startswith(service):
            await asyncio.to_thread(replica.stop, STOP_SECONDS)


async def start(system: System) -> None:
    for replica in system.services.values():
        replica.start()
    for replica in system.services.values():
        await asyncio.to_thread(replica.await_ready)


async def run(*command: str | Path) -> None:
    await asyncio.to_thread(partial(subprocess.run, command, check=True))


async def documents_reach(client: Tallyho, job_id: UUID, number: int) -> None:
    while (await client.job(job_id)).document_count < number:
        await asyncio.sleep(0.05)  # until the crawl has got there


async def waiting(system: System, queue: str) -> int:
    async with await aio_pika.connect(system.amqp_url) as connection:
        declared = await (await connection.channel()).declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0


async def counted(system: System, job_id: UUID) -> int:
    """What the tracker has committed; asked of the database, since services may be down."""
    connection = await asyncpg.connect(system.database_url)
    try:
        found = "SELECT count(*) FROM job_tracker.job_documents WHERE parent_job_id = $1"
        return int(await connection.fetchval(found, job_id))
    finally:
        await connection.close()


async def drained(system: System, client: Tallyho, job_id: UUID) -> None:
    """Wait until nothing is on its way: what the broker holds is in no backup."""
    revision = -1
    while await waiting(system, TRACKER_EVENTS) or revision != (await client.job(job_id)).revision:
        await settled(system.database_url)
        revision = (await client.job(job_id)).revision
        await asyncio.sleep(3)  # a batch that a tracker holds shows nowhere


async def test_restored_crawl_goes_on_and_counts_exactly(system: System, tools: Path, tmp_path: Path) -> None:
    dump = tmp_path / "tallyho.dump"
    with made_up_site(OLD_PAGES) as old_site, made_up_site(PAGES, latency=LATENCY) as site:
        old = await crawl(system.url, old_site)
        async with Tallyho(system.url, first_patience=60) as client, asyncio.timeout(120):
            job_id = (await client.create_job(site)).job_id
            await documents_reach(client, job_id, 20)
            await client.pause(job_id)
            await drained(system, client, job_id)
            at_backup = await counted(system, job_id)
            await run(tools / "pg_dump", "--format=custom", f"--file={dump}", system.database_url)
            await client.resume(job_id)
            await documents_reach(client, job_id, at_backup + 20)
            # What the backup does not know waits in the broker, too.
            await stop(system, "job-tracker")
            while await waiting(system, TRACKER_EVENTS) < 5:
                await asyncio.sleep(0.1)
            await stop(system)
            await run(tools / "pg_restore", "--clean", "--if-exists", f"--dbname={system.database_url}", dump)
            restored = await counted(system, job_id)
            await start(system)
        async with Tallyho(system.url, first_patience=60) as client, asyncio.timeout(120):
            await client.resume(job_id)
            states: list[JobState] = [state async for state in client.watch(job_id)]

    assert 20 <= restored == at_backup < PAGES
    check_every_state(states)
    assert states[-1].status is JobStatus.COMPLETED
    await check_count(system.url, system.database_url, states, PAGES)
    await check_count(system.url, system.database_url, old, OLD_PAGES)
    assert await waiting(system, DEAD_LETTERS) == 0
