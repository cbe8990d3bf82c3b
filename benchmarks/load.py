"""A steady load: `python -m benchmarks.load RATE SECONDS JOB…` publishes what is due, as the crawler's relay would.

The load is open: event n is due at n / RATE seconds after the start and carries that moment as its time, whether or not
it could be sent then. So whatever holds it up, here or later, counts as latency.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from uuid import UUID

from tallyho_messaging.connection import open_amqp
from tallyho_postgres.outbox import OutboxEvent

from benchmarks.events import documents_saved, publish, stamped

TICK_SECONDS = 0.005
HEAD_START_SECONDS = 0.5


async def main(rate: float, seconds: float, jobs: Sequence[UUID]) -> None:
    """Make the events first, then publish each when it is due."""
    events = documents_saved(jobs, int(rate * seconds))
    async with open_amqp(os.environ["AMQP_URL"], name="benchmarks-load") as amqp:
        print("ready", flush=True)
        start = time.time() + HEAD_START_SECONDS
        sent = 0
        while sent < len(events):
            due = min(len(events), int((time.time() - start) * rate))
            if due > sent:
                waiting: list[OutboxEvent] = [stamped(events[n], start + n / rate) for n in range(sent, due)]
                await publish(amqp.publisher, waiting)
                sent = due
            else:
                await asyncio.sleep(TICK_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), float(sys.argv[2]), [UUID(job) for job in sys.argv[3:]]))
