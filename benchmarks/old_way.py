"""The old way: for each message, read the job's JSON, add one, write it back, acknowledge. Run as a process.

As good as it gets without changing the idea: a lock on the row, without which several workers lose counts; a pool with
a connection a worker; statements that are prepared once; no parsing but what the count needs.
"""

import asyncio
import json
import os
import sys

import aio_pika
import asyncpg
from aio_pika.abc import AbstractIncomingMessage
from tallyho_messaging.topology import TRACKER_EVENTS

READ = "SELECT job FROM old_way.jobs WHERE job_id = $1 FOR UPDATE"
WRITE = "UPDATE old_way.jobs SET job = $2 WHERE job_id = $1"


async def main(workers: int, prefetch: int) -> None:
    """Consume until the process is ended."""
    inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=workers, max_size=workers)
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=prefetch)
    queue = await channel.declare_queue(TRACKER_EVENTS, passive=True)
    async with pool, asyncio.TaskGroup() as loops:
        for _ in range(workers):
            loops.create_task(work(pool, inbox))
        print("ready", flush=True)
        await queue.consume(inbox.put)
        await asyncio.Event().wait()


async def work(pool: "asyncpg.Pool[asyncpg.Record]", inbox: asyncio.Queue[AbstractIncomingMessage]) -> None:
    """Count one message after the other."""
    async with pool.acquire() as connection:
        while True:
            message = await inbox.get()
            job_id = json.loads(message.body)["data"]["parent_job_id"]
            async with connection.transaction():
                job = json.loads(await connection.fetchval(READ, job_id))
                job["document_count"] += 1
                await connection.execute(WRITE, job_id, json.dumps(job))
            await message.ack()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
