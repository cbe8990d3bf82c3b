"""Messages that nobody can understand, and messages as other releases write them."""

import asyncio
import json
from random import Random
from uuid import UUID

import aio_pika
from chaos.stage import Stage
from tallyho_contracts.event import BATCH_CONTENT_TYPE
from tallyho_contracts.registry import COMMANDS, EVENTS
from tallyho_messaging.topology import TRACKER_EVENTS, WORK_QUEUES

SPEAK_SECONDS = 3.0
COPY_SECONDS = 2.0


async def poisoned(stage: Stage, rng: Random) -> None:
    """Publish one message of each bad kind; each must end as a dead letter, and disturb nothing."""
    tag = str(UUID(int=rng.getrandbits(128)))
    incomplete = {"type": "page.finished.v1", "data": {}, "tag": tag}
    bad = [
        (EVENTS, "document.saved.v1", f"{{ {tag}".encode()),
        (EVENTS, "document.saved.v99", json.dumps({"type": "document.saved.v99", "tag": tag}).encode()),
        (EVENTS, "page.finished.v1", json.dumps(incomplete).encode()),
        (COMMANDS, "crawl.start.v1", json.dumps({"type": "crawl.start.v1", "tag": tag}).encode()),
        (COMMANDS, "job.get.v1", json.dumps({"type": "job.get.v1", "tag": tag}).encode()),
    ]
    batch = [json.dumps({"type": "crawl.stopped.v1", "number": n, "tag": tag}).encode() for n in range(3)]
    async with stage.channel() as channel:
        stage.poison |= {body for _, _, body in bad} | set(batch)
        for exchange, key, body in bad:
            await (await channel.get_exchange(exchange)).publish(aio_pika.Message(body, delivery_mode=2), key)
        message = aio_pika.Message(b"[" + b",".join(batch) + b"]", content_type=BATCH_CONTENT_TYPE, delivery_mode=2)
        await (await channel.get_exchange(EVENTS)).publish(message, "crawl.stopped.v1")


async def repeated(stage: Stage, rng: Random) -> None:
    """Deliver the crawler's events of some seconds once more: late, and in another order."""
    async with stage.channel() as channel:
        exchange = await channel.get_exchange(EVENTS)
        copies = await channel.declare_queue(exclusive=True)
        [work] = [queue for queue in WORK_QUEUES if queue.name == TRACKER_EVENTS]
        for key in work.binding_keys:
            await copies.bind(exchange, key)
        await asyncio.sleep(COPY_SECONDS)
        messages = []
        while message := await copies.get(no_ack=True, fail=False):
            messages.append(message)
        rng.shuffle(messages)
        for message in messages:
            await exchange.publish(message, message.routing_key or "")


async def newer_release(stage: Stage, rng: Random) -> None:
    """Let a service write for a while as a later release: with fields that nobody knows."""
    await _speak(stage, rng, "newer")


async def older_release(stage: Stage, rng: Random) -> None:
    """Let a service write for a while as the first release did: without what came later."""
    await _speak(stage, rng, "first")


async def _speak(stage: Stage, rng: Random, release: str) -> None:
    service = rng.choice([*stage.replicas("crawler"), *stage.replicas("job-tracker")])
    stage.orders.speak(service, release)
    try:
        await asyncio.sleep(SPEAK_SECONDS)
    finally:
        stage.orders.cancel(service)
