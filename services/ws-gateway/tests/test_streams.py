"""What can be subscribed to, how each subscription is answered, and that nothing is missed or sent twice."""

import asyncio
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.documents import Document
from tallyho_contracts.jobs import JobState
from tallyho_contracts.logs import JobLog, LogLevel
from ws_gateway import connection, documents, frames
from ws_gateway.limits import Limits

State = Callable[..., JobState]
ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))


def a_document(ordinal: int) -> Document:
    return Document(
        document_id=UUID(int=ordinal),
        ordinal=ordinal,
        source_url=f"https://example.com/{ordinal}",
        title="Ein Titel, übersetzt",
        saved_at="2025-01-02T12:00:00Z",
    )


def a_line(job: UUID, message: str) -> JobLog:
    return JobLog(job_id=job, timestamp=datetime(2025, 1, 2, tzinfo=UTC), level=LogLevel.WARNING, message=message)


def grow(gateway: Any, state: State, documents: int, status: str = "running") -> None:
    """Job one has so many documents now, and says so."""
    known = gateway.tracker.documents
    known += [a_document(ordinal) for ordinal in range(len(known) + 1, documents + 1)]
    gateway.hub.offer(gateway.tracker.add(state(1, documents + 1, status, documents=documents)))


async def ordinals_until(watcher: Any, last: int) -> list[int]:
    ordinals: list[int] = []
    while not ordinals or ordinals[-1] < last:
        frame = await watcher.next()
        if frame["type"] == "document_saved":
            assert frame["payload"]["job_id"] == str(ONE)
            ordinals += [document["ordinal"] for document in frame["payload"]["documents"]]
    return ordinals


async def test_client_that_subscribes_at_once_gets_nothing_before_the_answer(gateway: Any, state: State) -> None:
    for job in range(300):
        gateway.hub.offer(gateway.tracker.add(state(job, 1)))
    watcher = await gateway.watch("/ws")
    await asyncio.sleep(0.15)  # longer than a flush takes

    answer = await watcher.answer_to("subscribe", job_id=str(ONE))

    assert answer["type"] == "subscribed"


async def test_subscriber_of_every_job_gets_the_live_ones_then_every_change(gateway: Any, state: State) -> None:
    gateway.hub.offer(state(1, 3))
    gateway.hub.offer(state(2, 8, "completed"))
    watcher = await gateway.watch("/v1/ws")

    answer = await watcher.answer_to("subscribe")
    first = await watcher.next()
    gateway.hub.offer(state(3, 1))
    then = await watcher.next()

    assert answer == {"type": "subscribed", "payload": {"job_id": None, "stream": "progress", "outcome": "snapshot"}}
    assert [frame["payload"]["job_id"] for frame in (first, then)] == [str(ONE), str(THREE)]


async def test_resumed_subscriber_of_every_job_misses_no_end_and_gets_nothing_twice(gateway: Any, state: State) -> None:
    gateway.hub.offer(state(1, 3))  # the client has it
    gateway.hub.offer(state(2, 8, "completed"))  # ended meanwhile, as this replica heard
    gateway.tracker.add(state(3, 9, "failed"))  # ended meanwhile, as only the tracker knows
    watcher = await gateway.watch("/v1/ws")

    held = {str(ONE): 3, str(TWO): 7, str(THREE): 5, str(UUID(int=4)): 1}
    answer = await watcher.answer_to("subscribe", revisions=held)
    ends = [await watcher.next(), await watcher.next()]
    gateway.hub.offer(state(1, 4))
    newer = await watcher.next()

    assert answer["payload"]["outcome"] == "snapshot"
    assert {(end["payload"]["job_id"], end["payload"]["revision"]) for end in ends} == {(str(TWO), 8), (str(THREE), 9)}
    assert (newer["payload"]["job_id"], newer["payload"]["revision"]) == (str(ONE), 4)


async def test_job_with_a_subscription_of_its_own_is_sent_once(gateway: Any, state: State) -> None:
    gateway.hub.offer(gateway.tracker.add(state(1, 1)))
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe")
    await watcher.next()
    await watcher.answer_to("subscribe", job_id=str(ONE), revision=1, interval_ms=50)

    gateway.hub.offer(state(1, 2))
    gateway.hub.offer(state(2, 1))
    frames = [await watcher.next(), await watcher.next()]

    assert sorted(frame["payload"]["job_id"] for frame in frames) == [str(ONE), str(TWO)]


async def test_every_job_can_be_unsubscribed_from_again(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 1))
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe")
    await watcher.answer_to("subscribe", job_id=str(ONE), revision=1)

    answer = await watcher.answer_to("unsubscribe")
    gateway.hub.offer(state(2, 1))
    gateway.hub.offer(state(1, 2))
    newer = await watcher.next()

    assert answer == {"type": "unsubscribed", "payload": {"job_id": None, "stream": "progress"}}
    assert newer["payload"]["job_id"] == str(ONE)


