"""The gateway on a real broker, with the other end of its requests and states played by the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
from aiohttp import ClientWebSocketResponse
from crawler.requests import answer
from gateways import Gateway, running_gateway
from tallyho_backing_services import BackingServices
from tallyho_contracts.crawls import CrawlOptions, CrawlStarted
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import Job, JobGet, JobList, JobsQuery, JobState, JobStatus
from tallyho_contracts.logs import JobLogQuery, JobLogTail, LogLevel
from tallyho_contracts.pages import SpawnedPage
from tallyho_contracts.registry import EVENTS
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_messaging.connection import Amqp
from tallyho_messaging.job_logs import JobLogs
from tallyho_messaging.requests import RequestRefused, serve
from tallyho_messaging.topology import CRAWLER_REQUESTS, TRACKER_COMMANDS
from tallyho_messaging.wire import AnyEvent, event_of
from tallyho_postgres.pool import Pool

NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)


def job(job_id: UUID, revision: int, status: JobStatus = JobStatus.RUNNING, documents: int = 0) -> Job:
    return Job(
        job_id=job_id,
        revision=revision,
        status=status,
        progress_text="",
        timestamp=NOON,
        total_children=documents,
        pending_children=0,
        running_children=0,
        completed_children=documents,
        failed_children=0,
        skipped_children=0,
        cancelled_children=0,
        document_count=documents,
        documents_per_second=0,
        created_at=NOON,
        seeds=("https://example.com/",),
        options=CrawlOptions(),
    )


class TrackerDouble:
    """Answers `job.get` and `job.list` from `jobs`, and announces states, on the real broker."""

    def __init__(self, amqp: Amqp) -> None:
        self.jobs: dict[UUID, Job] = {}
        self._amqp = amqp

    async def answer(self, event: AnyEvent) -> Message:
        if isinstance(event.data, JobsQuery):
            live = [JobState(**job.model_dump()) for job in self.jobs.values() if not job.status.is_terminal]
            return JobList(jobs=tuple(live))
        if isinstance(event.data, JobLogQuery):
            return JobLogTail(lines=())
        assert isinstance(event.data, JobGet)
        if event.data.job_id not in self.jobs:
            raise RequestRefused(Refused(code=ErrorCode.NOT_FOUND, message="no such job", field="job_id"))
        return self.jobs[event.data.job_id]

    async def announce(self, job: Job) -> None:
        self.jobs[job.job_id] = job
        event = event_of(JobState(**job.model_dump()), source="test", subject=job.job_id)
        message = aio_pika.Message(
            event.model_dump_json().encode(), content_type="application/cloudevents+json", type=event.type
        )
        await self._amqp.publisher.publish(EVENTS, f"{event.type}.{job.job_id}", message, mandatory=False)


@pytest.fixture
async def tracker(amqp: Amqp) -> AsyncIterator[TrackerDouble]:
    double, stop = TrackerDouble(amqp), asyncio.Event()
    serving = asyncio.create_task(serve(amqp, TRACKER_COMMANDS, double.answer, is_transient=lambda _: False, stop=stop))
    yield double
    stop.set()
    await serving


@pytest.fixture
async def gateway(gateway_amqp_url: str) -> AsyncIterator[Gateway]:
    async with running_gateway(gateway_amqp_url) as client:
        yield client


async def next_state(socket: ClientWebSocketResponse) -> JobState:
    async with asyncio.timeout(30):
        while True:
            frame = await socket.receive_json()
            if frame["type"] == "parent_job_progress":
                return JobState(**frame["payload"])


async def test_announced_state_reaches_the_watchers_with_its_zero(tracker: TrackerDouble, gateway: Gateway) -> None:
    socket = await gateway.ws_connect("/ws")
    job_id = uuid4()

    await tracker.announce(job(job_id, 1))
    state = await next_state(socket)

    assert (state.job_id, state.revision, state.document_count) == (job_id, 1, 0)


async def test_job_that_was_live_before_the_gateway_is_shown_first(
    tracker: TrackerDouble, gateway_amqp_url: str
) -> None:
    before = job(uuid4(), 7, documents=3)
    tracker.jobs[before.job_id] = before

    async with running_gateway(gateway_amqp_url) as gateway:
        state = await next_state(await gateway.ws_connect("/ws"))

    assert (state.job_id, state.revision, state.document_count) == (before.job_id, 7, 3)


async def test_job_is_read_from_the_tracker_and_an_unknown_one_is_not_found(
    tracker: TrackerDouble, gateway: Gateway
) -> None:
    known = job(uuid4(), 2, JobStatus.COMPLETED, documents=41)
    tracker.jobs[known.job_id] = known

    found = await gateway.get(f"/v1/jobs/{known.job_id}")
    missing = await gateway.get(f"/v1/jobs/{uuid4()}")

    assert (await found.json())["document_count"] == 41
    assert (missing.status, (await missing.json(content_type=None))["code"]) == (404, "not_found")


async def test_end_that_was_missed_while_the_broker_was_away_is_sent_when_it_is_back(
    tracker: TrackerDouble, gateway: Gateway, backing: BackingServices
) -> None:
    job_id = uuid4()
    everything, one = await gateway.ws_connect("/ws"), await gateway.ws_connect("/ws")
    await tracker.announce(job(job_id, 1))
    assert [(await next_state(each)).revision for each in (everything, one)] == [1, 1]
    await one.send_json({"type": "subscribe", "payload": {"job_id": str(job_id), "revision": 1}})
    assert (await one.receive_json())["payload"]["outcome"] == "up_to_date"

    await asyncio.to_thread(backing.broker.stop)
    tracker.jobs[job_id] = job(job_id, 9, JobStatus.COMPLETED, documents=5)  # announced to nobody
    away = await gateway.get(f"/v1/jobs/{job_id}")
    ready = await gateway.get("/readyz")
    await asyncio.to_thread(backing.broker.start)
    states = [await next_state(everything), await next_state(one)]

    assert (away.status, ready.status) == (503, 200)
    assert [(state.status, state.revision, state.document_count) for state in states] == [
        (JobStatus.COMPLETED, 9, 5)
    ] * 2


async def test_document_is_read_from_the_crawler_and_an_unknown_one_is_not_found(
    amqp: Amqp, crawler_pool: Pool, gateway: Gateway
) -> None:
    document_id = uuid4()
    await crawler_pool.execute(
        "INSERT INTO documents VALUES ($1, 'https://example.com/', 'Näh', '# Näh', '[]', '0f', NULL, 200, 'text/html',"
        " NULL, NULL, $2, $2)",
        document_id,
        NOON,
    )
    stop = asyncio.Event()
    answering = serve(amqp, CRAWLER_REQUESTS, partial(answer, crawler_pool), is_transient=lambda _: False, stop=stop)
    crawler = asyncio.create_task(answering)

    found = await gateway.get(f"/v1/documents/{document_id}")
    unknown = await gateway.get(f"/v1/documents/{uuid4()}")
    stop.set()
    await crawler

    assert found.status == 200
    assert (await found.json())["content"] == "# Näh"
    assert unknown.status == 404
    assert (await unknown.json())["errors"][0]["field"] == "document_id"


async def test_document_of_a_crawler_that_is_away_is_unavailable_for_now(gateway: Gateway) -> None:
    response = await gateway.get(f"/v1/documents/{uuid4()}")

    assert response.status == 503
    assert response.headers["Retry-After"]


async def test_line_of_a_log_reaches_its_readers_and_the_clients_of_the_old_system(
    tracker: TrackerDouble, gateway: Gateway, amqp: Amqp
) -> None:
    known = job(uuid4(), 1)
    tracker.jobs[known.job_id] = known
    reader, old = await gateway.ws_connect("/v1/ws"), await gateway.ws_connect("/ws")
    await reader.send_json({"type": "subscribe", "payload": {"job_id": str(known.job_id), "stream": "job_log"}})
    answer = await reader.receive_json()

    logs, stop = JobLogs(amqp.publisher, "test", partial(datetime.now, UTC)), asyncio.Event()
    running = asyncio.create_task(logs.run(stop))
    lines: list[Any] = []
    async with asyncio.timeout(15):
        while len({line["type"] for line in lines}) < 2:  # until the old one is taken for what it is
            logs.say(known.job_id, LogLevel.WARNING, "page failed: http_404", url="https://example.com/")
            lines.append(await reader.receive_json())
            while (frame := await _frame_within(old, 0.2)) is not None:
                lines += [frame] if frame["type"] == "log" else []
    stop.set()
    await running

    told = {line["type"]: line["payload"] for line in lines}
    assert answer["type"] == "subscribed"
    assert told["job_log"]["fields"] == {"url": "https://example.com/"}
    assert set(told["log"]) == {"job_id", "level", "message", "timestamp"}
    assert told["log"]["message"] == told["job_log"]["message"] == "page failed: http_404"


async def test_page_that_joins_a_job_is_told_to_clients_of_the_old_system(
    tracker: TrackerDouble, gateway: Gateway, amqp: Amqp
) -> None:
    old = await gateway.ws_connect("/ws")
    job_id, page_id = uuid4(), uuid4()
    page = SpawnedPage(page_id=page_id, url="https://example.com/a", depth=0)
    event = event_of(CrawlStarted(parent_job_id=job_id, pages=(page,)), source="test", subject=job_id)

    frame = None
    async with asyncio.timeout(15):
        while frame is None:
            body = event.model_dump_json().encode()
            await amqp.publisher.publish_events(EVENTS, event.type, event.type, [uuid4()], [body])
            frame = await _frame_within(old, 0.2)

    assert frame["type"] == "job_spawn"
    assert frame["payload"] | {"timestamp": None} == {
        "parent_job_id": str(job_id),
        "job_id": str(page_id),
        "url": "https://example.com/a",
        "depth": 0,
        "timestamp": None,
    }


async def _frame_within(socket: ClientWebSocketResponse, seconds: float) -> Any:
    with suppress(TimeoutError):
        return await socket.receive_json(timeout=seconds)
    return None
