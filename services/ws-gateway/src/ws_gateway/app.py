"""The web application: routes, checks that hold for all of them, and headers."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import UUID

from aiohttp import web

from ws_gateway import (
    access,
    asyncapi,
    contents,
    events,
    firecrawl_api,
    firecrawl_watch,
    http_api,
    ledger,
    openapi,
    sockets,
)
from ws_gateway.access import ACCESS, Access, check_access
from ws_gateway.broadcast import Broadcast
from ws_gateway.clients import FLUSH_SECONDS
from ws_gateway.crowds import Crowds
from ws_gateway.deps import DEPS, Deps, Hear
from ws_gateway.documents import Documents
from ws_gateway.frames import Stream
from ws_gateway.http_api import ALLOW_PRIVATE_ADDRESSES, ASK, Ask
from ws_gateway.hub import Hub
from ws_gateway.keys import KeyRing, Tickets
from ws_gateway.limits import Limits, Places
from ws_gateway.logs import LogBook
from ws_gateway.metrics import measure_requests
from ws_gateway.phases import Phases
from ws_gateway.places import PLACES
from ws_gateway.problems import MAX_BODY_BYTES, ProblemError, answer_problems
from ws_gateway.sockets import CONNECTIONS, STOPPING

STATIC = Path(__file__).parent / "static"
PAGE_POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


@dataclass
class Readiness:
    """Whether traffic should come here. A broker that went away after the start does not change it."""

    is_connected: Callable[[], bool]
    stopping: bool = False

    @property
    def ready(self) -> bool:
        """Connected to the broker at least once, and not about to stop."""
        return self.is_connected() and not self.stopping


@dataclass(frozen=True)
class Options:
    """What the operator decides; without keys only this machine is served."""

    flush_seconds: float = FLUSH_SECONDS
    limits: Limits = field(default_factory=Limits)
    keys: KeyRing = field(default_factory=KeyRing)
    origins: frozenset[str] = frozenset()
    ticket_secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))


async def heard_already(_: Stream, __: UUID | None) -> None:
    """For a hub that is told of every job anyway."""


READINESS = web.AppKey("readiness", Readiness)
OPENAPI = web.AppKey("openapi", dict[str, Any])
ASYNCAPI = web.AppKey("asyncapi", dict[str, Any])


def build_app(
    hub: Hub,
    ask: Ask,
    readiness: Readiness,
    *,
    allow_private_addresses: bool,
    hear: Hear = heard_already,
    logs: LogBook | None = None,
    options: Options | None = None,
) -> web.Application:
    """Wire the gateway's routes to the hub and the tracker."""
    options = options or Options()
    app = web.Application(
        middlewares=[measure_requests, firecrawl_api.answer_failures, answer_problems, check_access],
        client_max_size=MAX_BODY_BYTES,
    )
    app[ACCESS] = Access(options.keys, Tickets(options.ticket_secret), options.origins)
    app[ASK] = ask
    app[PLACES] = Places(options.limits)
    phases = Phases()
    app[DEPS] = Deps(
        hub=hub,
        logs=logs or LogBook(),
        documents=Documents(ask),
        ask=ask,
        hear=hear,
        limits=options.limits,
        places=app[PLACES],
        flush_seconds=options.flush_seconds,
        crowds=Crowds(hub, phases, options.flush_seconds, lambda members: Broadcast(members).write),
        phases=phases,
    )
    app[READINESS] = readiness
    app[ALLOW_PRIVATE_ADDRESSES] = allow_private_addresses
    app[CONNECTIONS] = set()
    app[firecrawl_watch.WATCHERS] = set()
    app[STOPPING] = asyncio.Event()
    app[OPENAPI] = openapi.document()
    app[ASYNCAPI] = asyncapi.document()
    app.add_routes(
        http_api.routes()
        + ledger.routes()
        + contents.routes()
        + events.routes()
        + access.routes()
        + firecrawl_api.routes()
    )
    app.add_routes(
        [
            web.get("/", page),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/v1/openapi.json", openapi_document),
            web.get("/v1/asyncapi.json", asyncapi_document),
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


async def asyncapi_document(request: web.Request) -> web.Response:
    """The WebSocket's description."""
    return web.json_response(request.app[ASYNCAPI])


async def healthz(_: web.Request) -> web.Response:
    """Whether the process lives; asks nobody else."""
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Whether traffic should come here."""
    if not request.app[READINESS].ready:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", "Stopping, or not connected to the broker yet.")
    return web.json_response({"status": "ready"})


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    if isinstance(response, web.WebSocketResponse):
        return  # it would keep them as long as it is open
    response.headers["X-Content-Type-Options"] = "nosniff"
    access.add_cors_headers(request, response)
    if request.path == "/" or request.path.startswith("/static/"):
        response.headers["Cache-Control"] = "no-cache"
    else:
        response.headers.setdefault("Cache-Control", "no-store")
