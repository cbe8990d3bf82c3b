"""A consumer on the real broker, with a handler that keeps what it was given."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from tallyho_messaging.connection import Amqp
from tallyho_messaging.consumer import Consumer
from tallyho_messaging.topology import TRACKER_EVENTS
from tallyho_messaging.wire import AnyEvent


class Applied:
    """A handler that keeps what it was given; `before` runs first, and may wait or fail."""

    def __init__(self, before: Callable[[Sequence[AnyEvent]], object] = lambda _: None) -> None:
        self.batches: list[list[UUID]] = []
        self.before = before
        self._changed = asyncio.Condition()

    @property
    def ids(self) -> list[UUID]:
        """The ids of all events that were applied."""
        return [event_id for batch in self.batches for event_id in batch]

    async def __call__(self, events: Sequence[AnyEvent]) -> None:
        """Apply a batch."""
        waiting = self.before(events)
        if asyncio.iscoroutine(waiting):
            await waiting
        async with self._changed:
            self.batches.append([event.id for event in events])
            self._changed.notify_all()

    async def until(self, *events: AnyEvent) -> None:
        """Wait until all `events` were applied."""
        wanted = {event.id for event in events}
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: wanted <= set(self.ids))


class AwayError(Exception):
    """The database is away."""


@asynccontextmanager
async def consuming(amqp: Amqp, handle: Applied, **limits: Any) -> AsyncIterator[None]:
    """Consume the crawler's events while the block runs, then drain."""
    stop = asyncio.Event()
    task = asyncio.create_task(consumer(amqp, handle, stop, **limits).run())
    yield
    stop.set()
    async with asyncio.timeout(10):
        await task


def consumer(amqp: Amqp, handle: Applied, stop: asyncio.Event, **limits: Any) -> Consumer:
    """A consumer of the crawler's events that waits while the handler says that the database is away."""
    return Consumer(amqp, TRACKER_EVENTS, handle, lambda error: isinstance(error, AwayError), stop, **limits)
