"""A web made up for a crawl, and a worker that visits it without HTTP: what the frontier does, thousands of times."""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from uuid import UUID, uuid4

import asyncpg
from crawler import store
from crawler.commands import start_crawl
from crawler.deps import Deps
from crawler.frontier import DocumentContent, Lane, Postponed, QueuedPage, Visit
from crawler.handlers import Work, claim, on_work
from crawler.known_urls import KnownUrls
from tallyho_contracts.crawls import CrawlOptions, CrawlStart
from tallyho_contracts.pages import Outcome
from tallyho_postgres.outbox import Relay
from tallyho_postgres.pool import Pool

LEASE = timedelta(seconds=10)


@dataclass(frozen=True)
class WebPage:
    """What is found at a URL: a document with links, a redirect, or nothing; at first `hiccups` failed fetches."""

    links: tuple[str, ...] = ()
    redirect_to: str | None = None
    missing: bool = False
    hiccups: int = 0


Web = dict[str, WebPage]


def random_web(rng: random.Random, *, pages: int, hosts: Sequence[str], trouble: float = 0.3) -> Web:
    """A web in which a page links anywhere, and of which the part `trouble` is missing, redirects or fails at first."""
    names = [f"http://{rng.choice(hosts)}/{number}" for number in range(pages)]
    web: Web = {}
    for url in names:
        links = tuple(rng.choices(names, k=rng.choice((0, 1, 2, 3, 8))))
        kind = rng.random() / trouble if trouble else 1.0
        if kind < 0.3:
            web[url] = WebPage(missing=True, hiccups=rng.choice((0, 1)))
        elif kind < 0.7:
            web[url] = WebPage(redirect_to=rng.choice([name for name in names if name != url]))
        else:
            web[url] = WebPage(links=links, hiccups=rng.choice((1, 2)) if kind < 1 else 0)
    return web


def depths(web: Web, seeds: Sequence[str], max_depth: int | None = None) -> dict[str, int]:
    """How deep each page stands that can be reached from `seeds`. A redirect is no step deeper."""
    found: dict[str, int] = {}
    waiting = deque((seed, 0) for seed in seeds)
    while waiting:
        url, depth = waiting.popleft()
        if url in found or (max_depth is not None and depth > max_depth):
            continue
        found[url] = depth
        page = web[url]
        if page.redirect_to:
            waiting.appendleft((page.redirect_to, depth))
        elif not page.missing:
            waiting.extend((link, depth + 1) for link in page.links)
    return found


def good_pages(web: Web, seeds: Sequence[str], max_depth: int | None = None) -> set[str]:
    """The URLs of the documents that a crawl of `seeds` must save."""
    return {url for url in depths(web, seeds, max_depth) if not web[url].missing and not web[url].redirect_to}


def crawler_deps(pool: Pool, *, host_concurrency: int = 4, host_delay: float = 0.0) -> Deps:
    """A crawler process at a database. What it tells stays in the outbox."""
    return Deps(pool, Relay(pool, _nobody), partial(datetime.now, UTC), KnownUrls(), host_concurrency, host_delay)


async def _nobody(*_: object) -> None:
    raise AssertionError("a test's outbox is not published")


def random_id(rng: random.Random) -> UUID:
    """An id that is the same in each run: it decides which pages share a lane."""
    return UUID(int=rng.getrandbits(128), version=4)


async def start(deps: Deps, *seeds: str, job_id: UUID | None = None, revision: int = 1, **options: object) -> UUID:
    """Start a crawl of `seeds`; returns its job."""
    job_id = job_id or uuid4()
    rules = CrawlOptions.model_validate({"same_site": False, **options})
    await start_crawl(deps, CrawlStart(job_id=job_id, revision=revision, seeds=seeds, options=rules))
    return job_id


def document(url: str, links: Sequence[str] = (), *, text: str = "text") -> DocumentContent:
    """What would be extracted from a page."""
    return DocumentContent(
        title=url,
        content=text,
        links=tuple(links),
        content_hash=sha256(text.encode()).hexdigest(),
        status_code=200,
        content_type="text/html",
        etag=None,
        last_modified=None,
    )


