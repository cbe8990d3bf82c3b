"""The tracker's commands to the crawler, in any order and number: each page of a cancelled job is closed once."""

import asyncio
import random
from uuid import UUID, uuid4

import pytest
from crawler.commands import CLOSED_AT_ONCE, close_some, on_commands
from crawler.deps import Deps
from crawler.handlers import on_work
from frontier_checks import Ledgers, check_frontier, events
from made_up_web import (
    SimulatedWorker,
    Web,
    WebPage,
    crawl_at_once,
    crawler_deps,
    good_pages,
    random_id,
    random_web,
    start,
)
from tallyho_contracts.crawls import (
    CrawlCancel,
    CrawlCommand,
    CrawlOptions,
    CrawlPause,
    CrawlResume,
    CrawlStart,
    CrawlStarted,
    CrawlStopped,
    RejectedSeed,
)
from tallyho_messaging.wire import event_of
from tallyho_postgres.pool import Pool

SITE = "http://site.test"
A, B, C = (f"{SITE}/{name}" for name in "abc")
WEB: Web = {A: WebPage(links=(B, C)), B: WebPage(), C: WebPage()}


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


@pytest.fixture
def ledgers(crawler_pool: Pool) -> Ledgers:
    return Ledgers(crawler_pool)


async def command(deps: Deps, *commands: CrawlCommand | CrawlStart) -> None:
    """Give commands as the tracker does."""
    await on_commands(deps, [event_of(one, source="job-tracker", subject=one.job_id) for one in commands])


async def rows(pool: Pool) -> int:
    """How many rows jobs have in the tables of the frontier."""
    count: int = await pool.fetchval(
        "SELECT (SELECT count(*) FROM queue) + (SELECT count(*) FROM lanes) + (SELECT count(*) FROM job_hosts)"
    )
    return count


async def test_pages_of_a_cancelled_job_are_named_and_forgotten(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A, B, C, max_pages=2, max_host_pages=9)
    await command(deps, CrawlCancel(job_id=job_id, revision=2))
    await ledgers.check()

    assert {page.url for page in ledgers.of[job_id].known.values()} == {A, B}
    assert ledgers.of[job_id].cancelled == set(ledgers.of[job_id].known)
    assert await rows(deps.pool) == 0


