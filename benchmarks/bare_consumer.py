"""The bare consume rate: aio-pika with batch acknowledgements and no work. Ends after so many messages. A process."""

import asyncio
import os
import sys

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from tallyho_messaging.topology import TRACKER_EVENTS

BATCH_MESSAGES = 100


async def main(prefetch: int, messages: int) -> None:
    """Consume and acknowledge `messages`, in batches."""
    inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    async with await aio_pika.connect(os.environ["AMQP_URL"]) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=prefetch)
        queue = await channel.declare_queue(TRACKER_EVENTS, passive=True)
        print("ready", flush=True)
        await queue.consume(inbox.put)
        received = 0
        while received < messages:
            last = await inbox.get()
            received += 1
            if received % BATCH_MESSAGES == 0 or received == messages:
                await last.ack(multiple=True)
        # The broker answers in order: after this, it has the acknowledgements.
        await channel.declare_queue(TRACKER_EVENTS, passive=True)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
