"""What people who watch a job are told about it, and that telling them never gets in the way."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from crawler.deps import Deps as CrawlerDeps
from crawler.frontier import Postponed, QueuedPage, Visit
from crawler.handlers import Work, on_work
from job_tracker import control
from job_tracker.logs import KEPT_LINES, on_lines
from links import open_link
from made_up_web import SimulatedWorker, crawler_deps, document, start
from tallyho_contracts.crawls import CrawlPause, CrawlResume
from tallyho_contracts.jobs import JobStatus
from tallyho_contracts.logs import JobLog, JobLogQuery, JobLogTail, LogLevel
from tallyho_contracts.pages import Outcome
from tallyho_messaging.connection import Amqp, open_amqp
from tallyho_messaging.job_logs import LINES_AT_ONCE, JobLogs
from tallyho_messaging.requests import RequestRefused
from tallyho_messaging.subscription import subscribe
from tallyho_messaging.wire import AnyEvent, event_of
from tallyho_postgres.pool import Pool
from tracking import NOON, Tracker, claimed, finished, saved, started

NOW = partial(datetime.now, UTC)


class Listener:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[tuple[LogLevel, str]] = []
        self.about: list[dict[str, Any]] = []

    def say(self, _: UUID, level: LogLevel, message: str, **about: Any) -> None:
        self.lines.append((level, message))
        self.about.append(about)


@pytest.fixture
def listener() -> Listener:
    return Listener()


async def test_life_of_a_job_is_told(tracker_pool: Pool, listener: Listener) -> None:
    tracker = Tracker(tracker_pool)
    tracker.deps = replace(tracker.deps, say=listener.say)
    job_id = await tracker.create()

    await tracker.apply(started(job_id, "a", "b"))
    await control.steer(tracker.deps, job_id, JobStatus.PAUSED, CrawlPause)
    await control.steer(tracker.deps, job_id, JobStatus.PAUSED, CrawlPause)
    await control.steer(tracker.deps, job_id, JobStatus.RUNNING, CrawlResume)
    await tracker.apply(claimed(job_id, "a"), saved(job_id, "a"), finished(job_id, "a"))
    await tracker.apply(finished(job_id, "b", Outcome.FAILED, reason="http_500"))
    await tracker.apply(finished(job_id, "b", Outcome.FAILED, reason="http_500"))

    assert listener.lines == [
        (LogLevel.INFO, "submitted with 1 seed"),
        (LogLevel.INFO, "started"),
        (LogLevel.INFO, "paused"),
        (LogLevel.INFO, "resumed"),
        (LogLevel.INFO, "completed: 1 document, 2 pages"),
    ]


async def test_job_that_fails_says_why(tracker_pool: Pool, listener: Listener) -> None:
    tracker = Tracker(tracker_pool)
    tracker.deps = replace(tracker.deps, say=listener.say)
    job_id = await tracker.create()

    await tracker.apply(started(job_id, "a"), finished(job_id, "a", Outcome.FAILED, reason="http_500"))

    assert listener.lines[-1] == (LogLevel.ERROR, "failed: no document was saved: 1 x http_500")


def lines_about(job_id: UUID, *numbers: int) -> list[AnyEvent]:
    """Events of lines, a second apart."""
    return [
        event_of(
            JobLog(
                job_id=job_id,
                timestamp=NOON + timedelta(seconds=number),
                level=LogLevel.WARNING,
                message=f"line {number}",
                fields={"url": "https://site.test/", "again": False, "after": 2.0, "by": None},
            ),
            source="crawler",
            subject=job_id,
        )
        for number in numbers
    ]


async def kept(tracker: Tracker, job_id: UUID, **query: int) -> list[str]:
    tail = await tracker.ask(JobLogQuery(job_id=job_id, **query))
    assert isinstance(tail, JobLogTail)
    return [line.message for line in tail.lines]


async def test_line_is_kept_once_as_it_was_however_often_and_late_it_comes(tracker_pool: Pool) -> None:
    tracker = Tracker(tracker_pool)
    job_id, other = await tracker.create(), await tracker.create()
    events = lines_about(job_id, 1, 2, 3)

    for batch in ([events[2]], [events[0], *lines_about(other, 1), events[0]], events):
        await on_lines(tracker_pool, batch)

    tail = await tracker.ask(JobLogQuery(job_id=job_id))
    assert isinstance(tail, JobLogTail)
    assert tail.lines == tuple(event.data for event in events)
    assert [list(line.fields) for line in tail.lines] == [["url", "again", "after", "by"]] * 3
    assert await kept(tracker, job_id, limit=2) == ["line 2", "line 3"]
    assert await kept(tracker, other) == ["line 1"]


async def test_of_each_job_the_newest_lines_are_kept_and_an_old_one_does_not_come_back(tracker_pool: Pool) -> None:
    tracker = Tracker(tracker_pool)
    loud, quiet = await tracker.create(), await tracker.create()
    events = lines_about(loud, *range(KEPT_LINES + 50))
    await on_lines(tracker_pool, lines_about(quiet, 0))

    await asyncio.gather(*(on_lines(tracker_pool, events[start::4]) for start in range(4)))
    await on_lines(tracker_pool, events[:10])

    assert await kept(tracker, loud) == [f"line {number}" for number in range(50, KEPT_LINES + 50)]
    assert await kept(tracker, quiet) == ["line 0"]
    assert await tracker_pool.fetchval("SELECT count(*) FROM log_lines") == KEPT_LINES + 1


async def test_log_of_a_job_that_does_not_exist_is_refused(tracker_pool: Pool) -> None:
    with pytest.raises(RequestRefused, match="there is no job"):
        await Tracker(tracker_pool).ask(JobLogQuery(job_id=uuid4()))


@pytest.fixture
def deps(crawler_pool: Pool, listener: Listener) -> CrawlerDeps:
    return replace(crawler_deps(crawler_pool), say=listener.say)


async def claim_all(deps: CrawlerDeps, *seeds: str, **options: Any) -> Sequence[QueuedPage]:
    await start(deps, *seeds, **options)
    return sorted(await SimulatedWorker(deps).claim(), key=lambda page: page.url)


async def test_what_does_not_go_well_with_a_page_is_told_with_its_reason(deps: CrawlerDeps, listener: Listener) -> None:
    seeds = [f"https://site.test/{number}" for number in range(4)]
    first, second, third, fourth = await claim_all(deps, *seeds, "ftp://site.test/")
    good = Visit(fourth, Outcome.COMPLETED, status_code=200, document=document(fourth.url))
    visits = [Visit(first, Outcome.FAILED, "http_404", 404), Visit(second, Outcome.SKIPPED, "robots"), good]

    await on_work(deps, Work(visits=visits, postponed=[Postponed(third, 2.04, "http_503")]))

    assert Counter(listener.lines) == Counter(
        [
            (LogLevel.WARNING, "seed rejected: not an http(s) URL"),
            (LogLevel.WARNING, "page failed: http_404"),
            (LogLevel.INFO, "page not visited: robots.txt disallows it"),
            (LogLevel.INFO, "page is tried again: http_503"),
        ]
    )
    assert {"url": seeds[0], "reason": "http_404", "status_code": 404} in listener.about
    assert {"url": seeds[2], "reason": "http_503", "seconds": 2.0} in listener.about


async def test_secrets_in_urls_are_told_to_nobody(
    deps: CrawlerDeps, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    seeds = [f"https://user:hush@site.test/{number}?token=hush" for number in range(3)]
    first, second, third = await claim_all(deps, *seeds, "ftp://user:hush@site.test/", "https://user:hush@[/?key=hush")
    visits = [Visit(first, Outcome.FAILED, "http_404", 404), Visit(second, Outcome.SKIPPED, "robots")]

    await on_work(deps, Work(visits=visits, postponed=[Postponed(third, 2.04, "http_503")]))

    assert len(listener.about) == 5
    assert "hush" not in f"{listener.about} {listener.lines} {caplog.text}"


async def test_budget_that_is_spoken_for_is_told_once(deps: CrawlerDeps, listener: Listener) -> None:
    [page] = await claim_all(deps, "https://site.test/0", max_pages=3)
    links = [f"https://site.test/{number}" for number in range(1, 10)]
    await on_work(deps, Work(visits=[Visit(page, Outcome.COMPLETED, document=document(page.url, links))]))
    told = list(listener.lines)
    for page in await SimulatedWorker(deps).claim():
        more = [f"https://site.test/more/{page.url[-1]}"]
        await on_work(deps, Work(visits=[Visit(page, Outcome.COMPLETED, document=document(page.url, more))]))

    assert told == listener.lines == [(LogLevel.INFO, "the budget of 3 documents, or of pages for them, is spoken for")]


async def test_cancelled_page_is_not_told_of(deps: CrawlerDeps, listener: Listener, crawler_pool: Pool) -> None:
    [page] = await claim_all(deps, "https://site.test/0")
    await crawler_pool.execute("DELETE FROM queue")

    await on_work(deps, Work(visits=[Visit(page, Outcome.FAILED, "http_404", 404)]))

    assert listener.lines == []


class Heard:
    """The lines that reached a queue of the real broker."""

    def __init__(self) -> None:
        self.lines: list[JobLog] = []
        self._more = asyncio.Event()

    def on_event(self, event: AnyEvent) -> None:
        assert isinstance(event.data, JobLog)
        self.lines.append(event.data)
        self._more.set()

    async def until(self, number: int) -> list[JobLog]:
        async with asyncio.timeout(15):
            while len(self.lines) < number:
                self._more.clear()
                await self._more.wait()
        return self.lines


@asynccontextmanager
async def telling(amqp: Amqp) -> AsyncIterator[JobLogs]:
    logs, stop = JobLogs(amqp.publisher, "tests", NOW), asyncio.Event()
    running = asyncio.create_task(logs.run(stop))
    yield logs
    stop.set()
    await running


@asynccontextmanager
async def hearing(amqp: Amqp, *keys: str) -> AsyncIterator[Heard]:
    heard = Heard()
    queue = f"test.{uuid4()}"
    async with subscribe(amqp, queue=queue, binding_keys=keys, on_event=heard.on_event, on_gap=lambda: None):
        yield heard


async def test_job_with_much_to_say_is_cut_short_and_says_so(amqp: Amqp) -> None:
    loud, quiet = uuid4(), uuid4()
    async with hearing(amqp, "job.log.v1.*") as heard, telling(amqp) as logs:
        for number in range(1_000):
            logs.say(loud, LogLevel.INFO if number % 2 else LogLevel.ERROR, f"line {number % 20}", number=number)
        logs.say(quiet, LogLevel.WARNING, "one line")
        lines = await heard.until(LINES_AT_ONCE + 2)

    of_loud = [line for line in lines if line.job_id == loud]
    assert [line.fields["number"] for line in of_loud[:-1]] == list(range(LINES_AT_ONCE))
    assert of_loud[-1].fields == {"left_out": 1_000 - LINES_AT_ONCE}
    assert of_loud[-1].level is LogLevel.ERROR
    assert of_loud[-1].message.startswith("990 more lines: 50 x line ")
    assert [line.message for line in lines if line.job_id == quiet] == ["one line"]


async def test_line_goes_to_those_who_read_its_job(amqp: Amqp) -> None:
    one, other = uuid4(), uuid4()
    async with hearing(amqp, f"job.log.v1.{one}") as heard, telling(amqp) as logs:
        logs.say(other, LogLevel.INFO, "of another job, alone")
        await asyncio.sleep(0.6)  # a message of its own
        logs.say(one, LogLevel.INFO, "of this one")
        lines = await heard.until(1)

    assert [line.message for line in lines] == ["of this one"]


async def test_broker_that_is_away_costs_only_the_lines(
    amqp: Amqp, amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = uuid4()
    caplog.set_level("INFO")
    async with (
        hearing(amqp, f"job.log.v1.{job_id}") as heard,
        open_link(amqp_url) as link,
        open_amqp(link.url, name="tests") as away,
        telling(away) as logs,
    ):
        link.cut()
        logs.say(job_id, LogLevel.INFO, "nobody hears this")
        async with asyncio.timeout(30):
            while "log lines of jobs are lost" not in caplog.text:
                await asyncio.sleep(0.02)  # a log can't be awaited
        await link.mend()
        async with asyncio.timeout(30):
            while not heard.lines:
                logs.say(job_id, LogLevel.INFO, "this is heard again")
                await asyncio.sleep(0.1)  # when it is connected again is not ours to await

    assert {line.message for line in heard.lines} == {"this is heard again"}
