"""`python -m crawler` runs the service, `… render` one that has a browser; `… migrate` prepares its schema."""

import asyncio
import logging
import sys
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import uvloop
from tallyho_messaging.connection import open_amqp
from tallyho_messaging.consumer import Consumer
from tallyho_messaging.job_logs import JobLogs
from tallyho_messaging.queue_lengths import watch_queues
from tallyho_messaging.requests import serve
from tallyho_messaging.topology import CRAWLER_COMMANDS, CRAWLER_REQUESTS
from tallyho_postgres.errors import is_transient
from tallyho_postgres.migrations import MigrationSettings, prepare
from tallyho_postgres.outbox import Relay
from tallyho_postgres.pool import open_pool
from tallyho_postgres.sampling import outbox_of, sample
from tallyho_postgres.silent_sessions import end_silent_sessions
from tallyho_process import run_process, spare_the_collector, stop_on_signal, stoppable_start
from tallyho_process.health import Health
from tallyho_process.traces import tracing

from crawler import deletion
from crawler.commands import on_commands
from crawler.connections import look_up_at_once
from crawler.deps import Deps
from crawler.events import SOURCE
from crawler.fetch import Fetcher
from crawler.guard import Network
from crawler.isolation import IsolatedParser
from crawler.known_urls import KnownUrls
from crawler.metrics import look_at_frontier
from crawler.politeness import Politeness
from crawler.requests import answer
from crawler.settings import Settings
from crawler.store import PLANNER
from crawler.visit import FetchesPages, Visitor
from crawler.worker import Worker

SCHEMA = "crawler"

log = logging.getLogger(SCHEMA)


async def run(*, renders: bool = False) -> None:
    """Wire the crawler and run its loops until a signal; one that dies ends the process."""
    settings = Settings()
    concurrency = settings.render_concurrency if renders else settings.concurrency
    look_up_at_once(settings.concurrency)
    fetcher = fetcher_of(
        settings, allow_private=settings.allow_private_addresses, allowed_networks=settings.allowed_networks
    )
    with stop_on_signal() as stop:
        async with AsyncExitStack() as opened:
            health = Health(SOURCE)
            async with stoppable_start(stop):
                await opened.enter_async_context(health.serving(settings))
                await opened.enter_async_context(tracing(SOURCE))
                pool = await opened.enter_async_context(
                    open_pool(settings.database_url, schema=SCHEMA, size=12, settings=PLANNER)
                )
                amqp = await opened.enter_async_context(open_amqp(settings.amqp_url, name=SOURCE))
                await opened.enter_async_context(fetcher)
                parser = await opened.enter_async_context(IsolatedParser())
            relay = Relay(pool, amqp.publisher.publish_events)
            now = partial(datetime.now, UTC)
            logs = JobLogs(amqp.publisher, SOURCE, now)
            host = settings.host_concurrency, settings.host_delay
            deps = Deps(pool, relay, now, KnownUrls(), *host, say=logs.say, renders=renders)
            politeness = Politeness(
                pool, fetcher, user_agent=settings.user_agent_header, host_delay=settings.host_delay
            )
            fetching: FetchesPages = fetcher
            if renders:
                fetching = await opened.enter_async_context(renderer(fetcher, politeness, settings))
            visitor = Visitor(pool, fetcher, fetching, politeness, parser, settings.max_attempts)
            worker = Worker(deps, visitor, uuid4(), concurrency, settings.lease_seconds, stop)
            # A few at a time: what this process holds while it can't obey, nobody else can.
            commands = Consumer(amqp, CRAWLER_COMMANDS, partial(on_commands, deps), is_transient, stop, prefetch=4)
            async with asyncio.TaskGroup() as loops:
                relaying = asyncio.Event()
                loops.create_task(relay.run(relaying))
                loops.create_task(logs.run(relaying))
                loops.create_task(commands.run())
                loops.create_task(deletion.run(pool, stop))
                loops.create_task(
                    serve(amqp, CRAWLER_REQUESTS, partial(answer, pool), is_transient=is_transient, stop=stop)
                )
                loops.create_task(watch_queues(amqp, [CRAWLER_COMMANDS, CRAWLER_REQUESTS], stop))
                loops.create_task(sample(pool, [outbox_of(SCHEMA), look_at_frontier], stop))
                loops.create_task(end_silent_sessions(pool, stop))
                spare_the_collector()
                health.ready(lambda: not stop.is_set())
                log.info("ready")
                await worker.run()
                # Last, so that what the worker committed while stopping is still published.
                relaying.set()


def fetcher_of(
    settings: Settings, *, allow_private: bool = False, allowed_networks: Collection[Network] = ()
) -> Fetcher:
    """What fetches as the settings say, from public addresses and those allowed here."""
    return Fetcher(
        user_agent=settings.user_agent_header,
        timeout=settings.fetch_timeout,
        max_body_bytes=settings.max_body_bytes,
        allow_private=allow_private,
        allowed_networks=allowed_networks,
        allow_invalid_tls=settings.allow_invalid_tls,
        concurrency=settings.concurrency,
    )


def renderer(fetcher: Fetcher, politeness: Politeness, settings: Settings) -> AbstractAsyncContextManager[FetchesPages]:
    """The browser, whose package is installed only where pages are rendered."""
    try:
        from crawler.rendering import Renderer
    except ModuleNotFoundError as error:
        raise SystemExit(f"rendering takes the extra tallyho-crawler[browser]: {error}") from error
    public = fetcher_of(settings)
    return Renderer(fetcher, public, politeness, chromium=settings.chromium, seconds=settings.render_timeout)


async def run_migrations() -> None:
    """Bring the schema up to date."""
    applied = await prepare(MigrationSettings(), package=SCHEMA, schema=SCHEMA)
    log.info("migrated schema=%s applied=%s", SCHEMA, ",".join(applied) or "nothing")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["migrate"]:
            program = run_migrations
        case ["render"]:
            program = partial(run, renders=True)
        case []:
            program = run
        case _:
            sys.exit("usage: python -m crawler [migrate | render]")
    sys.exit(run_process(program, uvloop.new_event_loop))
