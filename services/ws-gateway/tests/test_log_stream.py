"""Subscriptions to a job's log: its last lines, then each new one, once."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.jobs import JobState
from tallyho_contracts.logs import JobLog, LogLevel
from ws_gateway import session
from ws_gateway.clients import Client
from ws_gateway.logs import LogBook

pytestmark = pytest.mark.usefixtures("no_silence")

State = Callable[..., JobState]
ONE, TWO = UUID(int=1), UUID(int=2)


def a_line(job: UUID, message: str) -> JobLog:
    return JobLog(job_id=job, timestamp=datetime(2025, 1, 2, tzinfo=UTC), level=LogLevel.WARNING, message=message)


def long_lines(job: UUID) -> list[JobLog]:
    long = {"url": "https://example.com/" + "x" * 2_000}
    return [a_line(job, f"line {number}").model_copy(update={"fields": long}) for number in range(200)]


async def test_log_begins_with_the_lines_that_are_remembered(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 1))
    gateway.logs.offer(a_line(TWO, "of another job"))
    gateway.logs.offer(a_line(ONE, "before"))
    watcher = await gateway.watch("/v1/ws")

    answer = await watcher.answer_to("subscribe", job_id=str(ONE), stream="job_log")
    first = await watcher.next()
    gateway.logs.offer(a_line(TWO, "of another job"))
    gateway.logs.offer(a_line(ONE, "after"))
    then = await watcher.next()
    await watcher.answer_to("unsubscribe", job_id=str(ONE), stream="job_log")
    gateway.logs.offer(a_line(ONE, "too late"))
    other = await watcher.answer_to("subscribe", job_id=str(ONE), revision=1)

    assert answer["payload"] == {"job_id": str(ONE), "stream": "job_log", "outcome": "replayed"}
    assert first == {"type": "job_log", "payload": a_line(ONE, "before").model_dump(mode="json")}
    assert then["payload"]["message"] == "after"
    assert other["type"] == "subscribed"


async def test_log_of_an_ended_job_is_what_the_tracker_keeps_and_each_line_comes_once(
    gateway: Any, state: State
) -> None:
    gateway.tracker.add(state(1, 9, "completed"))
    kept = [a_line(ONE, f"line {number}") for number in range(3)]
    gateway.tracker.lines = kept
    gateway.logs.offer(kept[-1])  # it was heard here, too
    gateway.logs.offer(a_line(ONE, "not kept yet"))
    watcher = await gateway.watch("/v1/ws")

    answer = await watcher.answer_to("subscribe", job_id=str(ONE), stream="job_log")
    lines = [(await watcher.next())["payload"]["message"] for _ in range(4)]
    then = await watcher.answer_to("unsubscribe", job_id=str(ONE), stream="job_log")

    assert answer["payload"]["outcome"] == "replayed"
    assert lines == ["line 0", "line 1", "line 2", "not kept yet"]
    assert then["type"] == "unsubscribed"


async def test_log_with_long_lines_begins_with_as_many_of_the_newest_as_a_client_has_room_for(
    gateway: Any, state: State
) -> None:
    gateway.tracker.add(state(1, 9, "completed"))
    gateway.tracker.lines = long_lines(ONE)
    watcher = await gateway.watch("/v1/ws")

    await watcher.answer_to("subscribe", job_id=str(ONE), stream="job_log")
    first = int((await watcher.next())["payload"]["message"].removeprefix("line "))
    rest = [(await watcher.next())["payload"]["message"] for _ in range(first + 1, 200)]

    assert 100 < first < 190
    assert rest == [f"line {number}" for number in range(first + 1, 200)]


async def test_logs_of_many_jobs_each_begin_with_their_last_lines_on_one_connection(
    gateway: Any, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ROOM_SECONDS", 30.0)
    jobs = range(1, 13)
    gateway.tracker.lines = long_lines(ONE)
    watcher = await gateway.watch("/v1/ws")
    for job in jobs:
        gateway.tracker.add(state(job, 9, "completed"))
        await watcher.send("subscribe", job_id=str(UUID(int=job)), stream="job_log")

    answers = last_lines = 0
    async with asyncio.timeout(60):
        while answers + last_lines < 2 * len(jobs):
            frame = await watcher.next()
            answers += frame["type"] == "subscribed"
            last_lines += frame["payload"].get("message") == "line 199"

    assert (answers, last_lines) == (len(jobs), len(jobs))


def test_last_lines_of_many_logs_do_not_flood_a_client_that_takes_nothing() -> None:
    logs, client = LogBook(), Client(lambda *_: None)
    for number in range(1, 13):
        logs.subscribe(client, UUID(int=number))
        logs.answer(client, UUID(int=number), long_lines(UUID(int=number)))

    assert not client.is_flooded
    assert b"line 199" in client.queue[-1]


async def test_log_of_an_unknown_job_is_not_found(gateway: Any) -> None:
    watcher = await gateway.watch("/v1/ws")

    answer = await watcher.answer_to("subscribe", job_id=str(ONE), stream="job_log")

    assert answer["payload"]["code"] == "not_found"
    assert answer["payload"]["stream"] == "job_log"
