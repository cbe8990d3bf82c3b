"""Who may fetch and close a page: slots are leased to workers, and a lease that was lost is worth nothing."""

import asyncio
from dataclasses import replace

import pytest
from crawler import store, urls
from crawler.deps import Deps
from crawler.frontier import FoundPage, Postponed, Visit, slot_of
from crawler.handlers import Work, claim, on_work
from crawler.store import SQL
from frontier_checks import Ledgers, check_frontier, pass_time
from made_up_web import LEASE, SimulatedWorker, Web, WebPage, crawler_deps, document, start
from tallyho_contracts.pages import Outcome
from tallyho_postgres.pool import Pool

SITE = "http://site.test"
A, B, C = (f"{SITE}/{name}" for name in "abc")
WEB: Web = {A: WebPage(links=(B, C, A)), B: WebPage(links=(A, C)), C: WebPage()}

MANY_PAGES = """
INSERT INTO queue (job_id, origin, slot, depth, page_id, url, redirects)
SELECT $1, $2, $3, 1, gen_random_uuid(), $2 || '/' || n, 0 FROM generate_series(1, 10000) AS n
"""
PAGES_READ = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'queue'::regclass"


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


@pytest.fixture
def ledgers(crawler_pool: Pool) -> Ledgers:
    return Ledgers(crawler_pool)


async def lose_leases(pool: Pool) -> None:
    """What comes to pass when no worker gives a sign for longer than its lease."""
    await pass_time(pool, LEASE.total_seconds() + 1)


async def someone_waits_for_a_lock(pool: Pool) -> None:
    async with asyncio.timeout(10):
        while not await pool.fetchval(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE datname = current_database() AND NOT granted"
        ):
            await asyncio.sleep(0.01)  # a lock's queue can't be awaited


async def test_page_is_fetched_once_however_often_it_is_found(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A, B, A)
    worker = SimulatedWorker(deps, WEB)
    visited: list[str] = []
    while pages := await worker.claim():
        visited += [page.url for page in pages]
        await on_work(deps, worker.finish())
    await ledgers.check()

    assert sorted(visited) == [A, B, C]
    assert ledgers.of[job_id].saved == {A, B, C}