async def test_each_subscription_has_its_own_pace_and_an_end_waits_for_none(gateway_with: Any, state: State) -> None:
    gateway = await gateway_with(flush_seconds=3600.0)
    watcher = await gateway.watch("/v1/ws")
    for job, interval in ((1, 20), (2, 10_000)):
        gateway.tracker.add(state(job, 1))
        await watcher.answer_to("subscribe", job_id=str(UUID(int=job)), revision=1, interval_ms=interval)

    gateway.hub.offer(state(2, 2))
    gateway.hub.offer(state(1, 2))
    soon = await watcher.next()
    gateway.hub.offer(state(2, 3, "completed"))
    at_once = await watcher.next()

    assert (soon["payload"]["job_id"], soon["payload"]["revision"]) == (str(ONE), 2)
    assert (at_once["payload"]["job_id"], at_once["payload"]["revision"]) == (str(TWO), 3)


async def test_state_of_a_burst_between_snapshot_and_stream_is_not_lost(gateway: Any, state: State) -> None:
    gateway.hub.offer(gateway.tracker.add(state(1, 1)))
    going_on = True
    last = 1

    async def burst() -> None:
        nonlocal last
        while going_on:
            last += 1
            gateway.hub.offer(gateway.tracker.add(state(1, last)))
            await asyncio.sleep(0)

    bursting = asyncio.create_task(burst())
    watchers = [await gateway.watch("/v1/ws") for _ in range(10)]
    answers = [await watcher.answer_to("subscribe", job_id=str(ONE)) for watcher in watchers]
    going_on = False
    await bursting
    seen = [await watcher.states_until(ONE, last) for watcher in watchers]

    for answer, states in zip(answers, seen, strict=True):
        revisions = [payload["revision"] for payload in states]
        assert revisions[0] >= answer["payload"]["revision"]
        assert revisions == sorted(set(revisions))
        assert revisions[-1] == last


async def test_documents_are_replayed_from_the_first_then_live(gateway: Any, state: State) -> None:
    grow(gateway, state, 450)
    watcher = await gateway.watch("/v1/ws")

    answer = await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved")
    replayed = await ordinals_until(watcher, 450)
    grow(gateway, state, 451)
    grow(gateway, state, 700, "completed")
    live = await ordinals_until(watcher, 700)

    assert answer["payload"] == {
        "job_id": str(ONE),
        "stream": "document_saved",
        "outcome": "replayed",
        "from_ordinal": 1,
        "to_ordinal": 450,
    }
    assert replayed + live == list(range(1, 701))


async def test_documents_resume_after_the_ordinal_that_the_client_has(gateway: Any, state: State) -> None:
    grow(gateway, state, 10)
    watcher = await gateway.watch("/v1/ws")

    behind = await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=7)
    rest = await ordinals_until(watcher, 10)
    current = await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=10)
    ahead = await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=11)

    assert (behind["payload"]["from_ordinal"], behind["payload"]["to_ordinal"]) == (8, 10)
    assert rest == [8, 9, 10]
    assert current["payload"]["outcome"] == "up_to_date"
    assert (ahead["payload"]["code"], ahead["payload"]["field"]) == ("invalid", "ordinal")


async def test_document_has_the_fields_that_the_http_api_gives_it(gateway: Any, state: State) -> None:
    grow(gateway, state, 1)
    watcher = await gateway.watch("/v1/ws")

    await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved")
    frame = await watcher.next()

    assert frame["payload"]["documents"] == [a_document(1).model_dump(mode="json")]


async def test_documents_the_tracker_does_not_answer_for_come_later(
    gateway: Any, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "RETRY_SECONDS", (0.01, 0.02))
    grow(gateway, state, 10)
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=10)

    gateway.tracker.away = True
    grow(gateway, state, 20)
    asked = len(gateway.tracker.asked)
    async with asyncio.timeout(5):
        while len(gateway.tracker.asked) < asked + 3:
            await asyncio.sleep(0.005)
    gateway.tracker.away = False

    assert await ordinals_until(watcher, 20) == list(range(11, 21))


async def test_followers_at_the_same_place_cost_one_request(gateway: Any, state: State) -> None:
    grow(gateway, state, 5)
    watchers = [await gateway.watch("/v1/ws") for _ in range(20)]
    for watcher in watchers:
        await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=5)
    asked = len(gateway.tracker.asked)

    grow(gateway, state, 105)
    received = [await ordinals_until(watcher, 105) for watcher in watchers]

    assert received == [list(range(6, 106))] * 20
    assert len(gateway.tracker.asked) == asked + 1


