"""The web application: routes, checks that hold for all of them, and headers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ws_gateway import firecrawl_api, firecrawl_watch, http_api, openapi, sockets
from ws_gateway.http_api import ALLOW_PRIVATE_ADDRESSES, ASK, Ask
from ws_gateway.hub import Hub
from ws_gateway.problems import MAX_BODY_BYTES, ProblemError, answer_problems
from ws_gateway.sockets import CONNECTIONS, HUB

STATIC = Path(__file__).parent / "static"
PAGE_POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass
class Readiness:
    """Whether traffic should come here. A broker that went away after the start does not change it."""

    is_connected: Callable[[], bool]
    stopping: bool = False

    @property
    def ready(self) -> bool:
        """Connected to the broker at least once, and not about to stop."""
        return self.is_connected() and not self.stopping


READINESS = web.AppKey("readiness", Readiness)
OPENAPI = web.AppKey("openapi", dict[str, Any])


def build_app(hub: Hub, ask: Ask, readiness: Readiness, *, allow_private_addresses: bool) -> web.Application:
    """Wire the gateway's routes to the hub and the tracker."""
    app = web.Application(
        middlewares=[firecrawl_api.answer_failures, answer_problems, refuse_foreign_origins],
        client_max_size=MAX_BODY_BYTES,
    )
    app[HUB] = hub
    app[ASK] = ask
    app[READINESS] = readiness
    app[ALLOW_PRIVATE_ADDRESSES] = allow_private_addresses
    app[CONNECTIONS] = set()
    app[firecrawl_watch.WATCHERS] = set()
    app[OPENAPI] = openapi.document()
    app.add_routes(http_api.routes())
    app.add_routes(firecrawl_api.routes())
    app.add_routes(
        [
            web.get("/", page),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/v1/openapi.json", openapi_document),
            web.get("/ws", sockets.websocket),
            web.get("/v1/ws", sockets.websocket),
            web.static("/static", STATIC),
        ]
    )
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(sockets.close_all)
    app.on_shutdown.append(firecrawl_watch.close_all)
    return app


async def page(_: web.Request) -> web.FileResponse:
    """The dashboard."""
    return web.FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": PAGE_POLICY})


async def openapi_document(request: web.Request) -> web.Response:
    """The API's description."""
    return web.json_response(request.app[OPENAPI])


async def healthz(_: web.Request) -> web.Response:
    """Whether the process lives; asks nobody else."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Whether traffic should come here."""
    if not request.app[READINESS].ready:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", "Stopping, or not connected to the broker yet.")
    return web.json_response({"status": "ready"})


@web.middleware
async def refuse_foreign_origins(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """A page of another site may neither open a socket nor change anything."""
    changes = request.method not in SAFE_METHODS or "Upgrade" in request.headers
    origin = request.headers.get("Origin")
    if changes and origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        raise ProblemError(HTTPStatus.FORBIDDEN, "foreign_origin", "The Origin is not the host that was asked.")
    return await handler(request)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.path == "/" or request.path.startswith("/static/"):
        response.headers["Cache-Control"] = "no-cache"
    else:
        response.headers.setdefault("Cache-Control", "no-store")
