"""`python -m benchmarks.frontier [PART…]`: how fast the frontier takes pages in, hands them out and closes them, as it
grows to a million; and how large its tables become.

The crawler's own handlers on a real database; only the fetching is made up. Prints tables in markdown.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import asyncpg
from crawler import store
from crawler.deps import Deps
from crawler.frontier import DocumentContent, QueuedPage, Visit
from crawler.handlers import Work, claim, on_work, start_crawl
from crawler.known_urls import KnownUrls
from tallyho_backing_services import BackingServicesError, open_backing_services
from tallyho_backing_services.servers import PrivateServer
from tallyho_contracts.crawls import CrawlOptions, CrawlStart
from tallyho_contracts.pages import Outcome
from tallyho_postgres.migrations import migrate
from tallyho_postgres.outbox import Relay
from tallyho_postgres.pool import Pool, open_pool

from benchmarks.cpu import cpu_seconds

PARTS = {"one": (1, 1_000_000), "many": (1_000, 1_000)}
HOSTS = 1_000
WORKERS = 2
# As a crawler of 32 pages at once works: lanes and pages of a claim, pages of a group that is committed.
LANES, PAGES_PER_LANE, GROUP_PAGES = 32, 32, 100
GROUP_HUBS = 5
LINKS_PER_PAGE = 1_000
LEASE = timedelta(hours=1)
HUB = "http://hub.test/"
SIZES = """
SELECT relname, pg_table_size(relid) / 1e6 AS heap, pg_indexes_size(relid) / 1e6 AS indexes, n_dead_tup AS dead,
    autovacuum_count AS vacuums
FROM pg_stat_user_tables WHERE schemaname = 'crawler' AND relname = ANY($1::text[]) ORDER BY relname
"""
TABLES = ["queue", "lanes", "seen", "slots", "jobs", "documents", "outbox"]


@dataclass
class Step:
    """A step of the work: how many pages it was done for, and the seconds that it took, over all workers."""

    pages: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Pages a second of one worker that does nothing else."""
        return self.pages / self.seconds if self.seconds else 0.0


@dataclass
class Steps:
    """What one part of the run did."""

    inserted: Step = field(default_factory=Step)
    claimed: Step = field(default_factory=Step)
    finished: Step = field(default_factory=Step)


class MadeUpWorker:
    """Claims and finishes pages without fetching them. A hub links to new pages; others link nowhere."""

    def __init__(self, pool: Pool, hubs: dict[str, tuple[str, ...]], relay: Relay) -> None:
        self.worker_id = uuid4()
        self._deps = Deps(pool, relay, partial(datetime.now, UTC), KnownUrls(), host_concurrency=2, host_delay=0.0)
        self._hubs = hubs

    async def claim_and_finish(self, steps: Steps) -> int:
        """Do one claim and all that follows; returns how many pages it was."""
        started = time.perf_counter()
        claimed = await claim(
            self._deps, self.worker_id, lanes=LANES, lanes_per_origin=2, pages_per_lane=PAGES_PER_LANE
        )
        steps.claimed.seconds += time.perf_counter() - started
        pages = [page for _, of_lane in claimed for page in of_lane]
        steps.claimed.pages += len(pages)
        visits = [self._visit(page) for page in pages]
        hubs = [visit for visit in visits if visit.page.url in self._hubs]
        others = [visit for visit in visits if visit.page.url not in self._hubs]
        for some, most in ((hubs, GROUP_HUBS), (others, GROUP_PAGES)):
            for n in range(0, len(some), most):
                await self._finish(Work(some[n : n + most]), steps)
        await self._finish(Work(served=[lane for lane, _ in claimed]), steps)
        return len(pages)

    async def _finish(self, work: Work, steps: Steps) -> None:
        if not work.job_ids:
            return
        links = sum(len(visit.document.links) for visit in work.visits if visit.document)
        started = time.perf_counter()
        await on_work(self._deps, work)
        step = steps.inserted if links else steps.finished
        step.seconds += time.perf_counter() - started
        step.pages += links or len(work.visits)

    def _visit(self, page: QueuedPage) -> Visit:
        links = self._hubs.get(page.url, ())
        document = DocumentContent("Title", "Some text. " * 20, links, "0" * 64, 200, "text/html", None, None)
        return Visit(page, Outcome.COMPLETED, status_code=200, document=document)


async def start(deps: Deps, hubs: Sequence[str]) -> UUID:
    """Start a job at its hubs."""
    options = CrawlOptions(max_pages=None, same_site=False)
    job_id = uuid4()
    await start_crawl(deps, CrawlStart(job_id=job_id, revision=1, seeds=tuple(hubs), options=options))
    return job_id


