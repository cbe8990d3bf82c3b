"""Budget and rate change while a job runs: the crawl goes on, or ends, with exactly what the newest rules say."""

import asyncio
import random
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from crawler import origins
from crawler.commands import close_some, on_commands
from crawler.deps import Deps
from crawler.frontier import Lane
from crawler.handlers import on_work
from crawler.politeness import Politeness
from crawler.robots import Robots
from frontier_checks import Ledgers
from made_up_web import SimulatedWorker, Web, WebPage, crawl_at_once, crawler_deps, random_web, start
from tallyho_contracts.crawls import CrawlCancel, CrawlChange, CrawlOptions
from tallyho_messaging.wire import event_of
from tallyho_postgres.pool import Pool

SITE = "http://site.test"
HUB = f"{SITE}/hub"
PAGES = [f"{SITE}/{number}" for number in range(60)]
WEB: Web = {HUB: WebPage(links=tuple(PAGES))} | {url: WebPage() for url in PAGES}


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


@pytest.fixture
def ledgers(crawler_pool: Pool) -> Ledgers:
    return Ledgers(crawler_pool)


async def change(deps: Deps, job_id: UUID, revision: int, **options: object) -> None:
    """Give a job other rules, as the tracker does."""
    rules = CrawlOptions.model_validate({"same_site": False, **options})
    command = CrawlChange(job_id=job_id, revision=revision, options=rules)
    await on_commands(deps, [event_of(command, source="job-tracker", subject=job_id)])


async def close_all(deps: Deps, job_id: UUID) -> None:
    """Do what the workers' loop does for a job that is being closed."""
    while await close_some(deps, job_id):
        pass


async def test_raised_budget_lets_those_in_who_wait(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, HUB, max_pages=5)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    await on_work(deps, worker.finish())
    await change(deps, job_id, 2, max_pages=30)
    await ledgers.check()
    joined = len(ledgers.of[job_id].known)
    await worker.crawl()
    await ledgers.check()

    assert (joined, ledgers.of[job_id].changes) == (30, [2])
    assert len(ledgers.of[job_id].saved) == 30


async def test_url_that_waited_is_visited_by_a_crawler_with_another_host_concurrency(
    deps: Deps, ledgers: Ledgers
) -> None:
    missing: Web = {HUB: WebPage(links=tuple(PAGES))} | {url: WebPage(missing=True) for url in PAGES}
    job_id = await start(deps, HUB, max_pages=2)
    worker = SimulatedWorker(deps, missing)
    await worker.claim()
    await on_work(deps, worker.finish())
    # Some join because pages before them failed, others for a larger budget.
    worker.deps = replace(deps, host_concurrency=16)
    for _ in range(20):
        await worker.claim()
        await on_work(worker.deps, worker.finish())
    await ledgers.check()
    await change(replace(deps, host_concurrency=64), job_id, 2, max_pages=40)
    await ledgers.check()
    await worker.crawl()
    await ledgers.check()

    assert not ledgers.of[job_id].open
    assert ledgers.of[job_id].reasons == {"http_404": len(PAGES)}


async def test_raised_budget_goes_on_after_the_last_page_of_the_old_one(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, HUB, max_pages=5)
    worker = SimulatedWorker(deps, WEB)
    await worker.crawl()
    await ledgers.check()
    before = len(ledgers.of[job_id].saved)
    await change(deps, job_id, 2, max_pages=None)
    await worker.crawl()
    await ledgers.check()

    assert before == 5
    assert ledgers.of[job_id].saved == set(WEB)


async def test_lowered_budget_ends_with_exactly_as_many_documents_and_the_rest_skipped(
    deps: Deps, ledgers: Ledgers
) -> None:
    job_id = await start(deps, HUB, max_pages=1000)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    await on_work(deps, worker.finish())
    await change(deps, job_id, 2, max_pages=20)
    await ledgers.check()
    await worker.claim()
    await on_work(deps, worker.finish())
    await close_all(deps, job_id)
    await ledgers.check()

    assert len(ledgers.of[job_id].saved) == 20
    assert not ledgers.of[job_id].open
    assert ledgers.of[job_id].reasons == {"budget": 41}
    assert await worker.claim() == []


async def test_budget_that_is_lowered_below_what_is_saved_ends_the_crawl(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, HUB)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    await on_work(deps, worker.finish())
    await change(deps, job_id, 2, max_pages=1)
    claimed = await worker.claim()
    await close_all(deps, job_id)
    await ledgers.check()

    assert claimed == []
    assert ledgers.of[job_id].saved == {HUB}
    assert not ledgers.of[job_id].open


async def test_budget_lowered_by_mistake_and_raised_again_loses_nothing(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, HUB, max_pages=1000)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    await on_work(deps, worker.finish())
    await change(deps, job_id, 2, max_pages=1)
    await change(deps, job_id, 3, max_pages=1000)
    await close_all(deps, job_id)
    await worker.crawl()
    await ledgers.check()

    assert ledgers.of[job_id].saved == set(WEB)


async def test_hosts_keep_their_number_of_pages_when_a_budget_is_spent_and_raised_again(
    deps: Deps, ledgers: Ledgers
) -> None:
    web = {url: WebPage(links=tuple(PAGES)) for url in WEB}
    job_id = await start(deps, HUB, max_pages=3, max_host_pages=5)
    worker = SimulatedWorker(deps, web)
    await worker.claim()
    await on_work(deps, worker.finish())
    await change(deps, job_id, 2, max_pages=1, max_host_pages=5)
    await close_all(deps, job_id)
    await change(deps, job_id, 3, max_pages=100, max_host_pages=5)
    # Another process: what this one has met, it does not judge again.
    await SimulatedWorker(crawler_deps(deps.pool), web).crawl()
    await ledgers.check()

    assert len(ledgers.of[job_id].saved) == 3
    assert len(ledgers.of[job_id].known) == 5


