"""`python -m job_tracker` runs the service; `python -m job_tracker migrate` prepares its schema."""

import asyncio
import logging
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

from tallyho_messaging.announcing import announce
from tallyho_messaging.connection import open_amqp
from tallyho_messaging.consumer import Consumer
from tallyho_messaging.job_logs import JobLogs
from tallyho_messaging.requests import serve
from tallyho_messaging.topology import TRACKER_COMMANDS, TRACKER_EVENTS
from tallyho_postgres.errors import is_transient
from tallyho_postgres.migrations import migrate
from tallyho_postgres.outbox import Relay
from tallyho_postgres.pool import open_pool
from tallyho_process import run_process, spare_the_collector, stop_on_signal, stoppable_start

from job_tracker import deletion
from job_tracker.commands import SOURCE
from job_tracker.deps import Deps
from job_tracker.handlers import on_events
from job_tracker.progress import Progress
from job_tracker.requests import answer
from job_tracker.settings import Settings
from job_tracker.watchdog import watch

SCHEMA = "job_tracker"

log = logging.getLogger(SCHEMA)


async def run() -> None:
    """Wire the tracker and run its loops until a signal; one that dies ends the process."""
    settings = Settings()
    with stop_on_signal() as stop:
        async with AsyncExitStack() as opened:
            async with stoppable_start(stop):
                pool = await opened.enter_async_context(open_pool(settings.database_url, schema=SCHEMA))
                amqp = await opened.enter_async_context(open_amqp(settings.amqp_url, name=SOURCE))
            relay = Relay(pool, amqp.publisher.publish_events)
            progress = Progress(pool, partial(announce, amqp.publisher, SOURCE))
            logs = JobLogs(amqp.publisher, SOURCE, partial(datetime.now, UTC))
            deps = Deps(pool, relay, progress, partial(datetime.now, UTC), logs.say)
            consumer = Consumer(
                amqp,
                TRACKER_EVENTS,
                partial(on_events, deps),
                is_transient,
                stop,
                prefetch=settings.prefetch,
                batch_events=settings.batch_events,
                batches_at_once=2,
            )
            async with asyncio.TaskGroup() as outgoing:
                published = asyncio.Event()
                outgoing.create_task(relay.run(published))
                outgoing.create_task(progress.run(published))
                outgoing.create_task(logs.run(published))
                async with asyncio.TaskGroup() as incoming:
                    incoming.create_task(consumer.run())
                    incoming.create_task(deletion.run(deps, settings.retention_days, stop))
                    incoming.create_task(watch(deps, settings.silence_seconds, stop))
                    incoming.create_task(
                        serve(amqp, TRACKER_COMMANDS, partial(answer, deps), is_transient=is_transient, stop=stop)
                    )
                    spare_the_collector()
                    log.info("ready")
                # Last, so that what was committed while stopping is still published.
                published.set()


async def run_migrations() -> None:
    """Bring the schema up to date."""
    applied = await migrate(Settings().database_url, package=SCHEMA, schema=SCHEMA)
    log.info("migrated schema=%s applied=%s", SCHEMA, ",".join(applied) or "nothing")


if __name__ == "__main__":
    sys.exit(run_process(run_migrations if sys.argv[1:] == ["migrate"] else run))
