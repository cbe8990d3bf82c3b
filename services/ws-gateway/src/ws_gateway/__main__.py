"""`python -m ws_gateway` runs the gateway; `python -m ws_gateway new-key NAME SCOPES [DAY]` makes an API key."""

import asyncio
import logging
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

import uvloop
from aiohttp import web
from tallyho_process import run_process, spare_the_collector, stop_on_signal
from tallyho_process.health import Health
from tallyho_process.traces import tracing

from ws_gateway.app import Options, Readiness, build_app
from ws_gateway.hub import Hub
from ws_gateway.keys import KeyRing, Scope, new_key
from ws_gateway.limits import Limits
from ws_gateway.logs import LogBook
from ws_gateway.settings import Settings
from ws_gateway.sockets import CONNECTIONS, close_all
from ws_gateway.tracker import Tracker

log = logging.getLogger("ws_gateway")

# Requests under way get this long; it is over before an orchestrator's patience is.
DRAIN_SECONDS = 5.0
# WebSockets are closed at this rate, so that those who take them over are not overrun.
CLOSED_A_SECOND = 500


async def run() -> None:
    """Serve until a stop signal; a loop that dies ends the process."""
    settings = Settings()
    options = options_of(settings)
    listener = listen(settings.host, settings.port)
    hub, logs = Hub(), LogBook()
    tracker = Tracker(settings.request_timeout, hub, logs)
    readiness = Readiness(is_connected=tracker.connected.is_set)
    app = build_app(
        hub,
        tracker.ask,
        readiness,
        allow_private_addresses=settings.takes_private_seeds,
        hear=tracker.hear,
        logs=logs,
        options=options,
    )
    health = Health("ws-gateway")
    health.ready(lambda: readiness.ready)
    with stop_on_signal() as stop:
        async with health.serving(settings), tracing("ws-gateway"), asyncio.TaskGroup() as loops:
            following = loops.create_task(tracker.follow(settings.amqp_url))
            async with serving(app, listener) as url:
                spare_the_collector()
                log.info("listening url=%s", url)
                announcing = loops.create_task(announce(tracker.connected, url))
                await stop.wait()
                log.info("stopping connections=%d", len(app[CONNECTIONS]))
                readiness.stopping = True
                await close_all(app, seconds=min(settings.drain_seconds, len(app[CONNECTIONS]) / CLOSED_A_SECOND))
            announcing.cancel()
            following.cancel()


def options_of(settings: Settings) -> Options:
    """What the operator decided."""
    keys = settings.key_ring()
    if not keys:
        log.warning("no keys: only this machine is served; GATEWAY_KEYS opens the gateway to others")
    limits = Limits(
        connections=settings.max_connections,
        connections_per_address=settings.max_connections_per_address,
        connections_per_key=settings.max_connections_per_key,
        subscriptions=settings.max_subscriptions,
        messages_per_second=settings.messages_per_second,
    )
    secret = settings.ticket_secret.get_secret_value().encode() if settings.ticket_secret else secrets.token_bytes(32)
    return Options(settings.flush_ms / 1000, limits, keys, settings.origins, secret)


async def announce(connected: asyncio.Event, url: str) -> None:
    """Say once that requests can be served."""
    await connected.wait()
    log.info("ready url=%s", url)


@asynccontextmanager
async def serving(app: web.Application, listener: socket.socket) -> AsyncIterator[str]:
    """Accept; at the end accept no more, close the WebSockets, and let requests under way finish."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        host, port = listener.getsockname()[:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def listen(host: str, port: int) -> socket.socket:
    """Take the port, or end the process with one line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise SystemExit(f"can't listen on {host}:{port}: {error.strerror}") from None


def make_key(name: str, scopes: str, day: str | None = None) -> int:
    """Print a new secret, once, and the line that lets it in."""
    try:
        secret, key = new_key(name, map(Scope, scopes.split(",")), date.fromisoformat(day) if day else None)
        KeyRing.parse(key.line())
    except ValueError as error:
        print(f"{error}\nusage: python -m ws_gateway new-key NAME read,write [YYYY-MM-DD]", file=sys.stderr)  # noqa: T201
        return 2
    print(f"key, for its holder: {secret}\nfor GATEWAY_KEYS: {key.line()}")  # noqa: T201  # a command
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["new-key"] and len(sys.argv) in (4, 5):
        sys.exit(make_key(*sys.argv[2:]))
    # A third of what a delivery costs is the loop's: benchmarks/fanout.py.
    sys.exit(run_process(run, uvloop.new_event_loop))
