"""A depth limit: the crawl goes level by level, so that what it reaches does not depend on the order of the visits."""

import pytest
from crawler.deps import Deps
from crawler.handlers import on_work
from frontier_checks import Ledgers, check_frontier, pass_time
from made_up_web import SimulatedWorker, Web, WebPage, crawler_deps, start
from tallyho_postgres.pool import Pool

# Each at a site, and so in a lane, of its own.
A, B, C, D, E = (f"http://{name}.test/" for name in "abcde")


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


@pytest.fixture
def ledgers(crawler_pool: Pool) -> Ledgers:
    return Ledgers(crawler_pool)


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


async def test_lane_of_the_next_level_sleeps_though_its_job_has_a_delay(deps: Deps) -> None:
    web: Web = {A: WebPage(links=(C,)), B: WebPage(), C: WebPage()}
    await start(deps, A, B, max_depth=3, delay=1.0)
    worker = SimulatedWorker(deps, web)
    await worker.claim()
    await on_work(deps, worker.finish(but=B))
    await deps.pool.execute("INSERT INTO paces SELECT job_id, origin, now() FROM lanes")  # it was asked before
    offered = await worker.claim()
    await on_work(deps, worker.finish(but=B))

    assert offered == []
    assert await deps.pool.fetchval("SELECT due_at = 'infinity' FROM lanes WHERE origin || '/' = $1", C)


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
