"""Crawls whose processes, broker and database are killed under them. The count is exact, and no one has to help."""

import asyncio
import random
from collections.abc import Iterator

import pytest
from crawling import check_count, check_every_state, crawl, settled
from sites import made_up_site
from tallyho.system import System, SystemOptions, running_system
from tallyho_contracts.jobs import JobStatus

PAGES = 400
SEED = 20261123


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    options = SystemOptions(
        crawlers=2, trackers=2, allow_private_addresses=True, settings={"CRAWLER_LEASE_SECONDS": "3"}
    )
    with running_system(options, report=print, supervised=True) as system:
        yield system


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A site that takes some seconds to crawl."""
    with made_up_site(PAGES, latency=0.1) as url:
        yield url


async def check(system: System, crawling: "asyncio.Task[list]") -> None:  # type: ignore[type-arg]  # of JobStates
    states = await crawling
    check_every_state(states)
    assert states[-1].status is JobStatus.COMPLETED
    assert await settled(system.database_url)
    await check_count(system.url, system.database_url, states, PAGES)


async def test_count_is_exact_when_a_random_service_is_killed_every_second(system: System, site: str) -> None:
    victims = random.Random(SEED)
    crawling = asyncio.create_task(crawl(system.url, site))
    for _ in range(8):
        await asyncio.wait([crawling], timeout=1)  # the faults come by the clock, as they do in life
        service = system.services[victims.choice(sorted(system.services))]
        await asyncio.to_thread(service.kill)

    await check(system, crawling)


async def test_count_is_exact_when_the_broker_is_killed_twice(system: System, site: str) -> None:
    crawling = asyncio.create_task(crawl(system.url, site))
    for _ in range(2):
        await asyncio.wait([crawling], timeout=2)
        await asyncio.to_thread(system.backing.broker.kill)
        await asyncio.wait([crawling], timeout=8)

    await check(system, crawling)


async def test_count_is_exact_when_the_database_is_killed(system: System, site: str) -> None:
    crawling = asyncio.create_task(crawl(system.url, site))
    for _ in range(2):
        await asyncio.wait([crawling], timeout=2)
        await asyncio.to_thread(system.backing.database.kill)

    await check(system, crawling)
