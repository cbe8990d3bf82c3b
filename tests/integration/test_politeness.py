"""How origins are treated, whoever visits them: robots.txt, the delay between requests, Retry-After."""

import asyncio
import gc
import threading
import time
from collections import Counter
from itertools import count
from time import monotonic
from typing import Any

import pytest
from aiohttp import web
from crawler import origins, retry, visit
from crawler import politeness as politeness_module
from crawler.deps import Deps
from crawler.frontier import Lane, Postponed, QueuedPage, Visit
from crawler.handlers import Work, on_work
from crawler.politeness import OriginUnreachableError
from crawler.robots import Robots
from crawler.visit import Visitor
from frontier_checks import Ledgers, check_frontier, pass_time
from made_up_web import SimulatedWorker, crawler_deps, start
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.pages import Outcome
from tallyho_postgres.pool import Pool
from watched_site import done, page, serving, visiting, working


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


def robots(*lines: str) -> web.Response:
    return web.Response(text="\n".join(("User-agent: *", *lines)))


def too_many(seconds: int) -> web.Response:
    return web.Response(status=429, headers={"Retry-After": str(seconds)})


async def claimed(deps: Deps, *seeds: str) -> list[QueuedPage]:
    """Pages of a new job, as a worker that fetches them itself claims them."""
    await start(deps, *seeds)
    return await SimulatedWorker(deps).claim()


async def pages_in_turn(visitor: Visitor, pages: list[QueuedPage]) -> list[Visit | Postponed | None]:
    return [await visitor.visit(page) for page in pages]


async def test_what_robots_txt_forbids_is_skipped_without_being_asked_for(deps: Deps) -> None:
    async with serving({"/robots.txt": lambda: robots("Disallow: /private/"), "/open": page}) as site:
        pages = await claimed(deps, f"{site.url}/private/a", f"{site.url}/open")
        async with visiting(deps.pool) as visitor:
            visits = {page.url.removeprefix(site.url): await visitor.visit(page) for page in pages}

    forbidden, allowed = visits["/private/a"], visits["/open"]
    assert isinstance(forbidden, Visit)
    assert isinstance(allowed, Visit)
    assert (forbidden.outcome, forbidden.reason, forbidden.document) == (Outcome.SKIPPED, "robots", None)
    assert allowed.outcome is Outcome.COMPLETED
    assert site.requests == Counter({"/robots.txt": 1, "/open": 1})


async def test_robots_txt_is_asked_for_once_by_all_processes(deps: Deps) -> None:
    async with serving({"/robots.txt": robots, "/a": page, "/b": page}) as site:
        pages = await claimed(deps, f"{site.url}/a", f"{site.url}/b")
        async with visiting(deps.pool) as first, visiting(deps.pool) as second:
            await asyncio.gather(*(first.visit(page) for page in pages))
            await pages_in_turn(second, pages)

    assert site.requests == Counter({"/robots.txt": 1, "/a": 2, "/b": 2})


async def test_robots_txt_of_an_origin_without_pages_is_asked_for_once_by_all_processes(deps: Deps) -> None:
    async with serving({"/robots.txt": robots}) as site:
        for _ in range(2):
            async with visiting(deps.pool) as visitor:
                await visitor.politeness.robots(site.url)

    assert site.requests == Counter({"/robots.txt": 1})