async def test_older_change_that_comes_late_or_again_is_not_obeyed(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, HUB, max_pages=5)
    worker = SimulatedWorker(deps, WEB)
    await change(deps, job_id, 4, max_pages=10)
    await change(deps, job_id, 3, max_pages=50)
    await change(deps, job_id, 4, max_pages=50)
    await worker.crawl()
    await ledgers.check()

    assert ledgers.of[job_id].changes == [4]
    assert len(ledgers.of[job_id].saved) == 10


async def test_change_before_the_start_holds(deps: Deps, ledgers: Ledgers) -> None:
    job_id = uuid4()
    await change(deps, job_id, 2, max_pages=7)
    await start(deps, HUB, job_id=job_id, max_pages=3)
    await SimulatedWorker(deps, WEB).crawl()
    await ledgers.check()

    assert len(ledgers.of[job_id].saved) == 7


async def test_change_of_a_cancelled_job_is_confirmed_and_adds_nothing(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, *PAGES, max_pages=5)
    cancel = CrawlCancel(job_id=job_id, revision=2)
    await on_commands(deps, [event_of(cancel, source="job-tracker", subject=job_id)])
    await change(deps, job_id, 3, max_pages=50)
    await ledgers.check()

    assert ledgers.of[job_id].changes == [3]
    assert len(ledgers.of[job_id].known) == 5
    assert not ledgers.of[job_id].open


@pytest.mark.parametrize("seed", range(4))
async def test_budget_that_changes_all_the_time_is_kept_whoever_works(deps: Deps, seed: int) -> None:
    rng = random.Random(seed)
    web = random_web(rng, pages=80, hosts=[f"{host}.change-{seed}.test" for host in range(3)])
    job_id = await start(deps, *sorted(web)[:4], job_id=UUID(int=rng.getrandbits(128)), max_pages=10)
    last = rng.choice((15, 25, None))
    saved_at_last = 0

    async def change_often() -> None:
        nonlocal saved_at_last
        for revision in range(2, 12):
            await change(deps, job_id, revision, max_pages=last if revision == 11 else rng.choice((12, 15, 40, None)))
            saved_at_last = await deps.pool.fetchval("SELECT saved FROM jobs WHERE job_id = $1", job_id)
            await asyncio.sleep(rng.random() / 20)  # workers do some work meanwhile

    async def close_often(done: asyncio.Event) -> None:
        while not done.is_set():
            await close_all(deps, job_id)
            await asyncio.sleep(0.01)  # as the workers' loop, which has a rest

    done = asyncio.Event()
    async with asyncio.TaskGroup() as closing:
        closing.create_task(close_often(done))
        workers = [random.Random(rng.random()) for _ in range(2)]
        await asyncio.gather(crawl_at_once(workers, deps.pool, web), change_often())
        await crawl_at_once([random.Random(rng.random())], deps.pool, web)
        done.set()
    await close_all(deps, job_id)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()
    ledger = ledgers.of[job_id]

    assert not ledger.open
    # What was saved by larger budgets stays.
    assert last is None or len(ledger.saved) <= max(last, saved_at_last)
    assert max(ledger.changes) == 11


async def test_lanes_that_wait_for_a_long_delay_are_due_when_it_is_taken_away(deps: Deps) -> None:
    job_id = await start(deps, HUB, delay=3600.0)
    await deps.pool.execute("UPDATE lanes SET due_at = now() + interval '1 hour'")
    worker = SimulatedWorker(deps, WEB)
    before = await worker.claim()
    await change(deps, job_id, 2)
    after = await worker.claim()

    assert before == []
    assert [page.url for page in after] == [HUB]


async def test_delay_of_a_job_spaces_its_own_requests_and_nobody_elses(deps: Deps) -> None:
    politeness = Politeness(deps.pool, None, user_agent="Tallyho", host_delay=0.0)  # type: ignore[arg-type]  # no fetch
    robots = Robots("Tallyho", None)
    slow, fast = await start(deps, HUB, delay=0.2), await start(deps, HUB, delay=0.001)

    def lane(job_id: UUID, delay: float | None) -> Lane:
        return Lane(job_id, SITE, 0, 1, CrawlOptions(delay=delay))

    loop = asyncio.get_running_loop()
    began = loop.time()
    turns = [await politeness.turn(lane(slow, 0.2), robots) for _ in range(3)]
    spaced = loop.time() - began
    await change(deps, slow, 2, delay=3600)
    too_far = await politeness.turn(lane(slow, 3600), robots)
    others = [await politeness.turn(lane(fast, delay), robots) for delay in (None, 0.001)]

    assert turns == [True] * 3
    assert spaced > 0.39
    assert not too_far
    assert others == [True] * 2


async def test_changed_delay_holds_after_the_turns_that_are_reserved_also_for_lanes_claimed_before(deps: Deps) -> None:
    job_id = await start(deps, HUB, delay=2)
    lane = Lane(job_id, SITE, 0, 1, CrawlOptions(delay=2))

    async def reserved() -> float:
        async with deps.pool.acquire() as connection, connection.transaction():
            wait = await origins.reserve_turn(connection, lane, is_spaced=False, within=100, idle=0)
            now: float = await connection.fetchval("SELECT extract(epoch FROM now())::float8")
        assert wait is not None
        return now + wait

    turns = [await reserved() for _ in range(2)]
    await change(deps, job_id, 2, delay=10)
    turns += [await reserved() for _ in range(2)]
    await change(deps, job_id, 3, delay=1)
    turns += [await reserved() for _ in range(2)]

    assert [round(turn - turns[0], 3) for turn in turns] == [0, 2, 12, 22, 23, 24]
