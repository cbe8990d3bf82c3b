"""A batching consumer: take what has arrived, apply it in one go, acknowledge.

The library's callbacks are tasks of the channel and are cancelled with it, in the middle of a transaction. So the
callback only enqueues, and workers of ours do the work. They never wait in order to batch: under load the inbox fills
while a batch is applied, and the next batch is larger. With two batches at once, one is read while the database applies
the other.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, time_ns
from typing import NamedTuple

from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelInvalidStateError
from tallyho_process.traces import record

from tallyho_messaging import metrics
from tallyho_messaging.connection import Amqp
from tallyho_messaging.dead_letters import bury
from tallyho_messaging.lost_links import acknowledge, close_channel, stop_consuming
from tallyho_messaging.publisher import PublishFailedError
from tallyho_messaging.wire import AnyEvent, Malformed, decode

log = logging.getLogger(__name__)

Handle = Callable[[Sequence[AnyEvent]], Awaitable[None]]

PREFETCH_MESSAGES = 300
BATCH_EVENTS = 2_000
ATTEMPTS = 3
FIRST_BACKOFF_SECONDS = 0.2
LAST_BACKOFF_SECONDS = 5.0


class StoppedError(Exception):
    """The process is stopping while a batch can't be applied; its messages stay with the broker."""


class Received(NamedTuple):
    """A message and what was read in it."""

    delivery: AbstractIncomingMessage
    items: list[AnyEvent | Malformed]


@dataclass
class Batch:
    """Messages that were taken from the inbox together, and until it is applied, what was read in them."""

    deliveries: list[AbstractIncomingMessage]
    received: list[Received]
    is_applied: bool = False


