"""A broker that dies, restarts, blocks its publishers, or is not as it was set up."""

import asyncio
from random import Random

from chaos.stage import Stage
from tallyho_messaging.topology import TRACKER_EVENTS, WORK_QUEUES

HOLD_SECONDS = 3.0
USUAL_WATERMARK = "0.4"


async def killed(stage: Stage, _: Random) -> None:
    """Kill the broker, and start it again with the data it had."""
    await asyncio.to_thread(stage.broker.kill)
    await asyncio.to_thread(stage.broker.start)


async def stopped(stage: Stage, _: Random) -> None:
    """Stop the broker in order, and start it again."""
    await asyncio.to_thread(stage.broker.stop)
    await asyncio.to_thread(stage.broker.start)


async def out_of_memory(stage: Stage, _: Random) -> None:
    """Raise the memory alarm: whoever publishes is blocked."""
    await stage.rabbitmqctl("set_vm_memory_high_watermark", "0")
    try:
        await asyncio.sleep(HOLD_SECONDS)
    finally:
        await stage.rabbitmqctl("set_vm_memory_high_watermark", USUAL_WATERMARK)


async def refused(stage: Stage, _: Random) -> None:
    """Take every right from the services' user, and from what is connected."""
    user = "tallyho"
    await stage.rabbitmqctl("set_permissions", user, "^$", "^$", "^$")
    try:
        stage.broker_link.reset()  # a channel remembers for a while what it was allowed
        await asyncio.sleep(HOLD_SECONDS)
    finally:
        await stage.rabbitmqctl("set_permissions", user, ".*", ".*", ".*")


async def unbound(stage: Stage, _: Random) -> None:
    """Unbind the tracker's queue: events reach no queue, and must wait in the outbox."""
    [work] = [queue for queue in WORK_QUEUES if queue.name == TRACKER_EVENTS]
    async with stage.channel() as channel:
        queue = await channel.declare_queue(work.name, passive=True)
        for key in work.binding_keys:
            await queue.unbind(work.exchange, key)
        try:
            await asyncio.sleep(HOLD_SECONDS)
        finally:
            for key in work.binding_keys:
                await queue.bind(work.exchange, key)