async def test_visit_that_a_cancel_overtook_changes_nothing(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    await command(deps, CrawlCancel(job_id=job_id, revision=2))
    await on_work(deps, worker.finish())
    await ledgers.check()

    assert ledgers.of[job_id].finished == {}
    assert len(ledgers.of[job_id].cancelled) == 1
    assert await deps.pool.fetchval("SELECT count(*) FROM documents") == 0
    assert await deps.pool.fetchval("SELECT count(*) FROM slots WHERE owner IS NOT NULL") == 0


async def test_page_that_ends_while_its_job_is_being_cancelled_adds_no_more(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    await deps.pool.execute("UPDATE jobs SET status = 'cancelled', revision = 2")
    await on_work(deps, worker.finish())
    await command(deps, CrawlCancel(job_id=job_id, revision=2))
    await ledgers.check()

    assert ledgers.of[job_id].saved == {A}
    assert len(ledgers.of[job_id].known) == 1
    assert ledgers.of[job_id].cancelled == set()


async def test_cancel_before_the_start_is_remembered(deps: Deps, ledgers: Ledgers) -> None:
    job_id = uuid4()
    await command(deps, CrawlCancel(job_id=job_id, revision=2))
    await start(deps, A, job_id=job_id)
    await ledgers.check()

    assert ledgers.of[job_id].starts == 1
    assert ledgers.of[job_id].known == {}
    assert await SimulatedWorker(deps, WEB).claim() == []


async def test_job_stays_cancelled(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    await command(
        deps,
        CrawlCancel(job_id=job_id, revision=2),
        CrawlResume(job_id=job_id, revision=3),
        CrawlStart(job_id=job_id, revision=1, seeds=(B,)),
    )
    await ledgers.check()

    assert await SimulatedWorker(deps, WEB).claim() == []
    assert await deps.pool.fetchval("SELECT status FROM jobs") == "cancelled"
    assert ledgers.of[job_id].starts == 1


async def test_pause_before_the_start_holds_the_job_until_it_is_resumed(deps: Deps, ledgers: Ledgers) -> None:
    job_id = uuid4()
    worker = SimulatedWorker(deps, WEB)
    await command(deps, CrawlPause(job_id=job_id, revision=2))
    await start(deps, A, job_id=job_id)
    await check_frontier(deps.pool)
    paused = await worker.claim()
    await command(deps, CrawlResume(job_id=job_id, revision=3))
    await worker.crawl()
    await ledgers.check()

    assert paused == []
    assert ledgers.of[job_id].saved == {A, B, C}


async def test_paused_job_finishes_the_pages_under_way_and_offers_no_more(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    await command(deps, CrawlPause(job_id=job_id, revision=2))
    await on_work(deps, worker.finish())
    await ledgers.check()

    assert ledgers.of[job_id].saved == {A}
    assert {page.url for page in ledgers.of[job_id].known.values()} == {A, B, C}
    assert await worker.claim() == []


async def test_older_command_that_comes_later_is_ignored(deps: Deps) -> None:
    job_id = await start(deps, A)
    await command(deps, CrawlResume(job_id=job_id, revision=3), CrawlPause(job_id=job_id, revision=2))

    assert await deps.pool.fetchval("SELECT status FROM jobs") == "running"


async def test_cancel_is_for_ever_and_so_never_too_old(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    await command(deps, CrawlPause(job_id=job_id, revision=3), CrawlCancel(job_id=job_id, revision=2))
    await ledgers.check()

    assert await deps.pool.fetchval("SELECT status FROM jobs") == "cancelled"
    assert ledgers.of[job_id].open == set()


async def test_redelivered_commands_change_nothing(deps: Deps, ledgers: Ledgers) -> None:
    job_id = uuid4()
    options = CrawlOptions(max_pages=2)
    commands: list[CrawlCommand | CrawlStart] = [
        CrawlStart(job_id=job_id, revision=1, seeds=(A, B, C), options=options),
        CrawlPause(job_id=job_id, revision=2),
        CrawlResume(job_id=job_id, revision=3),
    ]
    await command(deps, *commands)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    await command(deps, *commands, *commands)
    await on_work(deps, worker.finish())
    await command(deps, *commands)
    await ledgers.check()

    assert ledgers.of[job_id].starts == 1
    assert await deps.pool.fetchval("SELECT status FROM jobs") == "running"

    again = await start(deps, A, B)
    for _ in range(2):
        await command(deps, CrawlCancel(job_id=again, revision=2))
    await ledgers.check()
    assert len(ledgers.of[again].cancelled) == 2


async def test_large_job_is_cancelled_some_pages_at_a_time(deps: Deps, ledgers: Ledgers) -> None:
    links = tuple(f"{SITE}/{number}" for number in range(2 * CLOSED_AT_ONCE + 300))
    job_id = await start(deps, A)
    worker = SimulatedWorker(deps, {A: WebPage(links=links)})
    await worker.claim()
    await on_work(deps, worker.finish())
    await worker.claim(lanes=2, pages_per_lane=50)
    await command(deps, CrawlCancel(job_id=job_id, revision=2))
    at_once = len(await deps.pool.fetch("SELECT FROM queue"))
    while await close_some(deps, job_id):
        pass
    stopped = [len(event.data.page_ids) for event in await events(deps.pool) if isinstance(event.data, CrawlStopped)]
    await ledgers.check()

    assert at_once == len(links) - CLOSED_AT_ONCE
    assert sorted(stopped) == [300, CLOSED_AT_ONCE, CLOSED_AT_ONCE]
    assert len(ledgers.of[job_id].cancelled) == len(links)
    assert ledgers.of[job_id].open == set()


async def test_seed_that_is_no_url_is_named_and_the_others_are_crawled(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, "ftp://site.test/", B, "http://[", f"{SITE}/x/../b")
    [started] = [event.data for event in await events(deps.pool) if isinstance(event.data, CrawlStarted)]
    await ledgers.check()

    assert [page.url for page in started.pages] == [B]
    assert {seed.url for seed in started.rejected} == {"ftp://site.test/", "http://["}
    assert all(isinstance(seed, RejectedSeed) and seed.reason for seed in started.rejected)
    assert len(ledgers.of[job_id].open) == 1


async def test_commands_and_workers_at_the_same_time_lose_nothing(deps: Deps, ledgers: Ledgers) -> None:
    rng = random.Random(20)
    web = random_web(rng, pages=60, hosts=[f"{host}.web.test" for host in range(6)])
    seeds = sorted(web)[:3]
    spared = [await start(deps, *seeds, job_id=random_id(rng), max_pages=pages) for pages in (None, 10, 30)]
    doomed = [random_id(rng) for _ in range(6)]

    async def live_and_die(job_id: UUID, delay: float) -> None:
        await start(deps, *seeds, job_id=job_id)
        await asyncio.sleep(delay)
        await asyncio.gather(
            command(deps, CrawlCancel(job_id=job_id, revision=4)),
            command(deps, CrawlPause(job_id=job_id, revision=3)),
            command(deps, CrawlCancel(job_id=job_id, revision=4)),
        )

    await asyncio.gather(
        crawl_at_once([random.Random(number) for number in range(4)], deps.pool, web),
        *(live_and_die(job_id, rng.random() / 2) for job_id in doomed),
    )
    # A worker may have ended before the last job began.
    await crawl_at_once([rng], deps.pool, web)
    await ledgers.check()

    assert [ledgers.of[job_id].open for job_id in (*spared, *doomed)] == [set()] * 9
    good = good_pages(web, seeds)
    assert [len(ledgers.of[job_id].saved) for job_id in spared] == [len(good), 10, min(30, len(good))]
