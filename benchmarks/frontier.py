"""`python -m benchmarks.frontier [PART…]`: how fast the frontier takes a million pages in, hands them out, closes and
forgets them, how large its tables become, and which settings of the tables suit it.

The crawler's own handlers on a real database; only the fetching is made up. Prints tables in markdown.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from uuid import UUID, uuid4

import asyncpg
from crawler import deletion, store
from crawler.commands import delete_crawl, start_crawl
from crawler.deps import Deps
from crawler.frontier import DocumentContent, Lane, QueuedPage, Visit
from crawler.handlers import Work, claim, on_work
from crawler.known_urls import KnownUrls
from crawler.metrics import look_at_frontier
from tallyho_backing_services import BackingServicesError, open_backing_services
from tallyho_backing_services.servers import PrivateServer
from tallyho_contracts.crawls import CrawlDelete, CrawlOptions, CrawlStart
from tallyho_contracts.pages import Outcome
from tallyho_postgres.migrations import migrate
from tallyho_postgres.outbox import Relay
from tallyho_postgres.pool import Pool, open_pool

from benchmarks.cpu import cpu_seconds

WORKERS = 2
# As a crawler of 32 pages at once works: lanes and pages of a claim, pages of a group that is committed.
LANES, PAGES_PER_LANE, GROUP_PAGES = 32, 32, 100
GROUP_HUBS, LINKS_PER_HUB = 5, 1_000
LEASE = timedelta(hours=6)
UPDATED = ("queue", "lanes", "slots", "jobs", "outbox")
TABLES = (*UPDATED, "seen", "documents", "job_documents")
SIZES = """
SELECT relname, pg_table_size(relid) / 1e6 AS heap, pg_indexes_size(relid) / 1e6 AS indexes, n_dead_tup AS dead,
    100.0 * n_tup_hot_upd / nullif(n_tup_upd, 0) AS hot, autovacuum_count AS vacuums
FROM pg_stat_user_tables WHERE schemaname = 'crawler' AND relname = ANY($1::text[]) ORDER BY relname
"""

# A page is a row in both.
REMAINS = "SELECT ((SELECT count(*) FROM job_documents) + (SELECT count(*) FROM seen)) / 2"


@dataclass(frozen=True)
class Shape:
    """So many jobs of so many pages each, of so many of the 1,000 hosts."""

    jobs: int
    pages: int
    hosts: int

    @property
    def total(self) -> int:
        """The pages of all jobs, without the hubs that link to them."""
        return self.jobs * self.pages

    def hub(self, job: int, start: int) -> str:
        """The page that links to 1,000 pages of a job, from page `start` on."""
        return f"http://hub-{job}.test/{job}/{start}"

    def links(self, hub: str) -> tuple[str, ...]:
        """What a hub links to; nothing, if it is none."""
        host, _, place = hub.removeprefix("http://").partition("/")
        if not host.startswith("hub-"):
            return ()
        job, start = map(int, place.split("/"))
        numbers = range(start, min(start + LINKS_PER_HUB, self.pages))
        return tuple(f"http://host-{(job + n % self.hosts) % 1_000}.test/{job}/page-{n}" for n in numbers)


PARTS = {
    "one": Shape(1, 1_000_000, 1_000),
    "many": Shape(1_000, 1_000, 10),
    "host": Shape(1, 200_000, 1),
}
# Settings of the tables, side by side.
ALTERNATIVES = {
    "as migrated": "",
    **{
        f"fill factor {n}": "".join(f"ALTER TABLE {table} SET (fillfactor = {n});" for table in (*UPDATED, "origins"))
        for n in (100, 90, 70)
    },
    "fill factor 100 of the queue only": "ALTER TABLE queue SET (fillfactor = 100);",
    "autovacuum as the server's": "".join(
        f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,"
        " autovacuum_vacuum_cost_delay);"
        for table in TABLES
    ),
    "autovacuum tuned": "".join(
        f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,"
        " autovacuum_vacuum_cost_delay = 0);"
        for table in UPDATED
    ),
}
COMPARED = Shape(5, 8_000, 20)


@dataclass
class Timed:
    """How many pages a step was done for, and the seconds that it took, over all workers."""

    pages: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Pages a second of one worker that does nothing else."""
        return self.pages / self.seconds if self.seconds else 0.0


