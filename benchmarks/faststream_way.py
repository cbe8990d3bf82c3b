"""FastStream with one good transaction for each event: insert it if it is new, and count it if it was. A process.

As good as it gets with a transaction for each event: one statement is one transaction and one round trip, the models
parse the bytes at once, and as many handlers run side by side as are prefetched, with a pool of connections.
"""

import asyncio
import os
import sys

import asyncpg
from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue
from faststream.rabbit.schemas.queue import QueueType
from tallyho_contracts.documents import DocumentSaved
from tallyho_contracts.event import Event
from tallyho_messaging.topology import TRACKER_EVENTS

COUNT = """
WITH added AS (
    INSERT INTO faststream_way.documents (parent_job_id, document_id, source_url, title, content_hash, saved_at)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING parent_job_id
)
UPDATE faststream_way.jobs SET document_count = document_count + 1 FROM added WHERE job_id = added.parent_job_id
"""


async def decode(message: RabbitMessage) -> DocumentSaved:
    """The document of an event; FastStream's own way, over a dict, takes twice as long."""
    return Event[DocumentSaved].model_validate_json(message.body).data


async def main(workers: int, prefetch: int) -> None:
    """Consume until the process is ended."""
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=workers, max_size=workers)
    broker = RabbitBroker(os.environ["AMQP_URL"], default_channel=Channel(prefetch_count=prefetch), logger=None)
    queue = RabbitQueue(TRACKER_EVENTS, durable=True, declare=False, queue_type=QueueType.QUORUM)

    @broker.subscriber(queue, decoder=decode, no_reply=True)
    async def on_document_saved(saved: DocumentSaved) -> None:
        await pool.execute(
            COUNT,
            saved.parent_job_id,
            saved.document_id,
            saved.source_url,
            saved.title,
            saved.content_hash,
            saved.timestamp,
        )

    app = FastStream(broker, logger=None)
    app.on_startup(lambda: print("ready", flush=True))
    async with pool:
        await app.run()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
