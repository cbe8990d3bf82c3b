"""The consumer on a real broker: what it is given is applied and acknowledged, also when the link fails under it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest
from aio_pika.abc import AbstractIncomingMessage
from consumers import Applied, AwayError, consumer, consuming
from links import Link, open_link
from mailboxes import encoded, holds, page_started, send, send_raw
from tallyho_backing_services import BackingServices
from tallyho_contracts.event import BATCH_CONTENT_TYPE
from tallyho_contracts.registry import EVENTS
from tallyho_messaging.connection import Amqp, open_amqp
from tallyho_messaging.consumer import Consumer
from tallyho_messaging.publisher import PublishFailedError
from tallyho_messaging.topology import TRACKER_EVENTS
from tallyho_messaging.wire import AnyEvent


class Waiting(Consumer):
    """Knows how many messages wait in memory, and that more have come."""

    most_waiting = 0
    received = 0

    async def until_received(self, more: int) -> None:
        """Wait until so many messages have come since the last time."""
        async with asyncio.timeout(60):
            while self.received < more:
                await asyncio.sleep(0.01)  # what the broker sends is not ours to await
        self.received = 0

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        await super()._receive(message)
        self.received += 1
        self.most_waiting = max(self.most_waiting, self._inbox.qsize())


async def send_when_possible(amqp: Amqp, event: AnyEvent) -> None:
    """Publish an event as soon as the publisher is connected again."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await send(amqp, EVENTS, event)
            except PublishFailedError:
                await asyncio.sleep(0.1)  # its connection is not ours to await


@pytest.fixture
async def link(amqp_url: str) -> AsyncIterator[Link]:
    async with open_link(amqp_url) as link:
        yield link


async def test_events_of_single_and_batched_messages_are_applied_once_and_acknowledged(
    amqp: Amqp, amqp_url: str
) -> None:
    handle = Applied()
    events = [page_started() for _ in range(6)]
    async with consuming(amqp, handle):
        await send(amqp, EVENTS, events[0])
        await send(amqp, EVENTS, *events[1:])
        await handle.until(*events)

    assert Counter(handle.ids) == Counter(event.id for event in events)
    assert await holds(amqp_url, TRACKER_EVENTS, 0)


async def test_what_arrives_while_a_batch_is_applied_is_the_next_batch(amqp: Amqp) -> None:
    go_on = asyncio.Event()
    handle = Applied(lambda _: go_on.wait())
    events = [page_started() for _ in range(40)]
    async with consuming(amqp, handle):
        for event in events:
            await send(amqp, EVENTS, event)
        go_on.set()
        await handle.until(*events)

    assert len(handle.batches) < 10


async def test_batch_never_exceeds_its_limit(amqp: Amqp) -> None:
    handle = Applied()
    events = [page_started() for _ in range(30)]
    async with consuming(amqp, handle, batch_events=7):
        await send(amqp, EVENTS, *events)
        await handle.until(*events)

    assert [len(batch) for batch in handle.batches] == [7, 7, 7, 7, 2]


async def test_slow_batch_is_acknowledged_before_a_faster_one_that_came_later(amqp: Amqp, amqp_url: str) -> None:
    busy, go_on = asyncio.Event(), asyncio.Event()
    slow, fast = page_started(), [page_started() for _ in range(3)]

    async def pause(events: Sequence[AnyEvent]) -> None:
        if slow.id in [event.id for event in events]:
            busy.set()
            await go_on.wait()

    handle = Applied(pause)
    async with consuming(amqp, handle, batches_at_once=2):
        await send(amqp, EVENTS, slow)
        async with asyncio.timeout(10):
            await busy.wait()
        for event in fast:
            await send(amqp, EVENTS, event)
        await handle.until(*fast)
        go_on.set()
        await handle.until(slow)

    assert handle.ids[-1] == slow.id
    assert await holds(amqp_url, TRACKER_EVENTS, 0)


async def test_messages_that_come_again_and_again_do_not_pile_up_while_a_batch_is_held(
    link: Link, amqp: Amqp, amqp_url: str
) -> None:
    go_on, stop = asyncio.Event(), asyncio.Event()
    handle = Applied(lambda _: go_on.wait())
    events = [page_started() for _ in range(30)]
    for event in events:
        await send(amqp, EVENTS, event)
    async with open_amqp(link.url, name="test") as held:
        holding = Waiting(held, TRACKER_EVENTS, handle, lambda _: False, stop, prefetch=10, batch_events=1)
        task = asyncio.create_task(holding.run())
        await holding.until_received(10)
        for _ in range(5):
            link.cut()
            await link.mend()
            await holding.until_received(10)
        go_on.set()
        await handle.until(*events)
        stop.set()
        await task

    assert holding.most_waiting < 2 * 10  # those of the link that is, and of the one before until its end is noticed
    assert await holds(amqp_url, TRACKER_EVENTS, 0)


async def test_transient_error_holds_the_batch_until_it_passes(amqp: Amqp, amqp_url: str) -> None:
    failures = iter([AwayError(), AwayError()])

    def fail(_: Sequence[AnyEvent]) -> None:
        if error := next(failures, None):
            raise error

    handle = Applied(fail)
    events = [page_started() for _ in range(3)]
    async with consuming(amqp, handle):
        await send(amqp, EVENTS, *events)
        await handle.until(*events)

    assert handle.batches == [[event.id for event in events]]
    assert await holds(amqp_url, TRACKER_EVENTS, 0)