async def run(pool: Pool, jobs: int, pages: int, *, step: int, database: Callable[[], float]) -> None:
    """Crawl `jobs` jobs of so many pages each to their end, and print what each `step` pages took.

    `database` returns the CPU seconds that the database has used so far.
    """
    relay = Relay(pool, _confirmed)
    deps = Deps(pool, relay, partial(datetime.now, UTC), KnownUrls(), host_concurrency=2, host_delay=0.0)
    hubs: dict[str, tuple[str, ...]] = {}
    for job in range(jobs):
        for n in range(0, pages, LINKS_PER_PAGE):
            targets = (f"http://host-{(job + n + i) % HOSTS}.test/{job}/page-{n + i}" for i in range(LINKS_PER_PAGE))
            hubs[f"{HUB}{job}/{n}"] = tuple(targets)
        await start(deps, [hub for hub in hubs if hub.startswith(f"{HUB}{job}/")])
    workers = [MadeUpWorker(pool, hubs, relay) for _ in range(WORKERS)]
    async with pool.acquire() as connection:
        for worker in workers:
            await store.register_worker(connection, worker.worker_id, LEASE)
    print(f"\n| {jobs:,} jobs of {pages:,} pages: so far | pages/s | inserted/s | claimed/s | finished/s |", end="")
    print(" CPU ms a page | of the database |", end="")
    print(" queue heap MB | its indexes | dead rows |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    stop = asyncio.Event()
    relaying = asyncio.create_task(relay.run(stop))
    done = 0
    while True:
        steps, started, before = Steps(), time.perf_counter(), done
        own, backing = time.process_time(), database()
        done += sum(await asyncio.gather(*(_work(worker, steps, step // WORKERS) for worker in workers)))
        if done == before:
            break
        own = 1_000 * (time.process_time() - own) / (done - before)
        backing = 1_000 * (database() - backing) / (done - before)
        rate = (done - before) / (time.perf_counter() - started)
        rates = [f"{one:,.0f}" for one in (rate, steps.inserted.rate, steps.claimed.rate, steps.finished.rate)]
        await _print_row(pool, done, [*rates, f"{own:.2f}", f"{backing:.2f}"])
    stop.set()
    await relaying
    print("\n| table at the end | heap MB | indexes MB | dead rows | autovacuums |\n|---|--:|--:|--:|--:|")
    for row in await pool.fetch(SIZES, TABLES):
        print(f"| {row[0]} | {row['heap']:,.1f} | {row['indexes']:,.1f} | {row['dead']:,} | {row['vacuums']} |")
    assert not await pool.fetchval("SELECT count(*) FROM queue")
    assert await pool.fetchval("SELECT count(*) FROM seen") == jobs * pages + len(hubs)


async def _work(worker: MadeUpWorker, steps: Steps, pages: int) -> int:
    done = 0
    while done < pages and (more := await worker.claim_and_finish(steps)):
        done += more
    return done


async def _print_row(pool: Pool, done: int, measured: Sequence[str]) -> None:
    [row] = await pool.fetch(SIZES, ["queue"])
    sizes = f"{row['heap']:.1f} | {row['indexes']:.1f} | {row['dead']:,}"
    print(f"| {done:,} | {' | '.join(measured)} | {sizes} |", flush=True)


async def _confirmed(*_: object) -> None:
    """Publish at once: a broker of no cost."""


@asynccontextmanager
async def empty_database(url: str) -> AsyncIterator[Pool]:
    """The crawler's tables in a database of their own, which ends with the block."""
    name = f"benchmark_{uuid4().hex}"
    await _execute(url, f'CREATE DATABASE "{name}"')
    own = url.rpartition("/")[0] + "/" + name
    try:
        await migrate(own, package="crawler", schema="crawler")
        async with open_pool(own, schema="crawler", settings=store.PLANNER) as pool:
            yield pool
    finally:
        await _execute(url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def main() -> int:
    """Read the command line and measure; 2 when there is no database to be had."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description="Measure the frontier.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a hundredth of it: does it run?")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    async def measure(url: str, database: Callable[[], float]) -> None:
        for part in arguments.parts or PARTS:
            jobs, pages = PARTS[part]
            if arguments.quick:
                jobs, pages = (jobs, pages // 100) if jobs == 1 else (jobs // 100, pages)
            async with empty_database(url) as pool:
                await run(pool, jobs, pages, step=jobs * pages // 20, database=database)

    try:
        with open_backing_services(lambda line: print(line, file=sys.stderr)) as backing:
            server = backing.database
            pid = server.pid if isinstance(server, PrivateServer) else None
            asyncio.run(measure(backing.database_url, lambda: cpu_seconds(pid) if pid else 0.0))
    except BackingServicesError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
