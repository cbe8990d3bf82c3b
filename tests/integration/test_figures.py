"""Metrics that tell of trouble: late outboxes, missing pages, queues without consumers, held batches, lost links."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from consumers import Applied, AwayError, consuming
from crawler.commands import set_status
from crawler.frontier import Postponed
from crawler.handlers import Work, on_work
from crawler.metrics import look_at_frontier
from frontier_checks import pass_time
from job_tracker.metrics import look_at_jobs
from job_tracker.watchdog import report
from links import open_link
from made_up_web import SimulatedWorker, WebPage, crawler_deps, start
from mailboxes import send
from prometheus_client import REGISTRY
from tallyho_contracts.pages import PageStarted
from tallyho_contracts.registry import EVENTS
from tallyho_messaging.connection import Amqp, open_amqp
from tallyho_messaging.queue_lengths import watch_queues
from tallyho_messaging.topology import TRACKER_EVENTS
from tallyho_messaging.wire import AnyEvent
from tallyho_postgres.pool import Pool
from tallyho_postgres.sampling import Look, outbox_of, sample
from tracking import Tracker, claimed, crawler_event, finished, started

# A hundred thousand, a quarter of which is for later.
MANY_PAGES = """
INSERT INTO queue (job_id, origin, slot, depth, page_id, url, redirects, not_before)
SELECT $1, 'http://site.test', 0, 1, gen_random_uuid(), 'http://site.test/pages/' || n, 0,
    CASE WHEN n % 4 = 0 THEN now() + interval '1 hour' ELSE now() END
