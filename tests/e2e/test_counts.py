"""The counts of whole crawls, with two replicas of everything that has replicas."""

import asyncio

import asyncpg
from crawling import check_count, check_every_state, crawl, settled
from sites import made_up_site
from tallyho.system import System
from tallyho_contracts.jobs import JobStatus


async def test_documentation_site_is_counted_exactly(system: System, site: str, reachable: int) -> None:
    states = await crawl(system.url, site)

    check_every_state(states)
    assert states[-1].status is JobStatus.COMPLETED
    await check_count(system.url, system.database_url, states, reachable)


async def test_site_with_redirects_failures_and_broken_links_is_counted_exactly(system: System) -> None:
    with made_up_site(150) as site:
        states = await crawl(system.url, site)

    check_every_state(states)
    last = states[-1]
    assert last.status is JobStatus.COMPLETED
    assert last.failed_children == 15  # a broken link on every tenth page
    assert last.skipped_children == 75  # a redirect to the first child of every page that has one
    await check_count(system.url, system.database_url, states, 150)


async def test_budget_gives_exactly_that_many_documents(system: System) -> None:
    with made_up_site(300) as site:
        states = await crawl(system.url, site, max_pages=97)

    check_every_state(states)
    assert states[-1].status is JobStatus.COMPLETED
    await check_count(system.url, system.database_url, states, 97)


async def test_depth_limit_gives_the_same_pages_every_time(system: System) -> None:
    with made_up_site(300) as site:
        runs = await asyncio.gather(*(crawl(system.url, site, max_depth=5) for _ in range(3)))

    for states in runs:
        check_every_state(states)
        # Each page has two children: 1 + 2 + 4 + … + 32.
        await check_count(system.url, system.database_url, states, 63)


async def test_twenty_jobs_at_once_are_each_exact(system: System) -> None:
    with made_up_site(60) as first, made_up_site(45) as second:
        expected = {first: 60, second: 45}
        crawls = [crawl(system.url, site) for site in [first, second] * 10]
        runs = await asyncio.gather(*crawls)

    for site, states in zip([first, second] * 10, runs, strict=True):
        check_every_state(states)
        await check_count(system.url, system.database_url, states, expected[site])


async def test_second_crawl_counts_in_full_and_doubles_no_document(system: System) -> None:
    with made_up_site(80) as site:
        first = await crawl(system.url, site)
        second = await crawl(system.url, site)

    for states in (first, second):
        await check_count(system.url, system.database_url, states, 80)
    connection = await asyncpg.connect(system.database_url)
    stored = await connection.fetchval("SELECT count(*) FROM crawler.documents WHERE url LIKE $1", f"{site}%")
    await connection.close()
    assert stored == 80


async def test_everything_committed_is_published_in_the_end(system: System) -> None:
    with made_up_site(20) as site:
        await crawl(system.url, site)

    assert await settled(system.database_url)


async def test_job_that_saves_nothing_fails_and_says_why(system: System) -> None:
    with made_up_site(1) as site:
        states = await crawl(system.url, f"{site}nowhere.html")

    check_every_state(states)
    assert states[-1].status is JobStatus.FAILED
    assert states[-1].error == "no document was saved: 1 x http_404"
