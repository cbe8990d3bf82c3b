"""What reaches a queue of the real broker, and the events that tests send through it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from tallyho_contracts.event import EVENT_CONTENT_TYPE
from tallyho_contracts.pages import PageStarted
from tallyho_messaging.connection import Amqp
from tallyho_messaging.wire import AnyEvent, Malformed, decode, event_of


class Mailbox:
    """The messages of a queue, from the moment it was opened."""

    def __init__(self, exchange: str, queue: AbstractQueue) -> None:
        self.exchange = exchange
        self._queue = queue
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def listen(self) -> None:
        """Take whatever reaches the queue."""
        await self._queue.consume(self._arrived.put, no_ack=True)

    async def bind(self, key: str = "#") -> None:
        """Let what is published to the exchange with `key` reach the queue."""
        await self._queue.bind(self.exchange, key)

    async def receive(self, number: int = 1, *, seconds: float = 15.0) -> list[AbstractIncomingMessage]:
        """The next messages, if they come within `seconds`."""
        async with asyncio.timeout(seconds):
            return [await self._arrived.get() for _ in range(number)]

    async def receive_events(self, number: int) -> list[UUID]:
        """The ids of the next events, however many messages bring them."""
        ids: list[UUID] = []
        while len(ids) < number:
            [message] = await self.receive()
            items = decode(message.body, message.content_type, message.type)
            ids += [item.id for item in items if not isinstance(item, Malformed)]
        return ids

    @property
    def is_empty(self) -> bool:
        """Whether nothing more has arrived yet."""
        return self._arrived.empty()


async def holds(url: str, queue: str, number: int) -> bool:
    """Whether a queue gets to hold so many messages: those of a connection that ended come back in their own time."""
    async with await aio_pika.connect(url) as connection, asyncio.timeout(20):
        channel = await connection.channel()
        while (await channel.declare_queue(queue, passive=True)).declaration_result.message_count != number:
            await asyncio.sleep(0.02)  # a queue's length can't be awaited
    return True


@asynccontextmanager
async def open_mailbox(url: str, *, bound: bool = True) -> AsyncIterator[Mailbox]:
    """An exchange and a queue of the test's own."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        name = f"test.{uuid4()}"
        await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, auto_delete=True)
        mailbox = Mailbox(name, await channel.declare_queue(name, exclusive=True))
        if bound:
            await mailbox.bind()
        await mailbox.listen()
        yield mailbox


@asynccontextmanager
async def open_mailbox_of(url: str, queue: str) -> AsyncIterator[Mailbox]:
    """A shared queue that nobody else reads now."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        mailbox = Mailbox("", await channel.declare_queue(queue, passive=True))
        await mailbox.listen()
        yield mailbox


def page_started() -> AnyEvent:
    """An event of the crawler, with ids of its own."""
    data = PageStarted(parent_job_id=uuid4(), page_ids=(uuid4(),))
    return event_of(data, source="crawler", subject=data.parent_job_id)


def encoded(event: AnyEvent) -> bytes:
    """The event as it goes over the wire."""
    return event.model_dump_json().encode()


async def send(amqp: Amqp, exchange: str, *events: AnyEvent) -> None:
    """Publish events of one type as one message."""
    type_ = events[0].type
    ids = [event.id for event in events]
    await amqp.publisher.publish_events(exchange, type_, type_, ids, [encoded(event) for event in events])


async def send_raw(amqp: Amqp, exchange: str, key: str, body: bytes, *, content_type: str = EVENT_CONTENT_TYPE) -> None:
    """Publish bytes that may be no event at all."""
    await amqp.publisher.publish(exchange, key, aio_pika.Message(body, content_type=content_type, type=key))