FROM generate_series(1, 100000) AS n
"""
PAGES_READ = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relid = 'queue'::regclass"


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def look_once(pool: Pool, look: Look) -> None:
    """As a service does when it starts."""
    stop = asyncio.Event()

    async def last(connection: Any) -> None:
        await look(connection)
        stop.set()

    await sample(pool, [last], stop)


async def until(condition: Callable[[], bool], step: Callable[[], Awaitable[None]] | None = None) -> None:
    async with asyncio.timeout(20):
        while not condition():
            if step:
                await step()
            await asyncio.sleep(0.02)  # a metric can't be awaited


async def test_outbox_tells_how_much_waits_and_for_how_long(tracker_pool: Pool) -> None:
    await Tracker(tracker_pool).create()
    await tracker_pool.execute("UPDATE outbox SET created_at = now() - interval '90 seconds'")
    await look_once(tracker_pool, outbox_of("job_tracker"))
    waiting = value("tallyho_outbox_events", schema="job_tracker")
    age = value("tallyho_outbox_oldest_seconds", schema="job_tracker")
    await tracker_pool.execute("DELETE FROM outbox")
    await look_once(tracker_pool, outbox_of("job_tracker"))

    assert waiting == 1
    assert 90 <= age < 120
    assert value("tallyho_outbox_events", schema="job_tracker") == 0
    assert value("tallyho_outbox_oldest_seconds", schema="job_tracker") == 0


async def test_silent_jobs_tell_how_many_pages_are_missing(tracker_pool: Pool) -> None:
    tracker = Tracker(tracker_pool)
    whole, short = await tracker.create(), await tracker.create()
    await tracker.apply(started(whole, "1"), claimed(whole, "1"), started(short, "1"))
    await tracker.apply(finished(short, "1", found=["2"]).model_copy(update={"job_pages": 5}))
    await look_once(tracker_pool, look_at_jobs)
    before = value("tallyho_tracker_stalled_jobs"), value("tallyho_tracker_drift_pages")
    tracker.now += timedelta(hours=1)
    await report(tracker.deps, timedelta(minutes=2))
    await look_once(tracker_pool, look_at_jobs)

    assert before == (0, 0)
    assert value("tallyho_tracker_stalled_jobs") == 2
    assert value("tallyho_tracker_drift_pages") == 3
    assert value("tallyho_tracker_live_jobs", status="running") == 2


async def test_frontier_tells_what_is_due_leased_later_and_held(crawler_pool: Pool) -> None:
    deps = crawler_deps(crawler_pool)
    web = {f"http://{host}.test/": WebPage() for host in "abcd"}
    seeds = list(web)
    jobs = [await start(deps, seed) for seed in seeds[:3]]
    worker = SimulatedWorker(deps, web)
    claims = await worker.claim(lanes=2)
    postponed = claims[0]
    await on_work(deps, Work(postponed=[Postponed(postponed, 600.0, "http_503")], served=[postponed.lane]))
    await start(deps, seeds[3])
    paused = next(job for job in jobs if job not in {page.lane.job_id for page in claims})
    await set_status(deps, paused, "paused", 2)
    await look_once(crawler_pool, look_at_frontier)
    told = {state: value("tallyho_frontier_pages", state=state) for state in ("due", "leased", "later", "held")}
    await pass_time(crawler_pool, 3600)
    await look_once(crawler_pool, look_at_frontier)

    assert told == {"due": 1, "leased": 1, "later": 1, "held": 1}
    assert value("tallyho_frontier_pages", state="due") == 3


async def test_long_frontier_is_estimated_by_reading_a_part_of_it(crawler_pool: Pool) -> None:
    job_id = await start(crawler_deps(crawler_pool), "http://site.test/")
    async with crawler_pool.acquire() as connection, connection.transaction():
        await connection.execute(MANY_PAGES, job_id)
        read_before = await connection.fetchval(PAGES_READ)
        await look_at_frontier(connection)
        read = await connection.fetchval(PAGES_READ) - read_before
    told = {state: value("tallyho_frontier_pages", state=state) for state in ("due", "leased", "later", "held")}

    assert 10_000 < read < 60_000
    assert 60_000 < told["due"] < 90_000
    assert 18_000 < told["later"] < 32_000
    assert told["leased"] == told["held"] == 0


async def test_queue_without_a_consumer_is_seen(amqp: Amqp) -> None:
    stop = asyncio.Event()
    watching = asyncio.create_task(watch_queues(amqp, [TRACKER_EVENTS], stop, interval=0.1))
    event = _page_started()
    await send(amqp, EVENTS, event)
    await until(lambda: value("tallyho_queue_messages", queue=TRACKER_EVENTS) == 1)
    alone = value("tallyho_queue_consumers", queue=TRACKER_EVENTS)
    handle = Applied()
    async with consuming(amqp, handle):
        await handle.until(event)
        await until(lambda: value("tallyho_queue_consumers", queue=TRACKER_EVENTS) == 1)
        await until(lambda: value("tallyho_queue_messages", queue=TRACKER_EVENTS) == 0)
    stop.set()
    await watching

    assert alone == 0


async def test_batch_that_can_not_be_applied_is_seen_until_it_is(amqp: Amqp) -> None:
    away = [True]

    def fail(_: object) -> None:
        if away[0]:
            raise AwayError

    handle, event = Applied(fail), _page_started()
    errors = value("tallyho_consumer_errors_total", queue=TRACKER_EVENTS, kind="transient")
    async with consuming(amqp, handle):
        await send(amqp, EVENTS, event)
        await until(lambda: value("tallyho_consumer_holding_seconds", queue=TRACKER_EVENTS) > 0)
        away[0] = False
        await handle.until(event)
        await until(lambda: value("tallyho_consumer_holding_seconds", queue=TRACKER_EVENTS) == 0)

    assert value("tallyho_consumer_errors_total", queue=TRACKER_EVENTS, kind="transient") > errors


@pytest.mark.parametrize("role", ["publishes", "consumes"])
async def test_lost_link_is_seen_and_so_is_its_return(amqp_url: str, role: str) -> None:
    before = value("tallyho_broker_reconnects_total", connection=role)
    async with open_link(amqp_url) as link, open_amqp(link.url, name="test"):
        assert value("tallyho_broker_connected", connection=role) == 1
        link.cut()
        await until(lambda: value("tallyho_broker_connected", connection=role) == 0)
        await link.mend()
        await until(lambda: value("tallyho_broker_connected", connection=role) == 1)
        await until(lambda: value("tallyho_broker_reconnects_total", connection=role) == before + 1)


def _page_started() -> AnyEvent:
    return crawler_event(PageStarted(parent_job_id=uuid4(), page_ids=(uuid4(),)))