async def test_consumer_that_stops_while_it_must_wait_leaves_its_messages_to_the_next(
    amqp: Amqp, amqp_url: str
) -> None:
    held = asyncio.Event()

    def away(_: Sequence[AnyEvent]) -> None:
        held.set()
        raise AwayError

    event = page_started()
    async with consuming(amqp, Applied(away)):
        await send(amqp, EVENTS, event)
        async with asyncio.timeout(10):
            await held.wait()
    then = Applied()
    async with consuming(amqp, then):
        await then.until(event)

    assert then.ids == [event.id]


async def test_stopping_consumer_finishes_what_it_has_received_and_leaves_the_rest(amqp: Amqp, amqp_url: str) -> None:
    stop, busy, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def pause(_: Sequence[AnyEvent]) -> None:
        busy.set()
        await go_on.wait()

    handle = Applied(pause)
    events = [page_started() for _ in range(1_500)]
    await send(amqp, EVENTS, events[0])
    # Small batches: while one is applied, the broker fills the places of the last, and there is always a next.
    task = asyncio.create_task(consumer(amqp, handle, stop, batch_events=10).run())
    async with asyncio.timeout(10):
        await busy.wait()
    for start in range(1, len(events), 100):  # the broker has 5 s to confirm each
        await asyncio.gather(*(send(amqp, EVENTS, event) for event in events[start : start + 100]))
    stop.set()
    go_on.set()
    async with asyncio.timeout(10):
        await task

    applied = len(handle.ids)
    assert 2 <= applied <= 600
    assert await holds(amqp_url, TRACKER_EVENTS, len(events) - applied)


async def test_stopping_consumer_does_not_wait_for_a_broker_that_is_away(link: Link) -> None:
    stop = asyncio.Event()
    async with open_amqp(link.url, name="test") as amqp:
        handle, event = Applied(), page_started()
        task = asyncio.create_task(consumer(amqp, handle, stop).run())
        await send(amqp, EVENTS, event)
        await handle.until(event)
        link.cut()
        async with asyncio.timeout(10):
            while amqp.consuming.connected.is_set():
                await asyncio.sleep(0.01)  # the library tells when it is connected, not when it no longer is
        stop.set()

        async with asyncio.timeout(10):
            await task


async def test_consumer_recovers_from_a_link_that_breaks_while_it_works(link: Link, amqp: Amqp, amqp_url: str) -> None:
    busy, go_on = asyncio.Event(), asyncio.Event()

    async def pause(_: Sequence[AnyEvent]) -> None:
        busy.set()
        await go_on.wait()

    handle = Applied(pause)
    before, after = [page_started() for _ in range(5)], [page_started() for _ in range(5)]
    async with open_amqp(link.url, name="test") as breaking, consuming(breaking, handle):
        for event in before:
            await send(amqp, EVENTS, event)
        async with asyncio.timeout(10):
            await busy.wait()
        link.cut()
        for event in after:
            await send(amqp, EVENTS, event)
        go_on.set()
        await link.mend()
        await handle.until(*before, *after)

    assert set(handle.ids) == {event.id for event in before + after}
    assert await holds(amqp_url, TRACKER_EVENTS, 0)


async def test_consumer_recovers_from_a_link_that_the_library_gave_up(amqp: Amqp, amqp_url: str) -> None:
    async def hang_up(_: Sequence[AnyEvent]) -> None:
        # What the library does to a link on which no heartbeat comes any more: its own calls are cancelled.
        assert amqp.consuming.transport
        await amqp.consuming.transport.connection.close(asyncio.CancelledError())

    handle = Applied(hang_up)
    event = page_started()
    async with consuming(amqp, handle):
        await send(amqp, EVENTS, event)
        await handle.until(event)
        handle.before = lambda _: None
        second = page_started()
        await send(amqp, EVENTS, second)
        await handle.until(event, second)

    assert await holds(amqp_url, TRACKER_EVENTS, 0)


async def test_nothing_is_lost_when_the_broker_is_restarted(amqp: Amqp, backing: BackingServices) -> None:
    handle = Applied()
    before, after = [page_started() for _ in range(3)], page_started()
    async with consuming(amqp, handle):
        for event in before:
            await send(amqp, EVENTS, event)
        await handle.until(before[0])  # a consumer that has not begun ends with its process instead
        await asyncio.to_thread(backing.broker.stop)
        await asyncio.to_thread(backing.broker.start)
        await send_when_possible(amqp, after)
        await handle.until(*before, after)

    assert set(handle.ids) == {event.id for event in [*before, after]}


async def test_bad_bytes_among_good_events_do_not_stop_the_consumer(amqp: Amqp, amqp_url: str) -> None:
    handle = Applied()
    first, second = page_started(), page_started()
    async with consuming(amqp, handle):
        await send(amqp, EVENTS, first)
        await send_raw(amqp, EVENTS, "page.started.v1", b"[" * 100_000)
        await send_raw(amqp, EVENTS, "page.started.v1", b"[" * 100_000, content_type=BATCH_CONTENT_TYPE)
        await send_raw(amqp, EVENTS, "page.unknown", encoded(first))
        await send(amqp, EVENTS, second)
        await handle.until(first, second)

    assert await holds(amqp_url, TRACKER_EVENTS, 0)
