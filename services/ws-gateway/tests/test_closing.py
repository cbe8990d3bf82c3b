"""When the gateway ends a connection, with which code, and what is left of it then."""

import asyncio
import gc
import json
import random
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from aiohttp import WSMessage, WSMsgType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from tallyho_contracts.jobs import JobState
from tallyho_contracts.logs import JobLog, LogLevel
from ws_gateway import closing, connection, sockets
from ws_gateway.closing import Closing
from ws_gateway.frames import BadFrameError, Error, parse
from ws_gateway.limits import Allowance, Limits

State = Callable[..., JobState]
ONE = UUID(int=1)
# An example may take long where others work.
ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def closed(watcher: Any) -> tuple[int, dict[str, Any]]:
    """The code and the reason with which the connection ends."""
    async with asyncio.timeout(30):
        while True:
            message: WSMessage = await watcher.socket.receive()
            if message.type is WSMsgType.CLOSE:
                return message.data, json.loads(message.extra or "{}")
            assert message.type is WSMsgType.TEXT


def stop_reading(watcher: Any) -> None:
    watcher.socket._response.connection.transport.pause_reading()


def read_on(watcher: Any) -> None:
    watcher.socket._response.connection.transport.resume_reading()


def a_line(number: int) -> JobLog:
    at = datetime(2025, 1, 2, tzinfo=UTC)
    return JobLog(job_id=ONE, timestamp=at, level=LogLevel.INFO, message=f"{number} " + "x" * 900)


@pytest.mark.parametrize("one", [each for each in vars(closing).values() if isinstance(each, Closing)])
def test_reason_fits_into_a_close_frame_and_says_whether_to_come_back(one: Closing) -> None:
    text = one.text()
    reason = json.loads(text)

    assert len(text) <= 123
    assert reason["retry"] is (one.retry_ms is not None)
    assert ("retry_ms" in reason) is reason["retry"]
    assert one.code in (1011, 1012) or 4400 <= one.code < 4500


SLOW, DROPPED = "tallyho_gateway_slow_clients_total", "tallyho_gateway_frames_dropped_total"


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_log_that_a_client_does_not_read_ends_it_with_4408_and_frees_its_memory(
    gateway: Any, state: State
) -> None:
    gateway.tracker.add(state(1, 1))
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe", job_id=str(ONE), stream="job_log")
    connection_of = weakref.ref(next(iter(gateway.connections)))
    stop_reading(watcher)
    slow, dropped = counted(SLOW, reason="flooded"), counted(DROPPED)

    most = 0
    for number in range(20_000):
        gateway.logs.offer(a_line(number))
        most = max(most, connection_of().client.queued_bytes)
        if connection_of().client.is_flooded:
            break
        if number % 50 == 0:
            await asyncio.sleep(0.01)
    await eventually(lambda: connection_of()._closing is not None)
    read_on(watcher)
    code, reason = await closed(watcher)
    await eventually(lambda: not gateway.connections)

    assert most <= 256 * 1024
    assert counted(SLOW, reason="flooded") == slow + 1
    assert counted(DROPPED) > dropped + 100
    assert (code, reason["retry"]) == (4408, True)
    await eventually(lambda: gc.collect() >= 0 and connection_of() is None)


