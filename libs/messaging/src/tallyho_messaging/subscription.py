"""A process's own view of a stream: an exclusive queue that drops the oldest when the process can't keep up."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from tallyho_contracts.registry import EVENTS

from tallyho_messaging.connection import Amqp
from tallyho_messaging.lost_links import stop_consuming
from tallyho_messaging.wire import AnyEvent, Malformed, decode

log = logging.getLogger(__name__)

QUEUE_LENGTH = 10_000


@asynccontextmanager
async def subscribe(
    amqp: Amqp,
    *,
    queue: str,
    binding_keys: Sequence[str],
    on_event: Callable[[AnyEvent], None],
    on_gap: Callable[[], None],
) -> AsyncIterator[None]:
    """Call `on_event` for every event with one of `binding_keys`, while the block runs; neither call may block.

    `queue` must contain an id of this process. `on_gap` is called now and after every reconnection: what was published
    while no queue was there has been missed.
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
        queue, exclusive=True, arguments={"x-max-length": QUEUE_LENGTH, "x-overflow": "drop-head"}
    )
    await asyncio.gather(*(declared.bind(EVENTS, key) for key in binding_keys))
    tag = await declared.consume(receive, no_ack=True)
    amqp.consuming.reconnect_callbacks.add(reconnected)
    on_gap()
    try:
        yield
    finally:
        amqp.consuming.reconnect_callbacks.discard(reconnected)
        await stop_consuming(declared, tag)
