"""Subscriptions to states: how each is answered, and that nothing is missed or sent twice."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.jobs import JobState
from ws_gateway.limits import Limits

pytestmark = pytest.mark.usefixtures("no_silence")

State = Callable[..., JobState]
ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))


async def test_client_that_subscribes_at_once_gets_nothing_before_the_answer(gateway: Any, state: State) -> None:
    for job in range(300):
        gateway.hub.offer(gateway.tracker.add(state(job, 1)))
    watcher = await gateway.watch("/ws")
    witness = await gateway.watch("/v1/ws")
    await witness.answer_to("subscribe")
    for revision in (2, 3):  # between two writes to one client there was a moment for each
        gateway.hub.offer(gateway.tracker.add(state(1, revision)))
        await witness.states_until(ONE, revision)

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

    assert all(frame["payload"]["revision"] < 100 for frame in early)
    assert all(frame["payload"]["revision"] == 100 for frame in late)


async def test_ack_of_what_was_never_sent_is_invalid(gateway: Any) -> None:
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe")

    answer = await watcher.answer_to("ack", received=2)

    assert (answer["payload"]["code"], answer["payload"]["field"]) == ("invalid", "received")
