"""How long the queues of a service are, and how many consumers they have: asked of the broker now and then.

A connection that came back without its consumer looks healthy from within; the broker knows better.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from aio_pika.exceptions import AMQPError
from tallyho_process.waiting import first_of

from tallyho_messaging.connection import Amqp
from tallyho_messaging.lost_links import link_errors
from tallyho_messaging.metrics import QUEUE_CONSUMERS, QUEUE_MESSAGES

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 15.0
ANSWER_SECONDS = 5.0


async def watch_queues(
    amqp: Amqp, queues: Sequence[str], stop: asyncio.Event, *, interval: float = INTERVAL_SECONDS
) -> None:
    """Measure `queues`, at first and every `interval` seconds, until `stop` is set."""
    while not stop.is_set():
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                with link_errors():
                    await _measure(amqp, queues)
        except (AMQPError, OSError, TimeoutError, RuntimeError) as error:
            log.info("queues not measured error=%s", error or type(error).__name__)
        await first_of(stop, seconds=interval)


async def _measure(amqp: Amqp, queues: Sequence[str]) -> None:
    # A channel for each time: the broker closes one on which it refuses something.
    channel = await amqp.consuming.channel()
    try:
        for name in queues:
            declared = await channel.declare_queue(name, passive=True, robust=False)
            QUEUE_MESSAGES.labels(name).set(declared.declaration_result.message_count or 0)
            QUEUE_CONSUMERS.labels(name).set(declared.declaration_result.consumer_count or 0)
    finally:
        with suppress(AMQPError, RuntimeError):
            await channel.close()
