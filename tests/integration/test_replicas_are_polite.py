"""Several crawler processes and several jobs together keep to the rate and the concurrency of a host."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web
from crawler.deps import Deps
from made_up_web import crawler_deps, start
from tallyho_postgres.pool import Pool
from watched_site import WatchedSite, page, serving, until

Answers = dict[str, Callable[[], web.Response]]

REPLICAS = 3
DELAY = 0.15
# A replica fetches two pages at once, so none can serve a host alone: neither three pages at once, nor one each 0.15
# seconds of those that take 0.4.
SECONDS = 0.4
PAGES = [f"/{number}" for number in range(14)]


@asynccontextmanager
async def replica(number: int, amqp_url: str, database_url: str) -> AsyncIterator[Process]:
    """A crawler as it is deployed, ready, whose requests can be told from those of the others."""
    environment = os.environ | {
        "AMQP_URL": amqp_url,
        "DATABASE_URL": database_url,
        "CRAWLER_ALLOW_PRIVATE_ADDRESSES": "true",
        "CRAWLER_HOST_CONCURRENCY": "3",
        "CRAWLER_CONCURRENCY": "2",
        "CRAWLER_CONTACT": f"replica-{number}@example.com",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "crawler", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    try:
        while b"ready" not in (line := await process.stderr.readline()):
            assert line, "the process ended"
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool, host_concurrency=3)


def check_rate(site: WatchedSite) -> None:
    # Whoever asks for a page has heard of the delay before.
    began = min(at for path, at in site.arrivals if path == "/robots.txt")
    arrivals = [at for path, at in site.arrivals if path != "/robots.txt"]

    assert len(arrivals) == 2 * len(PAGES)
    # A request can be late on a busy machine, which brings it nearer to the next, but none can be early.
    # Two processes that didn't know of each other would need half the time.
    assert all(at - began > number * DELAY - 0.02 for number, at in enumerate(arrivals))


def check_concurrency(site: WatchedSite) -> None:
    assert site.requests.total() == 2 * len(PAGES) + 1  # robots.txt once, by all of them
    assert 1 < site.most_under_way <= 3  # six, if they didn't know of each other


async def test_replicas_and_jobs_share_the_rate_and_the_concurrency_of_a_host(
    deps: Deps, amqp_url: str, database_url: str
) -> None:
    answers: Answers = dict.fromkeys([*PAGES, *(f"/other{path}" for path in PAGES)], page)
    rules: Answers = {"/robots.txt": lambda: web.Response(text=f"User-agent: *\nCrawl-delay: {DELAY}")}
    async with (
        AsyncExitStack() as replicas,
        serving(answers | rules, seconds=SECONDS) as spaced,
        serving(answers, seconds=SECONDS) as shared,
    ):
        for number in range(REPLICAS):
            await replicas.enter_async_context(replica(number, amqp_url, database_url))
        for folder in ("", "/other"):
            for site in (spaced, shared):
                await start(deps, *(f"{site.url}{folder}{path}" for path in PAGES))

        async def is_done() -> bool:
            return not await deps.pool.fetchval("SELECT EXISTS (SELECT FROM queue)")

        await until(is_done, seconds=120)

    check_rate(spaced)
    check_concurrency(shared)
    for site in (spaced, shared):
        assert len(site.agents) > 1
        assert site.agents <= {f"Tallyho/0.1 (+replica-{number}@example.com)" for number in range(REPLICAS)}