@dataclass
class Consumer:
    """Applies the messages of `queue` with `handle`, a batch at a time, at least once.

    An error that `is_transient` (the database is away) holds the batch and tries again. A batch that fails otherwise is
    split until the event that can't be applied stands alone; after three attempts that one is dead-lettered.

    At most `prefetch` messages are held, and at most `batches_at_once` batches of `batch_events` are read and applied.
    """

    amqp: Amqp
    queue: str
    handle: Handle
    is_transient: Callable[[BaseException], bool]
    stop: asyncio.Event
    prefetch: int = PREFETCH_MESSAGES
    batch_events: int = BATCH_EVENTS
    batches_at_once: int = 1
    _inbox: asyncio.Queue[AbstractIncomingMessage] = field(default_factory=asyncio.Queue)
    _taken: deque[Batch] = field(default_factory=deque)
    _taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _acknowledging: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Consume until `stop` is set, then finish what was received. Any error that escapes must end the process."""
        metrics.HOLDING.labels(self.queue).set(0)
        channel = await self.amqp.consuming.channel()
        await channel.set_qos(prefetch_count=self.prefetch)
        queue = await channel.declare_queue(self.queue, passive=True)
        tag = await queue.consume(self._receive)
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self.batches_at_once):
                    workers.create_task(self._work())
            await stop_consuming(queue, tag)
            while not self._inbox.empty():
                await self._finish(self._batch([]))
        except* StoppedError:
            log.info("stopped with messages unapplied; the broker keeps them queue=%s", self.queue)
        await close_channel(channel)

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        if self._inbox.qsize() >= self.prefetch:
            # The broker sends no more than that over one channel: the rest came over one that is gone, and comes again.
            waiting = [self._inbox.get_nowait() for _ in range(self._inbox.qsize())]
            for delivery in filter(_can_be_acknowledged, waiting):
                self._inbox.put_nowait(delivery)
        self._inbox.put_nowait(message)

    async def _work(self) -> None:
        while batch := await self._take():
            await self._finish(batch)

    async def _take(self) -> Batch | None:
        """Wait for messages; none when stopping, however many there are."""
        async with self._taking:
            if self.stop.is_set():
                return None
            first = asyncio.ensure_future(self._inbox.get())
            stopping = asyncio.ensure_future(self.stop.wait())
            try:
                await asyncio.wait((first, stopping), return_when=asyncio.FIRST_COMPLETED)
                return self._batch([first.result()]) if first.done() else None
            finally:
                first.cancel()
                stopping.cancel()

    def _batch(self, deliveries: list[AbstractIncomingMessage]) -> Batch:
        """Read what has arrived after `deliveries`, as long as one more message like the last one has room."""
        received = [_read(delivery) for delivery in deliveries]
        sizes = [len(one.items) for one in received] or [0]
        while sum(sizes) + sizes[-1] <= self.batch_events and not self._inbox.empty():
            received.append(_read(self._inbox.get_nowait()))
            sizes.append(len(received[-1].items))
        self._taken.append(batch := Batch([one.delivery for one in received], received))
        return batch

    async def _finish(self, batch: Batch) -> None:
        """Apply a batch, then acknowledge those before which nothing is left to be applied."""
        await self._process(batch.received)
        batch.received = []
        batch.is_applied = True
        async with self._acknowledging:
            applied: list[AbstractIncomingMessage] = []
            while self._taken and self._taken[0].is_applied:
                applied += self._taken.popleft().deliveries
            await acknowledge_all(applied)

    async def _process(self, received: Sequence[Received]) -> None:
        good: list[AnyEvent] = []
        for delivery, items in received:
            for item in items:
                if isinstance(item, Malformed):
                    await self._bury(delivery, item.body, item.reason)
                else:
                    good.append(item)
        for start in range(0, len(good), self.batch_events):
            await self._apply(good[start : start + self.batch_events], received)

    async def _apply(self, events: Sequence[AnyEvent], received: Sequence[Received]) -> None:
        attempt = 1
        backoff = FIRST_BACKOFF_SECONDS
        first_try = monotonic()
        while True:
            started, started_ns = monotonic(), time_ns()
            try:
                await self.handle(events)
                trace(events, started_ns)
                return self._applied(events, monotonic() - started)
            except Exception as error:  # the edge of the loop: hold, split, retry or dead-letter
                reason = f"{type(error).__name__}: {error}"
                kind = "transient" if self.is_transient(error) else "fault"
                metrics.APPLY_ERRORS.labels(self.queue, kind).inc()
                if kind == "transient":
                    metrics.HOLDING.labels(self.queue).set(monotonic() - first_try)
                    log.warning("holding %d events queue=%s error=%s", len(events), self.queue, reason)
                elif len(events) > 1:
                    await self._apply(events[: len(events) // 2], received)
                    return await self._apply(events[len(events) // 2 :], received)
                elif attempt == ATTEMPTS:
                    log.exception("event can't be applied queue=%s id=%s", self.queue, events[0].id)
                    return await self._bury(_origin(events[0], received), events[0].model_dump_json().encode(), reason)
                else:
                    attempt += 1
            await self._pause(backoff)
            backoff = min(2 * backoff, LAST_BACKOFF_SECONDS)

    def _applied(self, events: Sequence[AnyEvent], seconds: float) -> None:
        """Note it in the metrics: once a batch, since there are tens of thousands of events a second."""
        metrics.APPLIED.labels(self.queue).inc(len(events))
        metrics.APPLY_SECONDS.labels(self.queue).observe(seconds)
        metrics.BATCH_EVENTS.labels(self.queue).observe(len(events))
        age = (datetime.now(UTC) - events[0].time).total_seconds()
        metrics.EVENT_AGE.labels(self.queue).observe(max(0.0, age))
        metrics.HOLDING.labels(self.queue).set(0)

    async def _bury(self, delivery: AbstractIncomingMessage, body: bytes, reason: str) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            try:
                await bury(self.amqp.publisher, delivery, self.queue, body, reason)
            except PublishFailedError as error:
                log.warning("cannot dead-letter yet queue=%s error=%s", self.queue, error)
                await self._pause(backoff)
                backoff = min(2 * backoff, LAST_BACKOFF_SECONDS)
            else:
                return log.error("dead-lettered a message queue=%s reason=%s", self.queue, reason)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return
        raise StoppedError


def _origin(event: AnyEvent, received: Sequence[Received]) -> AbstractIncomingMessage:
    """The message that brought an event. Looked for only when it can't be applied, since that is rare."""
    return next(delivery for delivery, items in received if any(item is event for item in items))


def trace(events: Sequence[AnyEvent], started_ns: int) -> None:
    """Add the batch that just ended to the traces of its events that have one."""
    for event in events:
        if event.traceparent:
            record(f"apply {event.type}", event.traceparent, started_ns, job=str(event.subject))


def _read(delivery: AbstractIncomingMessage) -> Received:
    return Received(delivery, decode(delivery.body, delivery.content_type, delivery.type))


def _can_be_acknowledged(delivery: AbstractIncomingMessage) -> bool:
    try:
        return not delivery.channel.is_closed
    except ChannelInvalidStateError:
        return False


async def acknowledge_all(deliveries: Sequence[AbstractIncomingMessage]) -> None:
    """Acknowledge all of `deliveries`, which must be everything received up to the last of each channel."""
    last_of_channel: dict[int, AbstractIncomingMessage] = {}
    for delivery in deliveries:
        with suppress(ChannelInvalidStateError):  # that channel is gone with its link: the message comes again
            last_of_channel[id(delivery.channel)] = delivery
    for delivery in last_of_channel.values():
        await acknowledge(delivery, multiple=True)
