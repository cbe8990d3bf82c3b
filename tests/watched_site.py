"""A site on this machine that knows who asked for what, when, and how many at once; and a crawler to send there."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from uuid import uuid4

from aiohttp import web
from crawler.fetch import Fetcher
from crawler.isolation import IsolatedParser
from crawler.politeness import Politeness
from crawler.visit import Visitor
from crawler.worker import Worker
from made_up_web import crawler_deps
from tallyho_postgres.pool import Pool

USER_AGENT = "Tallyho/test"


def page(*links: str, text: str = "text") -> web.Response:
    """A page with links."""
    anchors = " ".join(f'<a href="{link}">{link}</a>' for link in links)
    return web.Response(text=f"<title>Page</title><main><p>{text}</p>{anchors}</main>", content_type="text/html")


@dataclass
class WatchedSite:
    """Answers each path as `answers` says, and 404 elsewhere; robots.txt like any other path."""

    answers: dict[str, Callable[[], web.Response]] = field(default_factory=dict)
    # Every answer but that of robots.txt waits for this, then for so many seconds.
    open: asyncio.Event = field(default_factory=asyncio.Event)
    seconds: float = 0.0
    # Who asks with one of these entity tags is told that nothing has changed.
    not_modified: set[str] = field(default_factory=set)
    arrivals: list[tuple[str, float]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    under_way: int = 0
    most_under_way: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    url: str = ""

    @property
    def requests(self) -> Counter[str]:
        """How often each path was asked for."""
        return Counter(path for path, _ in self.arrivals)

    async def answer(self, request: web.Request) -> web.Response:
        """Note a request and answer it."""
        self.arrivals.append((request.path, monotonic()))
        self.agents.add(request.headers["User-Agent"])
        if request.path == "/robots.txt":
            return self.answers.get(request.path, _missing)()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        async with self.changed:
            self.changed.notify_all()
        try:
            await self.open.wait()
            if self.seconds:
                await asyncio.sleep(self.seconds)  # a server that takes its time is what is served
            if request.headers.get("If-None-Match") in self.not_modified:
                return web.Response(status=304)
            return self.answers.get(request.path, _missing)()
        finally:
            self.under_way -= 1

    async def asked(self, pages: int) -> None:
        """Wait until so many pages have been asked for."""
        async with self.changed, asyncio.timeout(60):
            await self.changed.wait_for(lambda: self.requests.total() - self.requests["/robots.txt"] >= pages)


def _missing() -> web.Response:
    return web.Response(status=404)


@asynccontextmanager
async def serving(
    answers: dict[str, Callable[[], web.Response]], *, seconds: float = 0.0
) -> AsyncIterator[WatchedSite]:
    """Serve a site on this machine; it is open."""
    site = WatchedSite(answers, seconds=seconds)
    site.open.set()
    application = web.Application()
    application.router.add_route("GET", "/{path:.*}", site.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        yield site
    finally:
        site.open.set()
        await runner.cleanup()


@asynccontextmanager
async def visiting(
    pool: Pool, *, host_delay: float = 0.0, max_attempts: int = 3, allow_private: bool = True
) -> AsyncIterator[Visitor]:
    """What one crawler process visits pages with."""
    fetching = Fetcher(user_agent=USER_AGENT, timeout=10.0, allow_private=allow_private)
    async with fetching as fetcher, IsolatedParser() as parser:
        politeness = Politeness(pool, fetcher, user_agent=USER_AGENT, host_delay=host_delay)
        yield Visitor(pool, fetcher, fetcher, politeness, parser, max_attempts)


@asynccontextmanager
async def working(
    pool: Pool,
    *,
    host_concurrency: int = 4,
    host_delay: float = 0.0,
    allow_private: bool = True,
    lease_seconds: float = 3.0,
) -> AsyncIterator[Worker]:
    """A crawler process at work, as its `__main__` wires it, until the block ends."""
    deps = crawler_deps(pool, host_concurrency=host_concurrency, host_delay=host_delay)
    async with visiting(pool, host_delay=host_delay, allow_private=allow_private) as visitor:
        worker = Worker(deps, visitor, uuid4(), 16, lease_seconds, asyncio.Event())
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop.set()
            await running


async def until(is_so: Callable[[], Awaitable[object]], *, seconds: float = 60.0) -> None:
    """Wait until something is so that can't be awaited, such as the contents of a table."""
    async with asyncio.timeout(seconds):
        while not await is_so():
            await asyncio.sleep(0.02)  # a table can't be awaited


async def done(pool: Pool) -> None:
    """Wait until no job has pages left."""

    async def is_empty() -> bool:
        return not await pool.fetchval("SELECT EXISTS (SELECT FROM queue)")

    await until(is_empty)