async def test_client_that_reads_nothing_for_long_is_told_to_resume(
    gateway_with: Any, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALLED_SECONDS", 0.3)
    gateway = await gateway_with(flush_seconds=0.01)
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe")
    [only] = gateway.connections
    slow = counted(SLOW, reason="stalled")
    stop_reading(watcher)

    async def states() -> None:
        revision = 0
        while True:
            revision += 1
            for job in range(200):
                gateway.hub.offer(state(job, revision))
            await asyncio.sleep(0.01)

    announcing = asyncio.create_task(states())
    await eventually(lambda: only._closing is not None)
    announcing.cancel()
    held = sum(len(pace.dirty) for pace in only.client.paces)
    read_on(watcher)
    code, reason = await closed(watcher)

    assert held == 0
    assert counted(SLOW, reason="stalled") == slow + 1
    assert (code, reason["reason"], reason["retry"]) == (4408, "too slow: resume", True)


async def test_client_that_acknowledges_nothing_for_long_is_told_to_resume(
    gateway_with: Any, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALLED_SECONDS", 0.1)
    gateway = await gateway_with(flush_seconds=0.01)
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe", ack_window=2)

    for job in range(10):
        gateway.hub.offer(state(job, 1))

    assert (await closed(watcher))[0] == 4408


async def test_too_many_messages_end_the_connection(gateway_with: Any) -> None:
    gateway = await gateway_with(limits=Limits(messages_per_second=0.01, messages_at_once=5))
    watcher = await gateway.watch("/v1/ws")

    for _ in range(7):
        await watcher.send("pong")

    assert (await closed(watcher))[0] == 4429


async def test_frames_that_can_not_be_used_end_the_connection_in_the_end(gateway_with: Any) -> None:
    gateway = await gateway_with(limits=Limits(bad_frames=3))
    watcher = await gateway.watch("/v1/ws")

    errors = [await watcher.answer_to("shout") for _ in range(3)]
    await watcher.send("shout")
    code, reason = await closed(watcher)

    assert {error["payload"]["code"] for error in errors} == {"unknown_type"}
    assert (code, reason["retry"]) == (4400, False)


async def test_connections_are_limited_and_a_place_comes_free_again(gateway_with: Any) -> None:
    gateway = await gateway_with(limits=Limits(connections_per_address=2))
    first, second = await gateway.watch(), await gateway.watch()

    code, reason = await closed(await gateway.watch())
    await first.socket.close()
    await eventually(lambda: len(gateway.connections) == 1)
    third = await gateway.watch()
    answer = await third.answer_to("subscribe")

    assert (code, reason["retry"]) == (4429, True)
    assert reason["retry_ms"] >= 5_000
    assert answer["type"] == "subscribed"
    assert not second.socket.closed


async def test_gateway_that_stops_sends_new_clients_elsewhere(gateway: Any) -> None:
    await sockets.close_all(gateway.http.app)

    code, reason = await closed(await gateway.watch())

    assert (code, reason["reason"], reason["retry"]) == (1012, "restarting", True)


async def test_clients_are_closed_at_moments_of_their_own(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watchers = [await gateway.watch() for _ in range(5)]
    shares = [0.0, 0.0, 1.0, 0.0, 0.0]
    monkeypatch.setattr(random, "uniform", lambda first, last: first + shares.pop() * (last - first))

    closing_all = asyncio.create_task(sockets.close_all(gateway.http.app, seconds=3600.0))
    ends = [asyncio.create_task(closed(watcher)) for watcher in watchers]
    await eventually(lambda: len(gateway.connections) == 1)
    [late] = gateway.connections

    assert late._closing is None
    assert not closing_all.done()
    for task in (closing_all, *ends):
        task.cancel()


def test_allowance_is_filled_up_again_by_time() -> None:
    limits = Limits(messages_per_second=2, messages_at_once=3)
    allowance = Allowance(limits, now=0.0)

    assert [allowance.spend(limits, 0.0) for _ in range(4)] == [True, True, True, False]
    assert [allowance.spend(limits, 2.0) for _ in range(4)] == [True, True, True, False]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "job_id": JSON | st.uuids().map(str),
        "stream": JSON | st.sampled_from(["progress", "document_saved", "job_log"]),
        "revision": JSON,
        "revisions": JSON | st.dictionaries(st.uuids().map(str), JSON, max_size=3),
        "ordinal": JSON,
        "interval_ms": JSON,
        "ack_window": JSON,
        "received": JSON,
    },
)
FRAMES = st.fixed_dictionaries(
    {"type": st.sampled_from(["subscribe", "unsubscribe", "ack", "pong"]) | JSON, "payload": PAYLOADS | JSON}
)


@ANY_MACHINE
@given(st.text(max_size=200) | JSON.map(json.dumps) | FRAMES.map(json.dumps))
def test_whatever_is_sent_is_a_frame_or_a_named_fault(text: str) -> None:
    fault: Error | None = None
    try:
        parse(text)
    except BadFrameError as bad:
        fault = bad.error

    assert fault is None or (fault.code in ("not_json", "unknown_type", "invalid") and fault.model_dump_json())


async def test_fuzzed_frames_neither_break_nor_leak(gateway_with: Any, state: State) -> None:
    gateway = await gateway_with(limits=Limits(messages_at_once=10**9, bad_frames=10**9))
    for job in range(3):
        gateway.tracker.add(state(job, 1))
    texts: list[str] = []

    @ANY_MACHINE
    @given(FRAMES.map(json.dumps) | st.text(max_size=50))
    def collect(text: str) -> None:
        texts.append(text.encode(errors="replace").decode())

    collect()
    watcher = await gateway.watch("/v1/ws")
    for text in texts:
        await watcher.socket.send_str(text)
    answer = await watcher.answer_to("subscribe", job_id=str(ONE))
    while (answer["type"], answer["payload"].get("job_id"), answer["payload"].get("stream")) != (
        "subscribed",
        str(ONE),
        "progress",
    ):
        answer = await watcher.next()
    await watcher.socket.close()
    await eventually(lambda: not gateway.connections)

    assert len(texts) > 50
    assert list(gateway.hub.watched) == []
    assert list(gateway.logs.read) == []
    assert not gateway.hub.wants_everything
