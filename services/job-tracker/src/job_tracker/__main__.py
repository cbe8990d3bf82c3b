"""`python -m job_tracker` runs the service; `python -m job_tracker migrate` prepares its schema."""

import asyncio
import logging
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from tallyho_messaging.announcing import announce
from tallyho_messaging.connection import open_amqp
from tallyho_messaging.consumer import Consumer
from tallyho_messaging.job_logs import JobLogs
from tallyho_messaging.queue_lengths import watch_queues
from tallyho_messaging.requests import serve
from tallyho_messaging.topology import DEAD_LETTERS, TRACKER_COMMANDS, TRACKER_EVENTS, TRACKER_LOGS
from tallyho_postgres.errors import is_transient
from tallyho_postgres.migrations import MigrationSettings, prepare
from tallyho_postgres.outbox import Relay
from tallyho_postgres.pool import open_pool
from tallyho_postgres.sampling import outbox_of, sample
from tallyho_postgres.silent_sessions import end_silent_sessions
from tallyho_process import run_process, spare_the_collector, stop_on_signal, stoppable_start
from tallyho_process.health import Health
from tallyho_process.traces import tracing

from job_tracker import deletion
from job_tracker.commands import SOURCE
from job_tracker.deps import Deps
from job_tracker.handlers import on_events
from job_tracker.logs import on_lines
from job_tracker.metrics import look_at_jobs
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
            health = Health(SOURCE)
            async with stoppable_start(stop):
                await opened.enter_async_context(health.serving(settings))
                await opened.enter_async_context(tracing(SOURCE))
                pool = await opened.enter_async_context(open_pool(settings.database_url, schema=SCHEMA))
                amqp = await opened.enter_async_context(open_amqp(settings.amqp_url, name=SOURCE))
            relay = Relay(pool, amqp.publisher.publish_events)
            causes: dict[UUID, str] = {}
            progress = Progress(pool, partial(announce, amqp.publisher, SOURCE, causes=causes))
            logs = JobLogs(amqp.publisher, SOURCE, partial(datetime.now, UTC))
            deps = Deps(pool, relay, progress, partial(datetime.now, UTC), logs.say, causes)
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
            lines = Consumer(amqp, TRACKER_LOGS, partial(on_lines, pool), is_transient, stop, batch_events=500)
            async with asyncio.TaskGroup() as outgoing:
                published = asyncio.Event()
                outgoing.create_task(relay.run(published))
                outgoing.create_task(progress.run(published))
                outgoing.create_task(logs.run(published))
                async with asyncio.TaskGroup() as incoming:
                    incoming.create_task(consumer.run())
                    incoming.create_task(deletion.run(deps, settings.retention_days, stop))
                    incoming.create_task(lines.run())
                    incoming.create_task(watch(deps, settings.silence_seconds, stop))
                    incoming.create_task(
                        serve(amqp, TRACKER_COMMANDS, partial(answer, deps), is_transient=is_transient, stop=stop)
                    )
                    queues = [TRACKER_EVENTS, TRACKER_COMMANDS, TRACKER_LOGS, DEAD_LETTERS]
                    incoming.create_task(watch_queues(amqp, queues, stop))
                    incoming.create_task(sample(pool, [outbox_of(SCHEMA), look_at_jobs], stop))
                    incoming.create_task(end_silent_sessions(pool, stop))
                    health.ready(lambda: not stop.is_set())
                    spare_the_collector()
                    log.info("ready")
                # Last, so that what was committed while stopping is still published.
                published.set()


async def run_migrations() -> None:
    """Bring the schema up to date."""
    applied = await prepare(MigrationSettings(), package=SCHEMA, schema=SCHEMA)
    log.info("migrated schema=%s applied=%s", SCHEMA, ",".join(applied) or "nothing")


if __name__ == "__main__":
    sys.exit(run_process(run_migrations if sys.argv[1:] == ["migrate"] else run))
