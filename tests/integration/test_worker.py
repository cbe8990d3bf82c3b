"""Whole crawler processes, but for the broker, at a real site: what they save, and what they leave when they stop."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest
from aiohttp import web
from crawler import commands, handlers, parsing, politeness, store, visit
from crawler import worker as worker_module
from crawler.deps import Deps
from crawler.extract import Extracted
from crawler.frontier import QueuedPage, Visit
from crawler.halts import Halts
from crawler.handlers import Work
from crawler.visit import Visitor
from crawler.worker import Worker
from frontier_checks import Ledgers, check_frontier
from made_up_web import crawler_deps, document, start
from tallyho_contracts.crawls import CrawlCancel, CrawlOptions, CrawlStart
from tallyho_contracts.documents import Change
from tallyho_contracts.pages import Outcome
from tallyho_messaging.wire import event_of
from tallyho_postgres.pool import Pool
from tallyho_process import waiting
from watched_site import done, page, serving, until, visiting, working

PAGES = 60


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


def redirect(location: str) -> web.Response:
    return web.Response(status=301, headers={"Location": location})


def binary() -> web.Response:
    return web.Response(body=b"\0\1\2", content_type="application/octet-stream")


def tree(pages: int) -> dict[str, Callable[[], web.Response]]:
    """Pages 0 to `pages` - 1: each links to two children, the start and itself, and some to what is no document."""
    answers: dict[str, Callable[[], web.Response]] = {"/binary": binary, "/old/1": partial(redirect, "/1")}
    for number in range(pages):
        children = [f"/{child}" for child in (2 * number + 1, 2 * number + 2) if child < pages]
        others = ["/0", f"/{number}#part", "/binary", "/old/1", f"/missing/{number % 3}", "mailto:a@b.test"]
        answers[f"/{number}"] = partial(page, *children, *others, text=f"This is {number}.")
    return answers


async def test_crawl_of_a_site_saves_all_its_pages_and_says_why_not_the_others(deps: Deps) -> None:
    async with serving(tree(PAGES)) as site, working(deps.pool):
        job_id = await start(deps, f"{site.url}/0")
        await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()
    ledger = ledgers.of[job_id]

    assert ledger.saved == {f"{site.url}/{number}" for number in range(PAGES)}
    assert ledger.reasons == Counter(http_404=3, redirect=1, content_type=1)
    assert set(site.requests.values()) == {1}
    assert set(ledger.known) <= set(ledger.announced)
    assert await deps.pool.fetchval("SELECT count(*) FROM lanes") == 0


async def test_crawl_begins_when_its_command_comes(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 3600.0)
    # A slot that rests is looked for when the worker is idle, only.
    monkeypatch.setattr(politeness, "SLOW_SECONDS", 3600.0)
    async with serving(tree(1)) as site, working(deps.pool) as worker:
        for _ in range(2):  # for the second, it is idle
            crawl = CrawlStart(job_id=uuid4(), revision=1, seeds=(f"{site.url}/0",), options=CrawlOptions())
            await commands.on_commands(worker.deps, [event_of(crawl, source="job-tracker", subject=crawl.job_id)])
            await done(deps.pool)

    assert site.requests["/0"] == 2


async def test_two_workers_share_a_site_within_its_concurrency(deps: Deps) -> None:
    async with serving(tree(PAGES), seconds=0.02) as site:
        job_id = await start(deps, f"{site.url}/0")
        async with working(deps.pool, host_concurrency=3), working(deps.pool, host_concurrency=3):
            await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert 1 < site.most_under_way <= 3
    assert len(ledgers.of[job_id].saved) == PAGES
    assert set(site.requests.values()) == {1}


async def test_slot_is_given_back_after_its_tenure_though_pages_are_left(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=0.75 * worker_module.TENURE_SECONDS)
    monkeypatch.setattr(worker_module, "monotonic", lambda: next(clock))
    async with serving(tree(3)) as site, working(crawler_pool, host_concurrency=1):
        seeds = [f"{site.url}/{number}" for number in range(3)]
        await start(crawler_deps(crawler_pool, host_concurrency=1), *seeds, max_depth=0)
        await done(crawler_pool)

    assert await crawler_pool.fetchval("SELECT epoch FROM slots") == 3


async def test_worker_that_is_stopped_finishes_what_is_under_way_and_another_does_the_rest(deps: Deps) -> None:
    async with serving(tree(PAGES)) as site:
        job_id = await start(deps, *(f"{site.url}/{number}" for number in range(PAGES)))
        async with working(deps.pool, host_concurrency=4) as first:
            site.open.clear()
            await site.asked(4)
            first.stop.set()
            site.open.set()
        ledgers = Ledgers(deps.pool)
        await ledgers.check()
        saved_by_first = len(ledgers.of[job_id].saved)
        fetched_by_first = set(site.requests)
        left = await deps.pool.fetchval("SELECT count(*) FROM workers")
        async with working(deps.pool, host_concurrency=4):
            await done(deps.pool)
        await ledgers.check()

    assert saved_by_first == len(fetched_by_first - {"/robots.txt"}) == 4
    assert left == 0
    assert ledgers.of[job_id].saved == {f"{site.url}/{number}" for number in range(PAGES)}
    assert set(site.requests.values()) == {1}


async def test_worker_stops_in_order_though_the_database_is_away(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never_answered(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(worker_module, "LEAVE_SECONDS", 0.1)
    monkeypatch.setattr(store, "remove_worker", never_answered)
    async with serving(tree(3)) as site, working(deps.pool):
        job_id = await start(deps, f"{site.url}/0")
        await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert len(ledgers.of[job_id].saved) == 3
    assert await deps.pool.fetchval("SELECT count(*) FROM workers") == 1  # until its lease ends


async def test_pages_of_a_worker_that_died_are_free_when_its_lease_has_ended(deps: Deps) -> None:
    async with serving(tree(20)) as site, visiting(deps.pool) as visitor:
        job_id = await start(deps, *(f"{site.url}/{number}" for number in range(20)))
        site.open.clear()
        dying = asyncio.create_task(Worker(deps, visitor, uuid4(), 16, 1.0, asyncio.Event()).run())
        await site.asked(4)
        dying.cancel()
        await asyncio.wait([dying])
        site.open.set()
        async with working(deps.pool):
            await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert len(ledgers.of[job_id].saved) == 20


async def saved_of_twenty(deps: Deps, **limits: Any) -> int:
    """How many of twenty pages a worker with these limits saves; all of them are in the books."""
    async with serving(tree(20)) as site, working(deps.pool, **limits):
        job_id = await start(deps, *(f"{site.url}/{number}" for number in range(20)))
        await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()
    return len(ledgers.of[job_id].saved)


async def test_slots_of_a_claim_whose_answer_was_lost_come_back(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[object] = []

    async def claim_over_a_bad_line(*arguments: Any, **limits: Any) -> list[Any]:
        claimed = await handlers.claim(*arguments, **limits)
        if claimed and not lost:
            lost.extend(claimed)
            raise ConnectionResetError("the answer was lost")
        return claimed

    monkeypatch.setattr(worker_module, "claim", claim_over_a_bad_line)
    monkeypatch.setattr(worker_module, "RETRY_SECONDS", 0.05)
    saved = await saved_of_twenty(deps, lease_seconds=1.0)

    assert lost
    assert saved == 20


async def test_database_that_hangs_up_now_and_then_costs_time_only(
    deps: Deps, crawler_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "RETRY_SECONDS", 0.05)
    hang_up = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        # Not those of autovacuum.
        " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
    )
    async with serving(tree(PAGES), seconds=0.02) as site:
        job_id = await start(deps, f"{site.url}/0")
        # On a connection of its own: one of the pool may be hung up on just when it is taken.
        own = await asyncpg.connect(crawler_database_url)
        async with working(deps.pool, lease_seconds=1.0):
            for pages in range(5, PAGES, 5):
                await site.asked(pages)
                await own.execute(hang_up)
            await until(lambda: own.fetchval("SELECT NOT EXISTS (SELECT FROM crawler.queue)"))
        await own.close()
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert len(ledgers.of[job_id].saved) == PAGES


async def test_page_that_can_not_be_extracted_fails_alone(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(page: parsing.ToParse) -> Extracted:
        if page.url.endswith("/7"):
            raise RecursionError("too deep")
        return parsing.read(page)

    monkeypatch.setattr(visit, "read", fragile)
    async with serving(tree(20)) as site, working(deps.pool):
        job_id = await start(deps, *(f"{site.url}/{number}" for number in range(20)))
        await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert ledgers.of[job_id].saved == {f"{site.url}/{number}" for number in range(20) if number != 7}
    assert ledgers.of[job_id].reasons["internal_error"] == 1


async def test_page_that_can_not_be_saved_fails_alone(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(page: parsing.ToParse) -> Extracted:
        extracted = parsing.read(page)
        return replace(extracted, text="NUL \0", main="") if page.url.endswith("/7") else extracted

    monkeypatch.setattr(visit, "read", careless)
    # One large group, so that the page has neighbours.
    monkeypatch.setattr(worker_module, "GROUP_SECONDS", 5.0)
    async with serving(tree(20)) as site, working(deps.pool, host_concurrency=1):
        job_id = await start(deps, *(f"{site.url}/{number}" for number in range(20)))
        await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert ledgers.of[job_id].saved == {f"{site.url}/{number}" for number in range(20) if number != 7}
    assert ledgers.of[job_id].reasons["internal_error"] == 1


async def test_group_that_takes_too_long_to_save_is_saved_in_smaller_ones(
    deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed_out: list[int] = []

    async def slow(deps: Deps, work: handlers.Work) -> None:
        if len(work.visits) > 3:
            timed_out.append(len(work.visits))
            raise TimeoutError
        await handlers.on_work(deps, work)

    monkeypatch.setattr(worker_module, "on_work", slow)
    monkeypatch.setattr(worker_module, "GROUP_SECONDS", 3600.0)
    saved = await saved_of_twenty(deps, host_concurrency=1)

    assert timed_out
    assert saved == 20


class InstantVisitor:
    """Visits pages in no time, without a network."""

    halts = Halts()

    async def visit(self, visited: QueuedPage) -> Visit:
        """Find a document."""
        return Visit(visited, Outcome.COMPLETED, status_code=200, document=document(visited.url))


async def test_no_more_pages_are_claimed_while_many_wait_to_be_saved(
    deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "MOST_WAITING", 5)
    monkeypatch.setattr(worker_module, "IDLE_SECONDS", 0.001)
    worker = Worker(deps, cast("Visitor", InstantVisitor()), uuid4(), 1, 3.0, asyncio.Event())
    idle = asyncio.Event()
    saved: list[int] = []

    async def watched(*events: asyncio.Event, seconds: float) -> None:
        if deps.due in events and len(worker._work.visits) >= 5 and not worker._lanes:
            idle.set()
        await waiting.first_of(*events, seconds=seconds)

    async def slow(deps: Deps, work: Work) -> None:
        saved.append(len(work.visits))
        await idle.wait()
        await handlers.on_work(deps, work)

    monkeypatch.setattr(worker_module, "first_of", watched)
    monkeypatch.setattr(worker_module, "on_work", slow)
    await start(deps, *(f"http://{number}.test/" for number in range(40)))
    running = asyncio.create_task(worker.run())
    await done(deps.pool)
    worker.stop.set()
    await running

    assert sum(saved) == 40
    assert max(saved) == 5


async def test_what_is_done_during_a_slow_commit_is_committed_in_groups(
    deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    async with serving(tree(PAGES)) as site:

        async def slow_at_first(deps: Deps, work: handlers.Work) -> None:
            if not groups:
                await site.asked(20)
            groups.append(len(work.visits))
            await handlers.on_work(deps, work)

        monkeypatch.setattr(worker_module, "on_work", slow_at_first)
        monkeypatch.setattr(handlers, "GROUP_PAGES", 5)
        job_id = await start(deps, *(f"{site.url}/{number}" for number in range(PAGES)))
        async with working(deps.pool):
            await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert max(groups) == 5
    assert len(ledgers.of[job_id].saved) == PAGES


async def test_second_crawl_says_what_has_changed(deps: Deps) -> None:
    site_now = tree(10)
    async with serving(site_now) as site, working(deps.pool):
        await start(deps, f"{site.url}/0")
        await done(deps.pool)
        site_now["/5"] = partial(page, text="This is new.")
        again = await start(deps, f"{site.url}/0")
        await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()
    changes = {saved.source_url.removeprefix(site.url): saved.change for saved in ledgers.of[again].documents}

    assert changes == {f"/{number}": Change.UPDATED if number == 5 else Change.UNCHANGED for number in range(10)}
    assert await deps.pool.fetchval("SELECT count(*) FROM documents") == 10


async def test_cancel_reaches_the_pages_under_way(deps: Deps) -> None:
    async with serving(tree(20)) as site, working(deps.pool):
        site.open.clear()
        job_id = await start(deps, *(f"{site.url}/{number}" for number in range(20)))
        await site.asked(4)
        await commands.cancel_crawl(deps, CrawlCancel(job_id=job_id, revision=2))
        site.open.set()

        async def is_idle() -> bool:
            return not await deps.pool.fetchval("SELECT count(*) FROM slots WHERE owner IS NOT NULL")

        await until(is_idle)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert ledgers.of[job_id].closed == set(ledgers.of[job_id].known)
    assert len(ledgers.of[job_id].cancelled) == 20


async def test_budget_holds_with_two_workers_at_a_real_site(deps: Deps) -> None:
    async with serving(tree(PAGES)) as site:
        job_id = await start(deps, f"{site.url}/0", max_pages=25)
        async with working(deps.pool), working(deps.pool):
            await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert len(ledgers.of[job_id].saved) == 25
    await check_frontier(deps.pool)


@pytest.mark.parametrize("is_held", [False, True], ids=["nothing to do", "origin held"])
async def test_worker_without_due_pages_looks_twice_a_second(
    deps: Deps, monkeypatch: pytest.MonkeyPatch, is_held: bool
) -> None:
    looks: list[float] = []

    async def watched_claim(*arguments: Any, **limits: Any) -> list[Any]:
        looks.append(monotonic())
        return await handlers.claim(*arguments, **limits)

    if is_held:
        await start(deps, "http://site.test/")
        await deps.pool.execute("UPDATE origins SET next_fetch_at = now() + interval '1 hour'")
    monkeypatch.setattr(worker_module, "claim", watched_claim)
    async with working(deps.pool):
        await until(lambda: asyncio.sleep(0, len(looks) >= 3))

    assert looks[2] - looks[0] > 1.5 * worker_module.IDLE_SECONDS
