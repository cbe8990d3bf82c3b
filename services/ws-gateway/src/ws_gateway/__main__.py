"""`python -m ws_gateway`: the one place where the gateway's parts are put together."""

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from tallyho_process import run_process, stop_on_signal

from ws_gateway.app import Readiness, build_app
from ws_gateway.hub import Hub
from ws_gateway.settings import Settings
from ws_gateway.tracker import Tracker

log = logging.getLogger("ws_gateway")

# Requests under way get this long; it is over before an orchestrator's patience is.
DRAIN_SECONDS = 5.0


async def run() -> None:
    """Serve until a stop signal; a loop that dies ends the process."""
    settings = Settings()
    listener = listen(settings.host, settings.port)
    hub = Hub()
    tracker = Tracker(settings.request_timeout)
    readiness = Readiness(is_connected=tracker.connected.is_set)
    app = build_app(hub, tracker.ask, readiness, allow_private_addresses=settings.allow_private_addresses)
    with stop_on_signal() as stop:
        async with asyncio.TaskGroup() as loops:
            following = loops.create_task(tracker.follow(settings.amqp_url, hub))
            async with serving(app, listener) as url:
                log.info("listening url=%s", url)
                announcing = loops.create_task(announce(tracker.connected, url))
                await stop.wait()
                log.info("stopping")
                readiness.stopping = True
            announcing.cancel()
            following.cancel()


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
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SystemExit(f"can't listen on {host}:{port}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(run_process(run))