async def test_page_is_fetched_once_also_by_a_process_that_remembers_nothing(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    for _ in range(3):
        forgetful = SimulatedWorker(crawler_deps(deps.pool), WEB)
        await forgetful.claim()
        await on_work(forgetful.deps, forgetful.finish())
        await forgetful.leave()
    await ledgers.check()

    assert ledgers.of[job_id].saved == {A, B, C}
    assert await SimulatedWorker(deps, WEB).claim() == []


async def test_living_worker_keeps_its_slots(deps: Deps) -> None:
    await start(deps, A)
    holder, other = SimulatedWorker(deps, WEB), SimulatedWorker(deps, WEB)
    await holder.claim()
    await pass_time(deps.pool, LEASE.total_seconds() / 2)

    assert await other.claim() == []
    assert await holder.claim() == []


async def test_slots_of_a_dead_worker_fall_to_another(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    dead, heir = SimulatedWorker(deps, WEB), SimulatedWorker(deps, WEB)
    await dead.claim()
    await lose_leases(deps.pool)
    await check_frontier(deps.pool)
    await heir.crawl()
    await ledgers.check()

    assert ledgers.of[job_id].saved == {A, B, C}


async def test_slots_of_a_stopped_worker_fall_to_another_at_once(deps: Deps) -> None:
    await start(deps, A)
    stopped, other = SimulatedWorker(deps, WEB), SimulatedWorker(deps, WEB)
    await stopped.claim()
    await stopped.leave()

    assert [page.url for page in await other.claim()] == [A]


async def test_only_one_of_two_workers_on_a_page_closes_it(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    first, second = SimulatedWorker(deps, WEB), SimulatedWorker(deps, WEB)
    [page] = await first.claim()
    await lose_leases(deps.pool)
    [again] = await second.claim()
    await asyncio.gather(on_work(deps, first.finish()), on_work(deps, second.finish()))
    await ledgers.check()

    assert again.page_id == page.page_id
    assert list(ledgers.of[job_id].finished) == [page.page_id]
    assert [saved.source_url for saved in ledgers.of[job_id].documents] == [A]
    assert {found.url for found in ledgers.of[job_id].known.values()} == {A, B, C}


async def test_visit_under_the_newer_lease_counts_when_one_process_made_both(deps: Deps, ledgers: Ledgers) -> None:
    """A process that was suspended can claim its own slot anew while it is still at the page it had claimed before."""
    job_id = await start(deps, A, max_pages=1)
    worker = SimulatedWorker(deps, {A: WebPage(missing=True)})
    await worker.claim()
    await lose_leases(deps.pool)
    worker.held += await claim(deps, worker.worker_id, lanes=1, lanes_per_origin=2, pages_per_lane=1)
    await on_work(deps, worker.finish())
    await ledgers.check()

    assert len(ledgers.of[job_id].finished) == 1
    assert await deps.pool.fetchval("SELECT admitted FROM jobs") == 0


async def test_suspended_worker_can_neither_close_nor_retry_nor_release(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    suspended, heir = SimulatedWorker(deps, WEB), SimulatedWorker(deps, WEB)
    [page] = await suspended.claim()
    await lose_leases(deps.pool)
    await heir.claim()
    await suspended.beat()
    await on_work(deps, Work(visits=[Visit(page, Outcome.COMPLETED, document=document(A))]))
    await on_work(deps, Work(postponed=[Postponed(page, 60.0)]))
    await on_work(deps, Work(served=[page.lane]))
    await ledgers.check()

    assert ledgers.of[job_id].finished == {}
    assert await deps.pool.fetchval("SELECT count(*) FROM documents") == 0
    assert await deps.pool.fetchval("SELECT attempts FROM queue") == 0
    assert await suspended.claim() == []
    await heir.crawl()
    await ledgers.check()
    assert ledgers.of[job_id].saved == {A, B, C}


async def test_worker_that_lost_its_lease_to_nobody_may_still_close(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    await lose_leases(deps.pool)
    await on_work(deps, worker.finish())
    await ledgers.check()

    assert ledgers.of[job_id].saved == {A}


async def test_work_whose_commit_was_not_heard_of_can_be_committed_again(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    work = worker.finish()
    await on_work(deps, work)
    await on_work(deps, work)
    await ledgers.check()
    await worker.crawl()
    await ledgers.check()

    assert ledgers.of[job_id].saved == {A, B, C}


async def test_failed_attempt_whose_commit_was_not_heard_of_counts_once(deps: Deps) -> None:
    await start(deps, A)
    worker = SimulatedWorker(deps, {A: WebPage(hiccups=1)})
    await worker.claim()
    work = worker.finish()
    await on_work(deps, work)
    await on_work(deps, work)

    assert await deps.pool.fetchval("SELECT attempts FROM queue") == 1


async def test_living_workers_share_an_origin(deps: Deps) -> None:
    await start(deps, *(f"{SITE}/{number}" for number in range(40)))
    first, second, third = (SimulatedWorker(deps) for _ in range(3))
    for worker in (first, second, third):
        for _ in range(3):
            await worker.claim(lanes_per_origin=2)

    assert [len(worker.held) for worker in (first, second, third)] == [2, 2, 0]


async def test_worker_with_its_share_of_one_origin_is_offered_the_others(deps: Deps) -> None:
    for _ in range(10):
        await start(deps, *(f"{SITE}/{number}" for number in range(40)))
    worker = SimulatedWorker(deps)
    await worker.claim(lanes=2, lanes_per_origin=2)
    await start(deps, "http://other.test/")
    await pass_time(deps.pool, 1)
    await deps.pool.execute("UPDATE lanes SET served_at = now() WHERE origin = 'http://other.test'")

    assert [page.url for page in await worker.claim(lanes=1, lanes_per_origin=2)] == ["http://other.test/"]


async def test_each_worker_counts_the_others_that_live(deps: Deps) -> None:
    first, second, third = (SimulatedWorker(deps) for _ in range(3))

    assert [await first.beat(), await second.beat(), await third.beat()] == [0, 1, 2]
    await second.leave()
    assert await first.beat() == 1
    await lose_leases(deps.pool)
    assert await first.beat() == 0


async def test_worker_counts_no_others_that_visit_the_pages_of_other_jobs(deps: Deps) -> None:
    workers = [SimulatedWorker(replace(deps, renders=renders)) for renders in (False, True, True)]
    for worker in workers:
        await worker.beat()
    counts = [await worker.beat() for worker in workers]

    assert counts == [0, 1, 1]


async def test_workers_that_died_long_ago_are_forgotten(deps: Deps) -> None:
    await deps.pool.execute("INSERT INTO workers VALUES (gen_random_uuid(), now() - interval '2 hours')")
    await SimulatedWorker(deps).beat()

    assert await deps.pool.fetchval("SELECT count(*) FROM workers") == 1


async def test_worker_that_slept_for_hours_lives_again(deps: Deps) -> None:
    worker, other = SimulatedWorker(deps), SimulatedWorker(deps)
    await worker.beat()
    await pass_time(deps.pool, 7200)

    assert await worker.beat() == 0
    assert await other.beat() == 1


async def test_slot_that_another_claims_under_ones_eyes_is_left_to_it(deps: Deps) -> None:
    """The loser of a race has read that the slot is free, and must look again once it can lock it."""
    await start(deps, A)
    winner, loser = SimulatedWorker(deps, WEB), SimulatedWorker(deps, WEB)
    await loser.beat()
    await winner.beat()
    between = "WHERE (SELECT pg_advisory_lock_shared(1)) IS NOT NULL AND lanes.due_at"
    slow_claim = SQL["claim_lanes"].replace("WHERE lanes.due_at", between)
    async with deps.pool.acquire() as gate:
        await gate.execute("SELECT pg_advisory_lock(1)")
        racing = asyncio.create_task(deps.pool.fetch(slow_claim, loser.worker_id, 10, 10, "none"))
        await someone_waits_for_a_lock(deps.pool)
        await winner.claim()
        await gate.execute("SELECT pg_advisory_unlock(1)")
        lost = await racing

    assert len(winner.held) == 1
    assert lost == []


async def test_giving_back_a_lane_does_not_read_all_of_its_pages(deps: Deps) -> None:
    job_id = await start(deps, A)
    worker = SimulatedWorker(deps, {})
    [queued] = await worker.claim()
    async with deps.pool.acquire() as connection, connection.transaction():
        for setting in store.PLANNER.items():
            await connection.execute("SELECT set_config($1, $2, true)", *setting)
        await connection.execute(MANY_PAGES, job_id, queued.lane.origin, queued.lane.slot)
        before = await connection.fetchval(PAGES_READ)
        await store.settle_lanes(connection, [queued.lane])
        read = await connection.fetchval(PAGES_READ) - before
        due = await connection.fetchval("SELECT due_at <= now() FROM lanes")

    assert read < 100
    assert due


async def test_page_that_joins_a_lane_that_is_due_writes_no_lane(deps: Deps) -> None:
    job_id = await start(deps, A)
    [lane] = await deps.pool.fetch("SELECT origin, slot, due_at FROM lanes")
    more = (FoundPage(job_id, urls.page_id(job_id, f"{SITE}/{n}"), f"{SITE}/{n}", depth=1) for n in range(50))
    pages = [page for page in more if slot_of(page.page_id, deps.host_concurrency) == lane["slot"]]
    written = "SELECT n_tup_upd FROM pg_stat_xact_user_tables WHERE relid = 'lanes'::regclass"
    async with deps.pool.acquire() as connection, connection.transaction():
        await store.enqueue_pages(connection, pages[:-1], host_concurrency=deps.host_concurrency)
        when_due = await connection.fetchval(written)
        await connection.execute("UPDATE lanes SET due_at = 'infinity'")
        await store.enqueue_pages(connection, pages[-1:], host_concurrency=deps.host_concurrency)
        due = await connection.fetchval("SELECT due_at <= now() FROM lanes")

    assert len(pages) > 1
    assert when_due == 0
    assert due