async def test_clients_that_drop_and_resume_at_random_get_every_ordinal_once(gateway_with: Any, state: State) -> None:
    gateways = [await gateway_with(flush_seconds=0.02), await gateway_with(flush_seconds=0.02)]
    dice = random.Random(7)
    last = 3_000

    async def follow() -> list[int]:
        ordinals: list[int] = []
        while not ordinals or ordinals[-1] < last:
            watcher = await dice.choice(gateways).watch("/v1/ws")
            have = ordinals[-1] if ordinals else 0
            await watcher.send("subscribe", job_id=str(ONE), stream="document_saved", ordinal=have)
            for _ in range(dice.randint(0, 8)):
                frame = await watcher.next()
                if frame["type"] == "document_saved":
                    ordinals += [document["ordinal"] for document in frame["payload"]["documents"]]
                if ordinals and ordinals[-1] == last:
                    break
            if dice.random() < 0.5:
                watcher.socket._response.connection.transport.abort()
            await watcher.socket.close()
        return ordinals

    grow(gateways[0], state, 1)
    following = [asyncio.create_task(follow()) for _ in range(10)]
    for documents_now in range(1, last + 1, 7):
        grow(gateways[0], state, documents_now)
        await asyncio.sleep(0.002)
    grow(gateways[0], state, last, "completed")

    async with asyncio.timeout(60):
        assert await asyncio.gather(*following) == [list(range(1, last + 1))] * 10


async def test_client_that_takes_documents_slowly_is_not_buffered_for(gateway: Any, state: State) -> None:
    grow(gateway, state, 20_000)
    watcher = await gateway.watch("/v1/ws")
    watcher.socket._response.connection.transport.pause_reading()

    await watcher.send("subscribe", job_id=str(ONE), stream="document_saved")
    [only] = gateway.connections
    async with asyncio.timeout(10):
        while only.client.queued_bytes < connection.ROOM_BYTES:
            await asyncio.sleep(0.01)
    asked = len(gateway.tracker.asked)
    await asyncio.sleep(0.3)  # in which nothing may happen

    assert len(gateway.tracker.asked) == asked < 60
    watcher.socket._response.connection.transport.resume_reading()
    assert await ordinals_until(watcher, 20_000) == list(range(1, 20_001))


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
    long = {"url": "https://example.com/" + "x" * 2_000}
    gateway.tracker.lines = [a_line(ONE, f"line {number}").model_copy(update={"fields": long}) for number in range(200)]
    watcher = await gateway.watch("/v1/ws")

    await watcher.answer_to("subscribe", job_id=str(ONE), stream="job_log")
    first = int((await watcher.next())["payload"]["message"].removeprefix("line "))
    rest = [(await watcher.next())["payload"]["message"] for _ in range(first + 1, 200)]

    assert 100 < first < 190
    assert rest == [f"line {number}" for number in range(first + 1, 200)]


async def test_log_of_an_unknown_job_is_not_found(gateway: Any) -> None:
    watcher = await gateway.watch("/v1/ws")

    answer = await watcher.answer_to("subscribe", job_id=str(ONE), stream="job_log")

    assert answer["payload"]["code"] == "not_found"
    assert answer["payload"]["stream"] == "job_log"


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


async def test_subscriptions_of_a_connection_are_bounded(gateway_with: Any, state: State) -> None:
    gateway = await gateway_with(limits=Limits(subscriptions=2))
    for job in (1, 2, 3):
        gateway.tracker.add(state(job, 1))
    watcher = await gateway.watch("/v1/ws")
    for job, stream in ((ONE, "progress"), (ONE, "document_saved")):
        await watcher.answer_to("subscribe", job_id=str(job), stream=stream)
    await watcher.next()

    refused = await watcher.answer_to("subscribe", job_id=str(TWO))
    await watcher.answer_to("unsubscribe", job_id=str(ONE))
    accepted = await watcher.answer_to("subscribe", job_id=str(TWO))

    assert (refused["payload"]["code"], refused["payload"]["job_id"]) == ("too_many_subscriptions", str(TWO))
    assert accepted["type"] == "subscribed"


async def test_client_with_an_ack_window_is_never_sent_more_than_it_can_take(gateway_with: Any, state: State) -> None:
    gateway = await gateway_with(flush_seconds=0.01)
    watcher = await gateway.watch("/v1/ws")
    await watcher.send("subscribe", ack_window=3)
    await watcher.next()

    for revision in range(1, 101):
        for job in (1, 2, 3, 4):
            gateway.hub.offer(state(job, revision))
        await asyncio.sleep(0.002)
    early = [await watcher.next(), await watcher.next()]  # with the answer, three
    await watcher.send("ack", received=3)
    late = [await watcher.next() for _ in range(3)]

    assert all(frame["payload"]["revision"] < 20 for frame in early)
    assert all(frame["payload"]["revision"] == 100 for frame in late)


async def test_ack_of_what_was_never_sent_is_invalid(gateway: Any) -> None:
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe")

    answer = await watcher.answer_to("ack", received=2)

    assert (answer["payload"]["code"], answer["payload"]["field"]) == ("invalid", "received")


def test_frames_of_documents_are_valid_json() -> None:
    encoded = [a_document(one).model_dump_json().encode() for one in (1, 2)]
    frame = json.loads(frames.documents(ONE, encoded))

    assert frames.SavedDocuments.model_validate_json(json.dumps(frame["payload"])).documents == (
        a_document(1),
        a_document(2),
    )