@dataclass
class Measured:
    """What some pages took: wall-clock and CPU seconds, bytes of WAL; `parts` of it by name."""

    pages: int
    seconds: float
    own_cpu: float
    database_cpu: float
    wal: int
    parts: dict[str, Timed]

    @property
    def rate(self) -> float:
        """Pages a second."""
        return self.pages / self.seconds


@dataclass
class Frontier:
    """A frontier under measurement. `database` returns the CPU seconds that the database has used so far."""

    pool: Pool
    relay: Relay
    shape: Shape
    database: Callable[[], float]
    job_ids: list[UUID] = field(default_factory=list)
    worker_ids: list[UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._deps = Deps(
            self.pool, self.relay, partial(datetime.now, UTC), KnownUrls(), host_concurrency=2, host_delay=0.0
        )
        self._parts: dict[str, Timed] = {}

    async def start(self) -> None:
        """Start the jobs at their hubs."""
        async with self.pool.acquire() as connection:
            for _ in range(WORKERS):
                self.worker_ids.append(uuid4())
                await store.register_worker(connection, self.worker_ids[-1], LEASE)
        options = CrawlOptions(max_pages=None, same_site=False, sitemap="skip")
        for job in range(self.shape.jobs):
            hubs = tuple(self.shape.hub(job, start) for start in range(0, self.shape.pages, LINKS_PER_HUB))
            self.job_ids.append(uuid4())
            await start_crawl(self._deps, CrawlStart(job_id=self.job_ids[-1], revision=1, seeds=hubs, options=options))

    async def insert(self, step: int) -> AsyncIterator[Measured]:
        """Visit the hubs, whose links fill the queue."""
        pages: list[QueuedPage] = []
        lanes: list[Lane] = []
        while claimed := await self._claim(self.worker_ids[0], lanes=2_000, pages_per_lane=10_000):
            lanes += [lane for lane, _ in claimed]
            pages += [page for _, of_lane in claimed for page in of_lane]
        groups = iter([pages[n : n + GROUP_HUBS] for n in range(0, len(pages), GROUP_HUBS)])

        async def work(_: UUID, limit: int) -> int:
            done = 0
            while done < limit and (group := next(groups, None)):
                done += await self._finish("inserted", group, [])
            return done

        async for measured in self._steps(work, step):
            yield measured
        await on_work(self._deps, Work(served=lanes))

    async def crawl(self, step: int) -> AsyncIterator[Measured]:
        """Claim and finish all pages, which link nowhere."""

        async def work(worker_id: UUID, limit: int) -> int:
            done = 0
            while done < limit and (claimed := await self._claim(worker_id)):
                pages = [page for _, of_lane in claimed for page in of_lane]
                lanes = [lane for lane, _ in claimed]
                for n in range(0, len(pages), GROUP_PAGES):
                    is_last = n + GROUP_PAGES >= len(pages)
                    done += await self._finish("finished", pages[n : n + GROUP_PAGES], lanes if is_last else [])
            return done

        async for measured in self._steps(work, step):
            yield measured

    async def forget(self, step: int) -> AsyncIterator[Measured]:
        """Delete the jobs and forget them, a chunk at a time, as in the background but without the rests between."""
        for job_id in self.job_ids:
            await delete_crawl(self._deps, CrawlDelete(job_id=job_id, revision=2))

        async def work(worker_id: UUID, limit: int) -> int:
            if worker_id != self.worker_ids[0]:  # a job is forgotten by one at a time
                return 0
            before = await self.pool.fetchval(REMAINS)
            for _ in range(0, limit * WORKERS, deletion.DOCUMENTS_AT_ONCE):
                if not await deletion.forget_some(self.pool):
                    break
            return int(before - await self.pool.fetchval(REMAINS))

        async for measured in self._steps(work, step):
            yield measured

    async def _claim(
        self, worker_id: UUID, *, lanes: int = LANES, pages_per_lane: int = PAGES_PER_LANE
    ) -> list[tuple[Lane, list[QueuedPage]]]:
        started = time.perf_counter()
        claimed = await claim(self._deps, worker_id, lanes=lanes, lanes_per_origin=2, pages_per_lane=pages_per_lane)
        self._note("claimed", sum(len(pages) for _, pages in claimed), started)
        return claimed

    async def _finish(self, name: str, pages: Sequence[QueuedPage], served: Sequence[Lane]) -> int:
        visits = [self._visit(page) for page in pages]
        links = sum(len(visit.found.urls) for visit in visits)
        started = time.perf_counter()
        await on_work(self._deps, Work(visits, served=list(served)))
        self._note(name, links or len(visits), started)
        return links or len(visits)

    def _visit(self, page: QueuedPage) -> Visit:
        links = self.shape.links(page.url)
        document = DocumentContent("Title", "Some text. " * 20, links, "0" * 64, 200, "text/html", None, None)
        return Visit(page, Outcome.COMPLETED, status_code=200, document=document)

    def _note(self, name: str, pages: int, started: float) -> None:
        part = self._parts.setdefault(name, Timed())
        part.pages += pages
        part.seconds += time.perf_counter() - started

    async def _steps(self, work: Callable[[UUID, int], Awaitable[int]], step: int) -> AsyncIterator[Measured]:
        """Let all workers do `step` pages at a time, until none is left."""
        while True:
            self._parts = {}
            before = time.perf_counter(), time.process_time(), self.database(), await self._wal()
            pages = sum(await asyncio.gather(*(work(worker_id, step // WORKERS) for worker_id in self.worker_ids)))
            if not pages:
                return
            after = time.perf_counter(), time.process_time(), self.database(), await self._wal()
            seconds, own, database, wal = (b - a for a, b in zip(before, after, strict=True))
            yield Measured(pages, seconds, own, database, int(wal), self._parts)

    async def _wal(self) -> int:
        return int(await self.pool.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


async def measure(url: str, shape: Shape, database: Callable[[], float], *, step: int) -> None:
    """Take one shape of frontier through its life; print what each `step` pages took."""
    async with opened(url, shape, database) as frontier:
        await frontier.start()
        print(
            f"\n| {shape.jobs:,} jobs of {shape.pages:,} pages | so far | pages/s | of one worker | CPU ms a page |",
            end="",
        )
        print(" of the database | WAL bytes a page | queue MB | its indexes | dead rows | look, ms |")
        print("|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|")
        for name, phase in (("insert", frontier.insert), ("crawl", frontier.crawl), ("forget", frontier.forget)):
            rows: list[Measured] = []
            async for row in phase(step):
                rows.append(row)
                await _print_row(frontier, name, sum(one.pages for one in rows), row)
            _print_flatness(name, rows)
            if name == "crawl":
                await _print_tables(frontier.pool, shape)


async def _print_row(frontier: Frontier, name: str, done: int, row: Measured) -> None:
    [queue] = await frontier.pool.fetch(SIZES, ["queue"])
    started = time.perf_counter()
    async with frontier.pool.acquire() as connection:
        await look_at_frontier(connection)
    look = 1_000 * (time.perf_counter() - started)
    parts = ", ".join(f"{part} {timed.rate:,.0f}/s" for part, timed in row.parts.items())
    own, database = 1_000 * row.own_cpu / row.pages, 1_000 * row.database_cpu / row.pages
    sizes = f"{queue['heap']:.0f} | {queue['indexes']:.0f} | {queue['dead']:,}"
    print(f"| {name} | {done:,} | {row.rate:,.0f} | {parts} | {own:.3f} | {database:.3f} |", end="")
    print(f" {row.wal / row.pages:,.0f} | {sizes} | {look:.0f} |", flush=True)


def _print_flatness(name: str, rows: Sequence[Measured]) -> None:
    whole = [row for row in rows if row.pages > max(row.pages for row in rows) / 2]
    first, last = whole[0], whole[-1]
    cpu = [(row.own_cpu + row.database_cpu) / row.pages for row in (first, last)]
    print(f"| {name}: last / first | | {last.rate / first.rate:.2f} | | CPU {cpu[1] / cpu[0]:.2f} | | | | | | |")


async def _print_tables(pool: Pool, shape: Shape) -> None:
    print("\n| table at the end | heap MB | indexes MB | dead rows | HOT updates | autovacuums |")
    print("|---|--:|--:|--:|--:|--:|")
    for row in await pool.fetch(SIZES, TABLES):
        hot = "" if row["hot"] is None else f"{row['hot']:.0f}%"
        print(f"| {row[0]} | {row['heap']:,.1f} | {row['indexes']:,.1f} | {row['dead']:,} | {hot} | {row['vacuums']} |")
    print(flush=True)
    hubs = shape.jobs * -(-shape.pages // LINKS_PER_HUB)
    assert not await pool.fetchval("SELECT count(*) FROM queue")
    assert await pool.fetchval("SELECT count(*) FROM documents") == shape.total + hubs


async def compare(url: str, shape: Shape, database: Callable[[], float], *, step: int) -> None:
    """Take frontiers whose tables have different settings through their lives in turn, `step` pages each."""
    async with AsyncExitStack() as stack:
        frontiers = {
            name: await stack.enter_async_context(opened(url, shape, database, settings=settings))
            for name, settings in ALTERNATIVES.items()
        }
        taken: dict[str, dict[str, list[Measured]]] = {name: {} for name in frontiers}
        largest = dict.fromkeys(frontiers, 0.0)
        for frontier in frontiers.values():
            await frontier.start()
        for phase in ("insert", "crawl"):
            running = {name: getattr(frontier, phase)(step) for name, frontier in frontiers.items()}
            while running:
                # Each is the first in turn.
                running = dict([*list(running.items())[1:], *list(running.items())[:1]])
                for name, steps in list(running.items()):
                    if (row := await anext(steps, None)) is None:
                        del running[name]
                        continue
                    taken[name].setdefault(phase, []).append(row)
                    sizes = await frontiers[name].pool.fetch(SIZES, UPDATED)
                    largest[name] = max(largest[name], sum(table["heap"] + table["indexes"] for table in sizes))
        print(
            f"\n| {shape.jobs:,} jobs of {shape.pages:,} pages, in turn | inserted/s | crawled/s | CPU ms a page |",
            end="",
        )
        print(" WAL bytes a page | MB at most | HOT: lanes, slots, jobs | autovacuums |")
        print("|---|--:|--:|--:|--:|--:|---|--:|")
        for name, frontier in frontiers.items():
            await _print_alternative(frontier, name, taken[name], largest[name])


async def _print_alternative(frontier: Frontier, name: str, taken: dict[str, list[Measured]], megabytes: float) -> None:
    tables = {row["relname"]: row for row in await frontier.pool.fetch(SIZES, UPDATED)}
    rows = [row for of_phase in taken.values() for row in of_phase]
    rates = " | ".join(f"{median(row.rate for row in taken[phase]):,.0f}" for phase in ("insert", "crawl"))
    cpu = median((row.own_cpu + row.database_cpu) / row.pages for row in taken["crawl"])
    wal = sum(row.wal for row in rows) / frontier.shape.total
    vacuums = sum(row["vacuums"] for row in tables.values())
    hot = ", ".join(f"{tables[table]['hot'] or 0:.0f}%" for table in ("lanes", "slots", "jobs"))
    print(f"| {name} | {rates} | {1_000 * cpu:.3f} | {wal:,.0f} | {megabytes:.1f} | {hot} | {vacuums} |", flush=True)


@asynccontextmanager
async def opened(
    url: str, shape: Shape, database: Callable[[], float], *, settings: str = ""
) -> AsyncIterator[Frontier]:
    """The crawler's tables in a database of their own, which ends with the block, and a broker of no cost."""
    name = f"benchmark_{uuid4().hex}"
    await _execute(url, f'CREATE DATABASE "{name}"')
    own = url.rpartition("/")[0] + "/" + name
    try:
        await migrate(own, package="crawler", schema="crawler")
        async with open_pool(own, schema="crawler", settings=store.PLANNER) as pool:
            if settings:
                await pool.execute(settings)
            relay = Relay(pool, _confirmed)
            stop = asyncio.Event()
            relaying = asyncio.create_task(relay.run(stop))
            yield Frontier(pool, relay, shape, database)
            stop.set()
            await relaying
    finally:
        await _execute(url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _confirmed(*_: object) -> None:
    """Publish at once."""


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def main() -> int:
    """Read the command line and measure; 2 when there is no database to be had."""
    names = [*PARTS, "settings"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description="Measure the frontier.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which of {', '.join(names)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a hundredth of it: does it run?")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(names):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    async def run(url: str, database: Callable[[], float]) -> None:
        for part in arguments.parts or names:
            shape = PARTS.get(part, COMPARED)
            if arguments.quick:
                fewer = 10 if shape.jobs > 10 else 1
                shape = Shape(shape.jobs // fewer, shape.pages * fewer // 100, shape.hosts)
            if part in PARTS:
                await measure(url, shape, database, step=shape.total // 10)
            else:
                await compare(url, shape, database, step=shape.total // 6)

    try:
        with open_backing_services(lambda line: print(line, file=sys.stderr)) as backing:
            server = backing.database
            pid = server.pid if isinstance(server, PrivateServer) else None
            asyncio.run(run(backing.database_url, lambda: cpu_seconds(pid) if pid else 0.0))
    except BackingServicesError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
