"""Dead letters: the way into their queue, with the reason that a plain reject can't carry, and what they tell."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from tallyho_contracts.event import EVENT_CONTENT_TYPE

from tallyho_messaging.metrics import DEAD_LETTERED
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
    DEAD_LETTERED.labels(queue).inc()


@dataclass(frozen=True)
class DeadLetter:
    """A message in the dead-letter queue. `queue` is where it died; none when nothing tells."""

    id: str
    time: datetime | None
    queue: str | None
    reason: str
    type: str | None
    job: str | None
    content_type: str | None


def read_letter(message: AbstractIncomingMessage) -> DeadLetter:
    """What a message of the dead-letter queue says of itself: in our headers, or in those of the broker."""
    headers = message.headers
    deaths: Any = headers.get("x-death")
    death: dict[str, Any] = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    buried = REASON in headers
    queue = headers.get(QUEUE) if buried else headers.get("x-first-death-queue", death.get("queue"))
    reason = headers[REASON] if buried else headers.get("x-first-death-reason", death.get("reason", "unknown"))
    time = message.timestamp if buried else death.get("time", message.timestamp)
    event = _first_event(message.body)
    return DeadLetter(
        # Not every publisher gives its messages an id.
        id=message.message_id or sha256(message.body).hexdigest()[:32],
        time=time.replace(tzinfo=time.tzinfo or UTC) if isinstance(time, datetime) else None,
        queue=str(queue) if queue else None,
        reason=str(reason),
        type=message.type or _text(event.get("type")),
        job=_text(event.get("subject")),
        content_type=message.content_type,
    )


def _first_event(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, list) and found:
        found = found[0]
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
