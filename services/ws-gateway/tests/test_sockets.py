"""The WebSocket over a real port: what a client gets, and that no client gets in another's way."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from aiohttp import WSMsgType
from tallyho_contracts.jobs import JobState
from ws_gateway import connection, sockets

State = Callable[..., JobState]
ONE, TWO = UUID(int=1), UUID(int=2)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/ws", "/v1/ws"])
async def test_client_that_sends_nothing_gets_the_live_jobs_then_every_change(
    gateway: Any, state: State, path: str
) -> None:
    gateway.hub.offer(state(1, 4, documents=3))
    watcher = await gateway.watch(path)

    first = await watcher.next()
    gateway.hub.offer(state(2, 1, documents=0))
    then = await watcher.next()

    assert first == {"type": "parent_job_progress", "payload": state(1, 4, documents=3).model_dump(mode="json")}
    assert then["payload"]["job_id"] == str(TWO)
    assert then["payload"]["document_count"] == 0


async def test_burst_arrives_as_its_newest_state(gateway: Any, state: State) -> None:
    watcher = await gateway.watch()
    for revision in range(1, 1001):
        gateway.hub.offer(state(1, revision, documents=revision))

    payloads = await watcher.states_until(ONE, 1000)

    assert [payload["document_count"] for payload in payloads] == [1000]


async def test_end_of_a_job_does_not_wait_for_the_next_flush(gateway_with: Any, state: State) -> None:
    gateway = await gateway_with(flush_seconds=3600.0)
    watcher = await gateway.watch()

    gateway.hub.offer(state(1, 1))
    gateway.hub.offer(state(2, 1, "completed"))

    assert (await watcher.next())["payload"]["job_id"] == str(ONE)
    assert (await watcher.next())["payload"]["status"] == "completed"


async def test_subscriber_gets_the_answer_then_the_snapshot_then_newer_states(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 5, documents=0))
    watcher = await gateway.watch()

    answer = await watcher.answer_to("subscribe", job_id=str(ONE))
    snapshot = await watcher.next()
    gateway.hub.offer(state(2, 9))
    gateway.hub.offer(state(1, 4))
    gateway.hub.offer(state(1, 6))
    newer = await watcher.next()

    assert answer == {
        "type": "subscribed",
        "payload": {"job_id": str(ONE), "stream": "progress", "outcome": "snapshot", "revision": 5},
    }
    assert snapshot["payload"] == state(1, 5, documents=0).model_dump(mode="json")
    assert (newer["payload"]["job_id"], newer["payload"]["revision"]) == (str(ONE), 6)


async def test_finished_job_can_be_subscribed_to(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 5, "completed", documents=41))
    watcher = await gateway.watch()

    answer = await watcher.answer_to("subscribe", job_id=str(ONE))
    snapshot = await watcher.next()

    assert answer["payload"]["outcome"] == "snapshot"
    assert (snapshot["payload"]["status"], snapshot["payload"]["document_count"]) == ("completed", 41)


async def test_subscriber_that_names_the_newest_revision_is_up_to_date(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 5))
    watcher = await gateway.watch()

    answer = await watcher.answer_to("subscribe", job_id=str(ONE), revision=5)
    gateway.hub.offer(state(1, 6))
    newer = await watcher.next()

    assert answer["payload"] == {
        "job_id": str(ONE),
        "stream": "progress",
        "outcome": "up_to_date",
        "revision": 5,
    }
    assert newer["payload"]["revision"] == 6


async def test_state_announced_while_the_snapshot_is_fetched_is_not_lost(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 5))
    gateway.tracker.before_reply = lambda: gateway.hub.offer(state(1, 6, "completed")) and None
    watcher = await gateway.watch()

    answer = await watcher.answer_to("subscribe", job_id=str(ONE))
    snapshot = await watcher.next()

    assert answer["payload"]["revision"] == 6
    assert (snapshot["payload"]["revision"], snapshot["payload"]["status"]) == (6, "completed")


async def test_unsubscribed_job_is_silent(gateway: Any, state: State) -> None:
    watcher = await gateway.watch()
    for job in (ONE, TWO):
        gateway.tracker.add(state(job, 1))
        await watcher.answer_to("subscribe", job_id=str(job))
        await watcher.next()

    answer = await watcher.answer_to("unsubscribe", job_id=str(ONE))
    gateway.hub.offer(state(1, 2))
    gateway.hub.offer(state(2, 2))
    newer = await watcher.next()

    assert answer == {"type": "unsubscribed", "payload": {"job_id": str(ONE), "stream": "progress"}}
    assert newer["payload"]["job_id"] == str(TWO)


@pytest.mark.parametrize(
    ("frame", "code", "field"),
    [
        ("hello", "not_json", None),
        (b"\x00", "not_text", None),
        ('{"type": "shout"}', "unknown_type", "type"),
        ('{"type": "subscribe", "payload": {"job_id": "x"}}', "invalid", "job_id"),
        (f'{{"type": "subscribe", "payload": {{"job_id": "{TWO}"}}}}', "not_found", "job_id"),
    ],
)
async def test_bad_frame_is_answered_and_the_connection_goes_on(
    gateway: Any, state: State, frame: str | bytes, code: str, field: str | None
) -> None:
    gateway.tracker.add(state(1, 1))
    watcher = await gateway.watch()

    await watcher.socket.send_frame(
        frame if isinstance(frame, bytes) else frame.encode(),
        WSMsgType.BINARY if isinstance(frame, bytes) else WSMsgType.TEXT,
    )
    error = await watcher.next()
    answer = await watcher.answer_to("subscribe", job_id=str(ONE))

    assert error["type"] == "error"
    assert (error["payload"]["code"], error["payload"].get("field")) == (code, field)
    assert answer["type"] == "subscribed"


async def test_subscription_the_tracker_does_not_answer_is_an_error(gateway: Any) -> None:
    gateway.tracker.away = True
    watcher = await gateway.watch()

    answer = await watcher.answer_to("subscribe", job_id=str(ONE))

    assert (answer["type"], answer["payload"]["code"]) == ("error", "unavailable")
    assert gateway.hub.unsettled() == set()


async def test_frame_over_16_kilobytes_ends_the_connection(gateway: Any) -> None:
    watcher = await gateway.watch()

    await watcher.socket.send_str(" " * 16_385)
    message = await watcher.socket.receive(timeout=30)

    assert message.type is WSMsgType.CLOSE
    assert watcher.socket.close_code == 1009


async def test_page_of_another_site_gets_no_socket(gateway: Any, state: State) -> None:
    gateway.hub.offer(state(1, 1))
    foreign = await gateway.watch(Origin="https://evil.example")
    own = await gateway.watch(Origin=str(gateway.http.make_url("/")).rstrip("/"))

    closed = await foreign.socket.receive(timeout=30)
    first = await own.next()

    assert (closed.type, closed.data) == (WSMsgType.CLOSE, 4403)
    assert json.loads(closed.extra) == {"reason": "not allowed", "retry": False}
    assert first["type"] == "parent_job_progress"


async def test_plain_request_to_the_socket_is_a_problem(gateway: Any) -> None:
    response = await gateway.http.get("/ws")

    assert response.status == 400
    assert response.content_type == "application/problem+json"


async def test_compression_is_never_agreed(gateway: Any) -> None:
    watcher = await gateway.http.ws_connect("/ws", compress=15)

    assert not watcher.compress


async def test_client_is_pinged_where_browser_code_can_see_it(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PING_SECONDS", 0.01)
    watcher = await gateway.watch()

    pings = [await watcher.next(), await watcher.next()]
    await watcher.send("pong")

    assert pings == [{"type": "ping", "payload": {}}] * 2


async def test_restart_closes_with_a_time_to_come_back(gateway: Any) -> None:
    watchers = [await gateway.watch() for _ in range(5)]

    closing = asyncio.create_task(sockets.close_all(gateway.http.app))
    messages = [await watcher.socket.receive(timeout=30) for watcher in watchers]
    await closing

    reasons = [json.loads(message.extra) for message in messages]
    assert {message.data for message in messages} == {1012}
    assert all(500 <= reason["retry_ms"] <= 5000 for reason in reasons)
    assert len({reason["retry_ms"] for reason in reasons}) > 1


async def test_client_that_left_is_forgotten(gateway: Any) -> None:
    watcher = await gateway.watch()
    await watcher.socket.close()

    await eventually(lambda: not gateway.http.app[sockets.CONNECTIONS])


async def test_client_of_the_old_system_is_told_in_its_words_until_it_subscribes(gateway: Any, state: State) -> None:
    gateway.hub.offer(gateway.tracker.add(state(1, 1, "pending")))
    old, new = await gateway.watch("/ws"), await gateway.watch("/v1/ws")
    for watcher in (old, new):
        await watcher.next()

    gateway.hub.offer(state(1, 2, "running"))
    of_old = [await old.next(), await old.next()]
    of_new = await new.next()
    await old.answer_to("subscribe", job_id=str(ONE), revision=2)
    gateway.hub.offer(state(1, 3, "completed"))
    after = await old.next()

    assert {frame["type"]: frame["payload"] for frame in of_old}["job_status_change"] == {
        "job_id": str(ONE),
        "old_status": "pending",
        "new_status": "running",
        "timestamp": "2025-01-02T12:00:00Z",
    }
    assert of_new["type"] == after["type"] == "parent_job_progress"