def visit_to(page: QueuedPage, web: Web, *, retry_delay: float = 0.0) -> Visit | Postponed:
    """How a visit to a made-up page ends."""
    found = web[page.url]
    if page.attempts < found.hiccups:
        return Postponed(page, retry_delay)
    if found.missing:
        return Visit(page, Outcome.FAILED, "http_404", 404)
    if found.redirect_to:
        return Visit(page, Outcome.SKIPPED, "redirect", 301, redirect_to=found.redirect_to)
    return Visit(page, Outcome.COMPLETED, status_code=200, document=document(page.url, found.links))


@dataclass
class SimulatedWorker:
    """A worker whose visits take no time and whose steps a test decides on."""

    deps: Deps
    web: Web = field(default_factory=dict)
    retry_delay: float = 0.0
    worker_id: UUID = field(default_factory=uuid4)
    held: list[tuple[Lane, list[QueuedPage]]] = field(default_factory=list)

    async def beat(self) -> int:
        """Prolong the lease."""
        async with self.deps.pool.acquire() as connection:
            return await store.register_worker(connection, self.worker_id, LEASE, self.deps.render)

    async def claim(
        self, *, lanes: int = 100, lanes_per_origin: int = 100, pages_per_lane: int = 100
    ) -> list[QueuedPage]:
        """Claim lanes, as one that lives; returns the pages."""
        await self.beat()
        claimed = await claim(
            self.deps, self.worker_id, lanes=lanes, lanes_per_origin=lanes_per_origin, pages_per_lane=pages_per_lane
        )
        self.held += claimed
        return [page for _, pages in claimed for page in pages]

    def finish(self, *, but: str | None = None) -> Work:
        """What came of all that is held, but for the lane with the URL `but`, whose visit takes longer."""
        work = Work()
        kept = [(lane, pages) for lane, pages in self.held if but in [page.url for page in pages]]
        for lane, pages in self.held:
            if (lane, pages) not in kept:
                self._visit(work, pages)
                work.served.append(lane)
        self.held = kept
        return work

    def finish_some(self, rng: random.Random) -> Work:
        """What came of some of it: of any lanes any number of pages, and some are given back early."""
        work = Work()
        for lane, pages in rng.sample(self.held, k=rng.randint(min(1, len(self.held)), len(self.held))):
            done = rng.randint(min(1, len(pages)), len(pages))
            self._visit(work, pages[:done])
            del pages[:done]
            if not pages or rng.random() < 0.2:
                work.served.append(lane)
                self.held = [held for held in self.held if held[0] is not lane]
        return work

    def _visit(self, work: Work, pages: Sequence[QueuedPage]) -> None:
        for page in pages:
            done = visit_to(page, self.web, retry_delay=self.retry_delay)
            if isinstance(done, Visit):
                work.visits.append(done)
            else:
                work.postponed.append(done)

    async def crawl(self) -> None:
        """Visit whatever is due until nothing is."""
        while await self.claim() or self.held:
            await on_work(self.deps, self.finish())

    async def leave(self) -> None:
        """Stop as a process does that was told to; what it holds is left."""
        self.held.clear()
        async with self.deps.pool.acquire() as connection:
            await store.remove_worker(connection, self.worker_id)


async def crawl_at_once(chances: Sequence[random.Random], pool: Pool, web: Web) -> int:
    """Crawl with a worker for each of `chances`, all at the same time, until nothing is left; returns the deadlocks.

    Now and then one of them is taken for dead while it is at work.
    """
    deadlocks = await asyncio.gather(*(_crawl_by_chance(rng, pool, web) for rng in chances))
    return sum(deadlocks)


async def _crawl_by_chance(rng: random.Random, pool: Pool, web: Web) -> int:
    worker = SimulatedWorker(crawler_deps(pool), web)
    deadlocks = 0
    while True:
        claimed = await worker.claim(lanes=rng.randint(1, 4), lanes_per_origin=rng.randint(1, 3), pages_per_lane=3)
        if not claimed and not worker.held and not await pool.fetchval("SELECT count(*) FROM queue"):
            return deadlocks
        if rng.random() < 0.1:
            worker.worker_id, dead = uuid4(), worker.worker_id
            await pool.execute("UPDATE workers SET alive_until = now() WHERE worker_id = $1", dead)
        await asyncio.sleep(rng.random() / 100)  # a visit
        work = worker.finish_some(rng)
        while True:
            try:
                await on_work(worker.deps, work)
                break
            except asyncpg.DeadlockDetectedError:
                deadlocks += 1
