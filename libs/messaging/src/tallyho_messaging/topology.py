"""The shared exchanges and queues, declared by the deploy step; the services only use them.

The declarations are the same on RabbitMQ 3.10 to 4.x. Queues bind whole families of routing keys (`document.#`), so
that a message of an unknown type or version is received and dead-lettered with its reason, not dropped by the broker.
"""

from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractChannel
from tallyho_contracts.registry import COMMANDS, EVENTS, REPLIES

DEAD_LETTERS = "tallyho.dead-letters"
EXCHANGES = (EVENTS, COMMANDS, REPLIES, DEAD_LETTERS)

TRACKER_EVENTS = "job-tracker.events"
TRACKER_COMMANDS = "job-tracker.commands"
TRACKER_LOGS = "job-tracker.logs"
CRAWLER_COMMANDS = "crawler.commands"
CRAWLER_REQUESTS = "crawler.requests"

# A closed connection counts as a delivery of all that it held: the limit must be far above the crashes of a bad hour.
DELIVERY_LIMIT = 20
# To look at the dead letters is to be delivered them. RabbitMQ 4 drops what was delivered more than 20 times unless the
# queue says otherwise, and before it there is no word for "never".
LOOKS_AT_DEAD_LETTERS = 2**31 - 1


@dataclass(frozen=True)
class WorkQueue:
    """A durable quorum queue of one service, and which routing keys of which exchange reach it.

    Requests that nobody took in time are dropped: whoever asked was told, and they are no dead letters. Nor are the
    oldest messages of a queue with a `length`, when more come than are taken.
    """

    name: str
    exchange: str
    binding_keys: tuple[str, ...]
    holds_requests: bool = False
    length: int | None = None


WORK_QUEUES = (
    WorkQueue(TRACKER_EVENTS, EVENTS, ("document.#", "page.#", "crawl.#")),
    WorkQueue(TRACKER_COMMANDS, COMMANDS, ("job.#",), holds_requests=True),
    WorkQueue(TRACKER_LOGS, EVENTS, ("job.log.#",), length=10_000),
    WorkQueue(CRAWLER_COMMANDS, COMMANDS, ("crawl.#",)),
    WorkQueue(CRAWLER_REQUESTS, COMMANDS, ("document.#", "url.#"), holds_requests=True),
)


async def declare(url: str) -> None:
    """Declare exchanges, work queues and the dead-letter queue at `url`; changes nothing that is there."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for exchange in EXCHANGES:
            await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        dead_letters = await channel.declare_queue(
            DEAD_LETTERS,
            durable=True,
            arguments={"x-queue-type": "quorum", "x-delivery-limit": LOOKS_AT_DEAD_LETTERS},
        )
        await dead_letters.bind(DEAD_LETTERS, "#")
        for queue in WORK_QUEUES:
            await _declare_work_queue(channel, queue)


async def _declare_work_queue(channel: AbstractChannel, queue: WorkQueue) -> None:
    declared = await channel.declare_queue(
        queue.name,
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            **_overflow(queue),
        },
    )
    for key in queue.binding_keys:
        await declared.bind(queue.exchange, key)


def _overflow(queue: WorkQueue) -> dict[str, str | int]:
    """What becomes of messages that the queue does not hold."""
    if queue.holds_requests:
        return {}
    if queue.length is not None:
        return {"x-max-length": queue.length, "x-overflow": "drop-head"}
    return {
        "x-dead-letter-exchange": DEAD_LETTERS,
        # At least once needs reject-publish; otherwise the broker silently falls back to at most once.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
