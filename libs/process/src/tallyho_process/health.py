"""A port for the orchestrator and for Prometheus, apart from any that the public can reach."""

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, disable_created_metrics, generate_latest

from tallyho_process.settings import ProcessSettings

log = logging.getLogger(__name__)

READY = Gauge(
    "tallyho_process_ready", "Whether the process does its work: 1, or 0 while it starts or stops.", ["service"]
)


class Health:
    """Whether a process lives and does its work. A broker or a database that is away changes neither.

    Restarting does not bring them back, and taking every replica out of service at once helps nobody.
    """

    def __init__(self, service: str) -> None:
        self._is_ready: Callable[[], bool] = lambda: False
        READY.labels(service).set_function(self.is_ready)

    def is_ready(self) -> bool:
        """Whether it does its work now."""
        return self._is_ready()

    def ready(self, is_ready: Callable[[], bool] = lambda: True) -> None:
        """From now on the process is ready, as long as `is_ready` says so."""
        self._is_ready = is_ready

    @asynccontextmanager
    async def serving(self, settings: ProcessSettings) -> AsyncIterator[None]:
        """Answer /healthz, /readyz and /metrics while the block runs, at the port that is set; without one, do nothing.

        The event loop itself answers: a process whose loop is stuck is dead. Raises OSError when the port is taken.
        """
        if settings.health_port is None:
            yield
            return
        # A second series for each, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it without types
        app = web.Application()
        app.add_routes([web.get("/healthz", _healthz), web.get("/readyz", self._readyz), web.get("/metrics", _metrics)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            family = socket.AF_INET6 if ":" in settings.health_host else socket.AF_INET
            listener = socket.create_server((settings.health_host, settings.health_port), family=family)
            await web.SockSite(runner, listener).start()
            log.info("health and metrics port=%d", listener.getsockname()[1])
            yield
        finally:
            await runner.cleanup()

    async def _readyz(self, _: web.Request) -> web.Response:
        return web.Response(text="ready\n") if self.is_ready() else web.Response(status=503, text="not ready\n")


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
