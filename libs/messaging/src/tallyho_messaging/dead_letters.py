"""The way to the dead-letter queue, with the reason that a plain reject can't carry."""

from datetime import UTC, datetime
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from tallyho_contracts.event import EVENT_CONTENT_TYPE

from tallyho_messaging.publisher import Publisher
from tallyho_messaging.topology import DEAD_LETTERS

REASON = "x-tallyho-reason"
QUEUE = "x-tallyho-queue"
EXCHANGE = "x-tallyho-exchange"
ROUTING_KEY = "x-tallyho-routing-key"


async def bury(publisher: Publisher, delivery: AbstractIncomingMessage, queue: str, body: bytes, reason: str) -> None:
    """Publish `body`, received on `queue` in `delivery`, to the dead-letter queue; returns once it is safe there."""
    message = aio_pika.Message(
        body,
        content_type=EVENT_CONTENT_TYPE,
        type=delivery.type,
        message_id=str(uuid4()),
        timestamp=datetime.now(UTC),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        headers={
            REASON: reason[:1000],
            QUEUE: queue,
            EXCHANGE: delivery.exchange or "",
            ROUTING_KEY: delivery.routing_key or "",
        },
    )
    await publisher.publish(DEAD_LETTERS, queue, message)