async def test_origins_that_cannot_be_reached_are_not_remembered_without_bound(
    deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(politeness_module, "ORIGINS_REMEMBERED", 3)
    async with visiting(deps.pool, allow_private=False) as visitor:
        for number in range(10):
            with pytest.raises(OriginUnreachableError, match="private_address"):
                await visitor.politeness.robots(f"http://127.0.0.{number + 1}")
        remembered = [len(memory) for memory in vars(visitor.politeness).values() if isinstance(memory, dict)]
    gc.collect()
    kept = [one for one in gc.get_objects() if isinstance(one, OriginUnreachableError)]

    assert 0 < max(remembered) <= 3
    assert kept == []


KNOWN_ROBOTS = """
INSERT INTO origins (origin, robots_verdict, robots_body, robots_expires_at)
SELECT 'http://' || n, 'body', $1, 'infinity' FROM generate_series(1, 10) AS n
"""


async def test_long_robots_txt_are_not_remembered_without_bound(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "User-agent: *\n" + "Disallow: /private\n" * 1_000
    monkeypatch.setattr(politeness_module, "CHARACTERS_REMEMBERED", 3 * len(body))
    await deps.pool.execute(KNOWN_ROBOTS, body)
    async with visiting(deps.pool) as visitor:
        read = [await visitor.politeness.robots(f"http://{number + 1}") for number in range(10)]
        remembered = visitor.politeness._copies.values()

    assert not any(robots.allows("http://1/private") for robots in read)
    assert 0 < len(remembered) <= 3


async def test_loop_goes_on_while_a_long_robots_txt_is_read(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    began, goes_on, parse = threading.Event(), threading.Event(), Robots.parse

    def parsed(body: str, user_agent: str) -> Robots:
        began.set()
        assert goes_on.wait(20)
        return parse(body, user_agent)

    monkeypatch.setattr(Robots, "parse", parsed)
    await deps.pool.execute(KNOWN_ROBOTS, "User-agent: *\n" + "Disallow: /private\n" * 10_000)
    async with visiting(deps.pool) as visitor:
        reading = asyncio.create_task(visitor.politeness.robots("http://1"))
        await asyncio.to_thread(began.wait, 20)
        goes_on.set()

        assert not (await reading).allows("http://1/private")


async def test_robots_txt_is_asked_for_again_when_it_is_old(deps: Deps) -> None:
    async with serving({"/robots.txt": robots, "/a": page}) as site:
        pages = await claimed(deps, f"{site.url}/a")
        for _ in range(2):
            async with visiting(deps.pool) as visitor:
                await pages_in_turn(visitor, pages)
            await pass_time(deps.pool, 3601)

    assert site.requests["/robots.txt"] == 2


async def test_page_whose_robots_txt_cannot_be_had_is_put_off_until_it_is_asked_for_again(deps: Deps) -> None:
    async with serving({"/robots.txt": lambda: web.Response(status=503), "/a": page}) as site:
        pages = await claimed(deps, f"{site.url}/a", f"{site.url}/b")
        async with visiting(deps.pool) as visitor:
            visits = await pages_in_turn(visitor, pages)

    assert [type(visit) for visit in visits] == [Postponed, Postponed]
    assert all(visit.delay >= politeness_module.UNREACHABLE_SECONDS for visit in visits if isinstance(visit, Postponed))
    assert site.requests == Counter({"/robots.txt": 1})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other in hundredths of a second."""
    monkeypatch.setattr(politeness_module, "UNREACHABLE_SECONDS", 0.05)
    monkeypatch.setattr(retry, "FIRST_DELAY", 0.05)


@pytest.mark.usefixtures("impatient")
async def test_page_is_given_up_when_its_robots_txt_is_never_to_be_had(deps: Deps) -> None:
    async with serving({"/robots.txt": lambda: web.Response(status=503), "/a": page}) as site:
        job_id = await start(deps, f"{site.url}/a")
        async with working(deps.pool):
            await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert ledgers.of[job_id].reasons == Counter(robots_http_503=1)
    assert site.requests == Counter({"/robots.txt": 3})


async def test_page_whose_robots_txt_is_unreadable_says_that_it_is_about_robots_txt(deps: Deps) -> None:
    unreadable = web.Response(text="User-agent: *", headers={"Content-Encoding": "gzip"})
    async with serving({"/robots.txt": lambda: unreadable, "/a": page}) as site:
        [asking] = await claimed(deps, f"{site.url}/a")
        async with visiting(deps.pool) as visitor:
            visit_ = await visitor.visit(asking)

    assert isinstance(visit_, Visit)
    assert (visit_.outcome, visit_.reason) == (Outcome.FAILED, "robots_encoding")
    assert site.requests["/a"] == 0


@pytest.mark.usefixtures("impatient")
async def test_page_that_fails_for_now_is_tried_again_and_given_up_with_its_reason(deps: Deps) -> None:
    answers = iter([500, 200])
    flaky = {"/flaky": lambda: page() if next(answers) == 200 else web.Response(status=500)}
    async with serving(flaky | {"/broken": lambda: web.Response(status=500)}) as site:
        job_id = await start(deps, f"{site.url}/flaky", f"{site.url}/broken", f"{site.url}/gone")
        async with working(deps.pool):
            await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert ledgers.of[job_id].saved == {f"{site.url}/flaky"}
    assert ledgers.of[job_id].reasons == Counter(http_500=1, http_404=1)
    assert site.requests == Counter({"/robots.txt": 1, "/flaky": 2, "/broken": 3, "/gone": 1})


async def test_private_address_fails_at_once_with_its_reason(deps: Deps) -> None:
    async with serving({"/a": page}) as site:
        job_id = await start(deps, f"{site.url}/a")
        async with working(deps.pool, allow_private=False):
            await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()
    [finished] = ledgers.of[job_id].finished.values()

    assert (finished.outcome, finished.reason) == (Outcome.FAILED, "private_address")
    assert site.arrivals == []


async def test_page_put_off_is_not_offered_before_its_time(deps: Deps) -> None:
    [page] = await claimed(deps, "http://site.test/")
    await on_work(deps, Work(postponed=[Postponed(page, 30.0)], served=[page.lane]))
    await check_frontier(deps.pool)
    worker = SimulatedWorker(deps)
    early = await worker.claim()
    await pass_time(deps.pool, 31)
    [again] = await worker.claim()

    assert early == []
    assert (again.page_id, again.attempts) == (page.page_id, 1)


async def test_page_put_off_does_not_hold_up_the_others_of_its_lane(crawler_pool: Pool) -> None:
    narrow = crawler_deps(crawler_pool, host_concurrency=1)
    later, first, second = await claimed(narrow, *(f"http://site.test/{number}" for number in range(3)))
    await on_work(narrow, Work(postponed=[Postponed(later, 30.0)], served=[later.lane]))
    pages = await SimulatedWorker(narrow).claim()

    assert [page.page_id for page in pages] == [first.page_id, second.page_id]


@pytest.mark.parametrize("path", ["/a", "/robots.txt"])
async def test_retry_after_holds_an_origin_for_all_jobs_until_it_is_over(deps: Deps, path: str) -> None:
    async with serving({path: lambda: too_many(100)}) as site:
        [asking] = await claimed(deps, f"{site.url}/a")
        async with visiting(deps.pool) as visitor:
            postponed = await visitor.visit(asking)
        worker = SimulatedWorker(deps)
        await start(deps, f"{site.url}/b", "http://other.test/")
        meanwhile = {page.url for page in await worker.claim()}
        await pass_time(deps.pool, 101)
        after = {page.url for page in await worker.claim()}

    assert isinstance(postponed, Postponed)
    assert postponed.delay >= 100
    assert meanwhile == {"http://other.test/"}
    assert f"{site.url}/b" in after


async def test_lanes_that_are_being_served_stop_when_their_origin_asks_to_wait(deps: Deps) -> None:
    paths = [f"/{number}" for number in range(40)]
    async with serving({path: lambda: too_many(100) for path in paths}) as site:
        await start(deps, *(site.url + path for path in paths))
        async with working(deps.pool, host_concurrency=4):
            await site.asked(1)
            async with asyncio.timeout(60):
                while await deps.pool.fetchval("SELECT count(*) FROM slots WHERE owner IS NOT NULL"):
                    await asyncio.sleep(0.02)  # a table can't be awaited
        await check_frontier(deps.pool)

    assert 1 <= len(site.arrivals) - site.requests["/robots.txt"] <= 4


async def turn_reserved(pool: Pool, *, delay: int) -> None:
    """Return once a request waits for its turn at the one origin, which has this delay."""
    async with asyncio.timeout(60):
        while not await pool.fetchval(
            "SELECT next_fetch_at > now() + $1::int * interval '1 second' FROM origins", delay
        ):
            await asyncio.sleep(0.01)  # a table can't be awaited


async def test_lane_that_misses_its_turn_waits_for_another(deps: Deps) -> None:
    async with serving({"/robots.txt": lambda: robots("Crawl-delay: 1"), "/a": page, "/b": page}) as site:
        first, second = await claimed(deps, f"{site.url}/a", f"{site.url}/b")
        async with visiting(deps.pool) as visitor:
            began = monotonic()
            await visitor.visit(first)
            waiting = asyncio.create_task(visitor.visit(second))
            await turn_reserved(deps.pool, delay=1)
            time.sleep(1.2)  # nothing in this process goes on meanwhile
            await waiting

    assert site.arrivals[-1][1] - began > 2 - 0.02


async def test_lane_that_waits_for_its_turn_hears_that_its_origin_asks_to_wait(deps: Deps) -> None:
    async with serving({"/robots.txt": lambda: robots("Crawl-delay: 4"), "/a": page, "/b": page}) as site:
        first, second = await claimed(deps, f"{site.url}/a", f"{site.url}/b")
        async with visiting(deps.pool) as visitor:
            await visitor.visit(first)
            waiting = asyncio.create_task(visitor.visit(second))
            await turn_reserved(deps.pool, delay=4)
            async with deps.pool.acquire() as connection:
                await origins.hold_origin(connection, site.url, at_least=100, at_most=100, counts_at_once=True)
            visit_ = await waiting

    assert visit_ is None
    assert site.requests.total() == 2  # robots.txt, and the first


@pytest.mark.parametrize("asked_by", ["robots.txt", "operator"])
async def test_requests_to_an_origin_with_a_delay_are_spaced_over_all_processes(deps: Deps, asked_by: str) -> None:
    delay = 0.3
    rules = {"/robots.txt": lambda: robots(f"Crawl-delay: {delay}")} if asked_by == "robots.txt" else {}
    host_delay = 0.0 if asked_by == "robots.txt" else delay
    spaced = crawler_deps(deps.pool, host_delay=host_delay)
    async with serving(rules | {f"/{number}": page for number in range(6)}) as site:
        pages = await claimed(spaced, *(f"{site.url}/{number}" for number in range(6)))
        async with (
            visiting(deps.pool, host_delay=host_delay) as first,
            visiting(deps.pool, host_delay=host_delay) as second,
        ):
            await asyncio.gather(first.politeness.robots(site.url), second.politeness.robots(site.url))
            began = monotonic()
            await asyncio.gather(
                *(first.visit(page) for page in pages[:3]), *(second.visit(page) for page in pages[3:])
            )
    arrivals = [at for path, at in site.arrivals if path != "/robots.txt"]

    assert len(arrivals) == 6
    # A busy machine may be late with any of them, which brings it nearer to the next; none can be early.
    assert all(at - began > number * delay - 0.02 for number, at in enumerate(arrivals))


async def test_page_whose_turn_is_too_far_off_stays_as_it_is(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(politeness_module, "TURN_SECONDS", 0.1)
    async with serving({"/robots.txt": lambda: robots("Crawl-delay: 30"), "/a": page, "/b": page}) as site:
        pages = await claimed(deps, f"{site.url}/a", f"{site.url}/b")
        async with visiting(deps.pool) as visitor:
            first, second = await pages_in_turn(visitor, pages)
        await on_work(deps, Work(served=[page.lane for page in pages]))
        await check_frontier(deps.pool)
        worker = SimulatedWorker(deps)
        early = await worker.claim()
        await pass_time(deps.pool, 31)
        later = await worker.claim()

    assert isinstance(first, Visit)
    assert second is None
    assert early == []
    assert pages[1].page_id in {page.page_id for page in later}
    assert {page.attempts for page in later} == {0}


async def spaced_lanes(deps: Deps, *delays: float | None) -> list[Lane]:
    """A lane of a job with each of these delays, all at an origin that wants ten seconds between two requests."""
    spaced = crawler_deps(deps.pool, host_delay=10.0)
    jobs = [(await start(spaced, "http://site.test/", delay=delay), delay) for delay in delays]
    return [Lane(job_id, "http://site.test", 0, 1, CrawlOptions(delay=delay)) for job_id, delay in jobs]


async def reserved(pool: Pool, lane: Lane, *, within: float = 100.0, idle: float = 100.0) -> float | None:
    """Reserve a turn; the second of it."""
    async with pool.acquire() as connection, connection.transaction():
        wait = await origins.reserve_turn(connection, lane, is_spaced=True, within=within, idle=idle)
        now: float = await connection.fetchval("SELECT extract(epoch FROM now())::float8")
    return None if wait is None else now + wait


async def test_page_whose_job_is_halted_when_its_turn_comes_is_not_asked_for(deps: Deps) -> None:
    async with serving({"/a": page}) as site:
        [queued] = await claimed(deps, f"{site.url}/a")
        async with visiting(deps.pool) as visitor:
            visitor.halts.replace([queued.lane.job_id])
            visited = await visitor.visit(queued)

    assert visited is None
    assert set(site.requests) == {"/robots.txt"}


async def test_job_with_a_delay_keeps_it_and_that_of_the_origin(deps: Deps) -> None:
    slow, fast = await spaced_lanes(deps, 14.0, None)
    first, *times = [await reserved(deps.pool, lane) for lane in (slow, fast, slow, slow, fast)]

    assert first is not None
    assert [round(time - first, 3) for time in times if time] == [10, 20, 34, 44]


async def test_job_whose_origin_is_busy_does_not_lose_its_own_turn(deps: Deps) -> None:
    slow, fast = await spaced_lanes(deps, 14.0, None)
    first = await reserved(deps.pool, fast)
    too_far = await reserved(deps.pool, slow, within=9.0)
    then = await reserved(deps.pool, slow)

    assert too_far is None
    assert first
    assert then == pytest.approx(first + 10)


async def test_origin_is_not_left_idle_for_a_job_with_a_longer_delay(deps: Deps) -> None:
    slow, fast = await spaced_lanes(deps, 14.0, None)
    first = await reserved(deps.pool, slow)
    too_idle = await reserved(deps.pool, slow, idle=3.0)
    other = await reserved(deps.pool, fast)

    assert too_idle is None
    assert first
    assert other == pytest.approx(first + 10)


def busy(status: int = 503) -> web.Response:
    return web.Response(status=status)


async def held(pool: Pool) -> float:
    """For how many seconds nothing may be sent to the one origin."""
    seconds: float = await pool.fetchval(
        "SELECT extract(epoch FROM greatest(busy_until, now()) - now())::float8 FROM origins"
    )
    return seconds


@pytest.mark.parametrize(("status", "seconds"), [(503, [0, 1, 2, 4]), (429, [1, 2, 4, 8]), (500, [])])
async def test_origin_that_is_too_busy_is_left_alone_longer_each_time(
    deps: Deps, monkeypatch: pytest.MonkeyPatch, status: int, seconds: list[int]
) -> None:
    holds: list[float] = []
    hold_origin = origins.hold_origin

    async def noted(*arguments: Any, **limits: Any) -> float:
        holds.append(await hold_origin(*arguments, **limits))
        return holds[-1]

    monkeypatch.setattr(origins, "hold_origin", noted)
    async with serving({f"/{number}": lambda: busy(status) for number in range(4)}) as site:
        pages = await claimed(deps, *(f"{site.url}/{number}" for number in range(4)))
        for page_ in pages:
            async with visiting(deps.pool) as visitor:  # another process each time: what is known is shared
                await visitor.visit(page_)
            await pass_time(deps.pool, 100)

    assert holds == pytest.approx(seconds)


async def test_answers_that_come_while_an_origin_is_left_alone_count_once(deps: Deps) -> None:
    async with serving({f"/{number}": lambda: too_many(100) for number in range(4)}) as site:
        pages = await claimed(deps, *(f"{site.url}/{number}" for number in range(4)))
        site.open.clear()
        async with visiting(deps.pool) as visitor:
            visits = [asyncio.create_task(visitor.visit(page_)) for page_ in pages]
            await site.asked(4)
            site.open.set()
            await asyncio.gather(*visits)

    assert await held(deps.pool) == pytest.approx(100, abs=60)
    assert await deps.pool.fetchval("SELECT refusals FROM origins") == 1


async def test_answer_of_an_origin_that_was_too_busy_calms_it(deps: Deps) -> None:
    answers = iter([503, 200, 503])
    flaky = {f"/{number}": lambda: page() if next(answers) == 200 else busy() for number in range(3)}
    async with serving(flaky) as site:
        pages = await claimed(deps, *(f"{site.url}/{number}" for number in range(3)))
        async with visiting(deps.pool) as visitor:
            await pages_in_turn(visitor, pages)

    assert await held(deps.pool) == 0
    assert await deps.pool.fetchval("SELECT refusals FROM origins") == 1


async def test_answer_does_not_calm_an_origin_that_is_left_alone_again(deps: Deps) -> None:
    await start(deps, "http://busy.test/")
    async with deps.pool.acquire() as connection:
        await origins.hold_origin(connection, "http://busy.test", at_least=100, at_most=60, counts_at_once=True)
        await origins.calm_origin(connection, "http://busy.test")

    assert await deps.pool.fetchval("SELECT refusals FROM origins") == 1


async def test_slot_of_a_slow_page_rests_as_long_as_the_page_took(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(step=20.0)  # each fetch takes 20 seconds
    monkeypatch.setattr(visit, "monotonic", lambda: next(clock))
    one_slot = crawler_deps(deps.pool, host_concurrency=1)
    async with serving({"/a": page, "/b": page}) as site:
        first, second = await claimed(one_slot, f"{site.url}/a", f"{site.url}/b")
        async with visiting(deps.pool) as visitor:
            visits = await pages_in_turn(visitor, [first, second])
        await on_work(one_slot, Work(served=[first.lane]))
        rest = await deps.pool.fetchval("SELECT extract(epoch FROM rests_until - now())::float8 FROM slots")
        worker = SimulatedWorker(one_slot)
        await deps.pool.execute("UPDATE slots SET rests_until = now() + interval '50 seconds'")
        early = await worker.claim()
        await pass_time(deps.pool, 51)
        later = await worker.claim()

    assert isinstance(visits[0], Visit)
    assert visits[1] is None
    assert 0 < rest <= 20
    assert early == []
    assert len(later) == 2
