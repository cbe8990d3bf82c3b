"""The dead-letter queue as an operator's tool sees it: read without a trace, replay, discard.

A queue can only be read by taking its messages. What is not settled goes back when the connection closes: all at once,
at its old place. To give letters back one by one would shuffle them, since a quorum queue puts them in the order in
which it hears of them.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError

from tallyho_messaging.lost_links import link_errors
from tallyho_messaging.publisher import PUBLISH_TIMEOUT_SECONDS
from tallyho_messaging.topology import DEAD_LETTERS

# Letters that are out of the queue at once.
MOST_HELD = 10_000
ROOM_FOR_MARKERS = 100
CONNECT_SECONDS = 10
NEXT_LETTER_SECONDS = 15.0
LOOKS_FOR_OTHERS, LOOK_SECONDS = 20, 0.1

MARKER = "x-tallyho-end"


class DeadLettersUnavailableError(Exception):
    """The broker is away, has no such queue, or lets nobody else read it just now."""


class ReplayFailedError(Exception):
    """The broker did not take a letter back into the queue where it died; it stays a dead letter."""


class DeadLetterQueue:
    """The letters that are in the queue when it is opened. To settle one is to replay or discard it."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._held = 0
        self._settled = 0

    async def letters(self) -> AsyncIterator[AbstractIncomingMessage]:
        """Each letter, the oldest first; ends at what arrived later, or when `MOST_HELD` were not settled."""
        queue = await self._free_queue()
        await self._channel.set_qos(prefetch_count=MOST_HELD + ROOM_FOR_MARKERS)
        await queue.consume(self._arrived.put)
        async with aclosing(self._until(await self._mark())) as letters:
            async for letter in letters:
                self._held += 1
                yield letter
                if self._held == MOST_HELD:
                    return

    async def _free_queue(self) -> AbstractQueue:
        """The queue, once nobody else reads it: two readers would each see some of the letters."""
        for _ in range(LOOKS_FOR_OTHERS):
            queue = await self._channel.declare_queue(DEAD_LETTERS, passive=True)
            if not queue.declaration_result.consumer_count:
                return queue
            await asyncio.sleep(LOOK_SECONDS)  # nothing tells when another reader goes
        raise DeadLettersUnavailableError("somebody else is reading the dead letters")

    async def _mark(self) -> str:
        """Queue up a message of our own behind the letters: nothing else tells which one is the last."""
        end = str(uuid4())
        # Whoever reads next drops the marker of a reader who died; it is gone by itself after a minute.
        marker = aio_pika.Message(b"", headers={MARKER: end}, expiration=60)
        await self._channel.default_exchange.publish(marker, DEAD_LETTERS, timeout=PUBLISH_TIMEOUT_SECONDS)
        return end

    async def _until(self, end: str) -> AsyncGenerator[AbstractIncomingMessage, None]:
        while True:
            async with asyncio.timeout(NEXT_LETTER_SECONDS):
                message = await self._arrived.get()
            marker = message.headers.get(MARKER)
            if marker is None:
                yield message
                continue
            await message.ack()
            if marker == end:
                return

    async def flush(self) -> None:
        """Wait until the broker has carried out every acknowledgement.

        A quorum queue's channel holds back those it is busy for, and forgets them when it closes; a message that has
        gone the whole way after them has pushed them through.
        """
        if self._settled:
            async with aclosing(self._until(await self._mark())) as later:
                async for _ in later:
                    pass

    async def replay(self, letter: AbstractIncomingMessage, queue: str | None) -> None:
        """Publish the letter to the queue where it died, as it was then, and take it off the dead letters.

        Raises ReplayFailedError, also when nothing tells where that was.
        """
        if not queue:
            raise ReplayFailedError("nothing tells in which queue it died")
        message = aio_pika.Message(
            letter.body,
            content_type=letter.content_type,
            type=letter.type,
            message_id=letter.message_id,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        try:
            await self._channel.default_exchange.publish(message, queue, timeout=PUBLISH_TIMEOUT_SECONDS)
        except (aio_pika.exceptions.DeliveryError, TimeoutError) as error:
            raise ReplayFailedError(f"{queue} did not take it: {_in_words(error)}") from error
        await self.discard(letter)

    async def discard(self, letter: AbstractIncomingMessage) -> None:
        """Take the letter off the dead letters, for ever."""
        await letter.ack()
        self._held -= 1
        self._settled += 1


@asynccontextmanager
async def open_dead_letters(url: str) -> AsyncIterator[DeadLetterQueue]:
    """Connect to the broker at `url`; at the end every letter that was not settled is back in its place.

    Raises DeadLettersUnavailableError, also for what breaks within the block.
    """
    try:
        # Not a robust connection: after a reconnect the same letters would come again.
        connection = await aio_pika.connect(url, timeout=CONNECT_SECONDS)
    except (AMQPError, OSError, ValueError) as error:
        raise DeadLettersUnavailableError(f"no broker answers there: {_in_words(error)}") from error
    try:
        with link_errors():
            async with connection:
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                queue = DeadLetterQueue(channel)
                yield queue
                await queue.flush()
    except (AMQPError, OSError, RuntimeError) as error:
        raise DeadLettersUnavailableError(f"the dead letters can't be read: {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
