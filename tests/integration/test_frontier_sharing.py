"""Several jobs and several workers at one frontier: nobody is starved, and no locks are waited for in a ring."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from uuid import UUID

import pytest
from crawler.deps import Deps
from crawler.handlers import on_work
from frontier_checks import Ledgers
from made_up_web import SimulatedWorker, Web, WebPage, crawl_at_once, crawler_deps, good_pages, random_web, start
from tallyho_postgres.pool import Pool

SITE = "http://site.test"
MANY = [f"{SITE}/{number}" for number in range(400)]
PLAIN: Web = {url: WebPage() for url in MANY}


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


async def test_jobs_on_one_origin_are_served_in_turn(deps: Deps) -> None:
    jobs = [await start(deps, *MANY) for _ in range(3)]
    worker = SimulatedWorker(deps, PLAIN)
    served: Counter[UUID] = Counter()
    for _ in range(24):
        served.update(page.lane.job_id for page in await worker.claim(lanes=4, pages_per_lane=5))
        await on_work(deps, worker.finish())

    assert set(served) == set(jobs)
    assert min(served.values()) >= 0.8 * max(served.values())


async def test_pages_go_to_the_kind_of_crawler_that_their_job_wants(deps: Deps) -> None:
    plain, rendered = await start(deps, MANY[0]), await start(deps, "http://scripts.test/", render="browser")
    workers = SimulatedWorker(deps), SimulatedWorker(replace(deps, renders=True))
    claimed = [[page.lane.job_id for page in await worker.claim()] for worker in workers]

    assert claimed == [[plain], [rendered]]


async def test_small_job_does_not_wait_for_large_ones(deps: Deps) -> None:
    for _ in range(2):
        await start(deps, *MANY)
    worker = SimulatedWorker(deps, PLAIN)
    for _ in range(3):
        await worker.claim(lanes=4, pages_per_lane=5)
        await on_work(deps, worker.finish())
    small = await start(deps, MANY[0])
    pages = await worker.claim(lanes=4, pages_per_lane=5)

    assert small in {page.lane.job_id for page in pages}


async def test_no_slot_is_leased_to_two_that_claim_at_the_same_time(deps: Deps) -> None:
    for _ in range(3):
        await start(deps, *(f"http://host-{number % 20}.test/{number}" for number in range(200)))
    workers = [SimulatedWorker(deps) for _ in range(4)]
    for _ in range(6):
        await asyncio.gather(*(worker.claim(lanes=10, lanes_per_origin=2) for worker in workers))
    leased = Counter((lane.origin, lane.slot) for worker in workers for lane, _ in worker.held)

    assert set(leased.values()) == {1}
    assert len(leased) == await deps.pool.fetchval("SELECT count(*) FROM slots WHERE owner IS NOT NULL")
    assert await deps.pool.fetchval("SELECT max(epoch) FROM slots") == 1


async def test_groups_of_work_that_find_the_same_new_origins_do_not_deadlock(deps: Deps, crawler_owner: Pool) -> None:
    a, b = "http://a.test/", "http://b.test/"
    links = {f"http://seed-{number}.test/": link for number, link in enumerate((b, a, a, b))}
    web: Web = {url: WebPage(links=(link,)) for url, link in links.items()} | {a: WebPage(), b: WebPage()}
    jobs = [await start(deps, url, job_id=UUID(int=number)) for number, url in enumerate(links, 1)]
    worker = SimulatedWorker(deps, web)
    assert len(await worker.claim()) == 4
    groups = [
        SimulatedWorker(deps, web, held=[held for held in worker.held if held[0].job_id in part]).finish()
        for part in (jobs[:2], jobs[2:])
    ]
    await crawler_owner.execute("""
        CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END';
        CREATE TRIGGER dawdling BEFORE INSERT ON origins FOR EACH ROW EXECUTE FUNCTION dawdle()
    """)
    await asyncio.gather(*(on_work(deps, group) for group in groups))
    await Ledgers(deps.pool).check()

    assert await deps.pool.fetchval("SELECT count(*) FROM queue") == 4


async def test_many_workers_and_jobs_at_the_same_time_save_every_page_once_a_job(deps: Deps) -> None:
    rng = random.Random(7)
    web = random_web(rng, pages=60, hosts=[f"{host}.web.test" for host in range(20)])
    seeds = {await start(deps, seed): seed for seed in rng.sample(sorted(web), k=5)}
    deadlocks = await crawl_at_once([random.Random(number) for number in range(4)], deps.pool, web)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert {job_id: ledgers.of[job_id].saved for job_id in seeds} == {
        job_id: good_pages(web, [seed]) for job_id, seed in seeds.items()
    }
    assert deadlocks == 0
