"""A process's own view of a stream: an exclusive queue that drops the oldest when the process can't keep up."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError
from tallyho_contracts.registry import EVENTS

from tallyho_messaging.connection import Amqp
from tallyho_messaging.lost_links import link_errors, stop_consuming
from tallyho_messaging.wire import AnyEvent, Malformed, decode

log = logging.getLogger(__name__)

QUEUE_LENGTH = 10_000
BIND_TIMEOUT_SECONDS = 5.0


class BindFailedError(Exception):
    """The broker did not answer; the queue is bound as it was."""


class Subscription:
    """A queue whose binding keys can change while it is consumed. What is bound is bound again after a reconnection."""

    def __init__(self, queue: AbstractQueue) -> None:
        self._queue = queue

    async def bind(self, *keys: str) -> None:
        """From now on receive what is published with one of these keys, too. Raises BindFailedError."""
        await _all([self._queue.bind(EVENTS, key) for key in keys])

    async def unbind(self, *keys: str) -> None:
        """Receive it no longer, unless by another key. Raises BindFailedError."""
        await _all([self._queue.unbind(EVENTS, key) for key in keys])


async def _all(steps: Sequence[Any]) -> None:
    try:
        async with asyncio.timeout(BIND_TIMEOUT_SECONDS):
            with link_errors():
                await asyncio.gather(*steps)
    except (AMQPError, OSError, TimeoutError, RuntimeError) as error:
        raise BindFailedError(str(error) or type(error).__name__) from error


@asynccontextmanager
async def subscribe(
    amqp: Amqp,
    *,
    queue: str,
    binding_keys: Sequence[str],
    on_event: Callable[[AnyEvent], None],
    on_gap: Callable[[], None],
    length: int = QUEUE_LENGTH,
) -> AsyncIterator[Subscription]:
    """Call `on_event` for every event with one of `binding_keys`, while the block runs; neither call may block.

    `queue` must contain an id of this process. `on_gap` is called now and after every reconnection: what was published
    while no queue was there has been missed. A message of several events comes whole, if any of them has a key of ours.
    """

    async def receive(message: AbstractIncomingMessage) -> None:
        for item in decode(message.body, message.content_type, message.type):
            if isinstance(item, Malformed):
                log.error("unreadable event queue=%s reason=%s", queue, item.reason)
            else:
                on_event(item)

    def reconnected(*_: Any) -> None:
        on_gap()

    channel = await amqp.consuming.channel()
    declared = await channel.declare_queue(
        queue, exclusive=True, arguments={"x-max-length": length, "x-overflow": "drop-head"}
    )
    await asyncio.gather(*(declared.bind(EVENTS, key) for key in binding_keys))
    tag = await declared.consume(receive, no_ack=True)
    amqp.consuming.reconnect_callbacks.add(reconnected)
    on_gap()
    try:
        yield Subscription(declared)
    finally:
        amqp.consuming.reconnect_callbacks.discard(reconnected)
        await stop_consuming(declared, tag)
