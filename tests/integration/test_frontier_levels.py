"""A depth limit: the crawl goes level by level, so that what it reaches does not depend on the order of the visits."""

import random

import pytest
from crawler.deps import Deps
from crawler.handlers import on_work
from frontier_checks import Ledgers, check_frontier, pass_time
from made_up_web import (
    Chance,
    SimulatedWorker,
    Web,
    WebPage,
    crawler_deps,
    depths,
    good_pages,
    random_id,
    random_web,
    start,
)
from tallyho_postgres.pool import Pool

# Each at a site, and so in a lane, of its own.
A, B, C, D, E = (f"http://{name}.test/" for name in "abcde")
MOST_STEPS = 2_000


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


@pytest.fixture
def ledgers(crawler_pool: Pool) -> Ledgers:
    return Ledgers(crawler_pool)


@pytest.mark.parametrize("group", range(3))
async def test_what_is_reached_within_a_depth_is_what_breadth_first_search_reaches(
    deps: Deps, ledgers: Ledgers, group: int
) -> None:
    for number in range(10):
        rng = random.Random(10 * group + number)
        web = random_web(rng, pages=20, hosts=[f"{host}.web-{number}.test" for host in range(2)], trouble=0.6)
        seed, max_depth = rng.choice(sorted(web)), rng.randint(1, 4)
        job_id = await start(deps, seed, job_id=random_id(rng), max_depth=max_depth)
        chance = Chance(rng, deps.pool, web)
        for _ in range(MOST_STEPS):
            await chance.step()
            await check_frontier(deps.pool)
            if not await deps.pool.fetchval("SELECT count(*) FROM queue"):
                break
        await ledgers.check()

        assert ledgers.of[job_id].saved == good_pages(web, [seed], max_depth)
        assert {page.url: page.depth for page in ledgers.of[job_id].finished.values()} == depths(web, [seed], max_depth)


async def test_no_page_is_offered_before_all_less_deep_ones_are_closed(deps: Deps) -> None:
    web: Web = {A: WebPage(links=(C, D)), B: WebPage(links=(E,)), C: WebPage(), D: WebPage(), E: WebPage()}
    await start(deps, A, B, max_depth=3)
    worker = SimulatedWorker(deps, web)
    await worker.claim()
    await on_work(deps, worker.finish(but=B))
    await check_frontier(deps.pool)
    early = await worker.claim()
    await on_work(deps, worker.finish(but=B))
    await on_work(deps, worker.finish())
    await check_frontier(deps.pool)
    pages = await worker.claim()

    assert early == []
    assert {page.url for page in pages} == {C, D, E}
    assert {page.depth for page in pages} == {1}


async def test_lanes_of_the_next_level_sleep_until_it_begins(deps: Deps) -> None:
    web: Web = {A: WebPage(links=(C, D)), B: WebPage(), C: WebPage(), D: WebPage()}
    await start(deps, A, B, max_depth=3)
    worker = SimulatedWorker(deps, web)
    await worker.claim()
    await on_work(deps, worker.finish(but=B))
    await worker.claim()
    await on_work(deps, worker.finish(but=B))
    asleep = await deps.pool.fetch("SELECT origin || '/' AS url FROM lanes WHERE due_at = 'infinity'")
    await on_work(deps, worker.finish())
    await check_frontier(deps.pool)

    assert {row["url"] for row in asleep} == {C, D}
    assert {page.url for page in await worker.claim()} == {C, D}


async def test_retries_delay_a_level_but_do_not_stop_it(deps: Deps, ledgers: Ledgers) -> None:
    web: Web = {A: WebPage(links=(C,)), B: WebPage(hiccups=2), C: WebPage(links=(D,)), D: WebPage()}
    job_id = await start(deps, A, B, max_depth=1)
    worker = SimulatedWorker(deps, web, retry_delay=30.0)
    for _ in range(2):
        await worker.crawl()
        await ledgers.check()
        assert {page.url for page in ledgers.of[job_id].finished.values()} == {A}
        await pass_time(deps.pool, 31)
    await worker.crawl()
    await ledgers.check()

    assert ledgers.of[job_id].saved == {A, B, C}
    assert sum(page.skipped_links.get("depth", 0) for page in ledgers.of[job_id].finished.values()) == 1


@pytest.mark.parametrize("first", [A, B])
async def test_redirect_shows_that_a_queued_page_stands_less_deep(deps: Deps, ledgers: Ledgers, first: str) -> None:
    """B redirects to C, to which A links: C is no deeper than B, whichever of A and B is visited first."""
    web: Web = {A: WebPage(links=(C,)), B: WebPage(redirect_to=C), C: WebPage(links=(D,)), D: WebPage()}
    job_id = await start(deps, A, B, max_depth=1)
    worker = SimulatedWorker(deps, web)
    await worker.claim()
    last = B if first == A else A
    for _ in range(2):
        await on_work(deps, worker.finish(but=last))
        await check_frontier(deps.pool)
        # The second time, what was found is looked at, and sleeps if it is too deep for now.
        await worker.claim()
    await on_work(deps, worker.finish())
    await check_frontier(deps.pool)
    await worker.crawl()
    await ledgers.check()

    assert ledgers.of[job_id].saved == {A, C, D}
    assert {page.url: page.depth for page in ledgers.of[job_id].finished.values()} == {A: 0, B: 0, C: 0, D: 1}
