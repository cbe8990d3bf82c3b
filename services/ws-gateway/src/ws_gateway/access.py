"""Who may do what: keys, tickets, and pages of other sites. Holds for every route, without its doing."""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import BaseModel

from ws_gateway.closing import FORBIDDEN, UNAUTHORIZED, Closing
from ws_gateway.connection import CLOSE_SECONDS
from ws_gateway.keys import TICKET_SECONDS, Key, KeyRing, Scope, Tickets
from ws_gateway.metrics import CLOSED
from ws_gateway.problems import ProblemError

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Kubernetes asks from elsewhere, without a key.
HEALTH = ("/healthz", "/readyz")
PUBLIC = ("/", *HEALTH, "/v1/openapi.json", "/v1/asyncapi.json")
TICKETS = "/v1/tickets"
FIRECRAWL = "/v2/"
ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Access:
    """The keys, the tickets, and the other sites whose pages are let in."""

    keys: KeyRing
    tickets: Tickets
    origins: frozenset[str]


class Ticket(BaseModel):
    """The reply to `POST /v1/tickets`: a pass for one WebSocket or event stream, as `?ticket=`."""

    ticket: str
    expires_in: int


ACCESS = web.AppKey("access", Access)
# Whose request it is; not there where no key is needed.
KEY = web.RequestKey("key", Key)


def routes() -> list[web.RouteDef]:
    """The path of tickets."""
    return [web.post(TICKETS, create_ticket)]


class DeniedError(Exception):
    """A request that is not let in, as a problem and as the end of a WebSocket."""

    def __init__(self, problem: ProblemError, closing: Closing) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.closing = closing


@web.middleware
async def check_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request in, or refuse it: with a problem, or a WebSocket with a close code.

    The status of a handshake that is refused can't be seen by code in a browser, so it is accepted and closed at once.
    """
    try:
        key = _admit(request, request.app[ACCESS], datetime.now(UTC))
    except DeniedError as denied:
        if _is_handshake(request):
            return await close_at_once(request, denied.closing)
        raise denied.problem from None
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return web.Response(status=HTTPStatus.NO_CONTENT)
    if key:
        request[KEY] = key
    return await handler(request)


def has_expired(request: web.Request) -> bool:
    """Whether the key with which it was let in is of no use any more."""
    key = request.get(KEY)
    return key is not None and key.has_expired(datetime.now(UTC))


def key_name(request: web.Request) -> str | None:
    """Whose request it is; none where no key is needed."""
    key = request.get(KEY)
    return key.name if key else None


async def close_at_once(request: web.Request, closing: Closing) -> web.WebSocketResponse:
    """Accept a WebSocket only to say why it can't be had."""
    ws = web.WebSocketResponse(protocols=offered_protocols(request), compress=False, timeout=CLOSE_SECONDS)
    await ws.prepare(request)
    CLOSED.labels(str(closing.code)).inc()
    await ws.close(code=closing.code, message=closing.text(), drain=False)
    return ws


def offered_protocols(request: web.Request) -> list[str]:
    """The subprotocols that a client names; one can be its key, which the library would log unless it is accepted."""
    return [part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if part.strip()]


async def create_ticket(request: web.Request) -> web.Response:
    """A pass for a browser, which can send no key with a WebSocket."""
    key = request.get(KEY)
    if key is None:
        raise ProblemError(HTTPStatus.CONFLICT, "no_keys", "No keys are configured here: no ticket is needed.")
    ticket = request.app[ACCESS].tickets.issue(key, datetime.now(UTC))
    body = Ticket(ticket=ticket, expires_in=TICKET_SECONDS).model_dump_json().encode()
    return web.Response(status=HTTPStatus.CREATED, body=body, content_type="application/json")


def add_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of the allowed sites read the answer."""
    origin = request.headers.get("Origin")
    if origin in request.app[ACCESS].origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST, PUT, PATCH, DELETE"
            response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS


def _admit(request: web.Request, access: Access, now: datetime) -> Key | None:
    _check_origin(request, access)
    if request.path in HEALTH:
        return None
    if not access.keys:
        _check_loopback(request)
        return None
    if request.method == "OPTIONS" or request.path in PUBLIC or request.path.startswith("/static/"):
        return None
    key = _key_of(request, access, now)
    if key is None:
        raise DeniedError(_problem(HTTPStatus.UNAUTHORIZED, "unauthorized", "A valid key is needed."), UNAUTHORIZED)
    needed = Scope.READ if request.method in SAFE_METHODS or request.path == TICKETS else Scope.WRITE
    if needed not in key.scopes:
        raise DeniedError(_problem(HTTPStatus.FORBIDDEN, "forbidden", f"The key may not {needed}."), FORBIDDEN)
    return key


def _key_of(request: web.Request, access: Access, now: datetime) -> Key | None:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return access.keys.find(secret.strip(), now)
    if _is_handshake(request) and request.path.startswith(FIRECRAWL):
        # Firecrawl's JavaScript package, as a page would have to, names its key as the subprotocol.
        return next((key for one in offered_protocols(request) if (key := access.keys.find(one, now))), None)
    if request.method == "GET" and (ticket := request.query.get("ticket")) and _takes_tickets(request):
        name = access.tickets.redeem(ticket, now)
        return access.keys.named(name, now) if name else None
    return None


def _takes_tickets(request: web.Request) -> bool:
    return _is_handshake(request) or request.path.endswith("/events")


def _is_handshake(request: web.Request) -> bool:
    return request.method == "GET" and request.headers.get("Upgrade", "").lower() == "websocket"


def _check_origin(request: web.Request, access: Access) -> None:
    """A page of another site may neither open a socket nor change anything."""
    origin = request.headers.get("Origin")
    changes = request.method not in SAFE_METHODS or "Upgrade" in request.headers
    if origin is None or not changes or origin in access.origins:
        return
    if _is_foreign(origin, request.host):
        problem = _problem(HTTPStatus.FORBIDDEN, "foreign_origin", "The Origin is not the host that was asked.")
        raise DeniedError(problem, FORBIDDEN)


def _check_loopback(request: web.Request) -> None:
    """Without keys everybody who gets here may do everything: so only this machine gets here.

    The name that was asked for counts too: a page of another site can have its name lead to this machine.
    """
    if not (_is_loopback(request.remote) and _is_loopback(_name_in(request.host))):
        detail = "Without keys (GATEWAY_KEYS) only this machine is served, by a loopback address or as localhost."
        raise DeniedError(_problem(HTTPStatus.FORBIDDEN, "keys_needed", detail), FORBIDDEN)


def _is_foreign(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:  # it is no URL
        return True


def _name_in(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost" or (host or "").endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _problem(status: HTTPStatus, code: str, detail: str) -> ProblemError:
    headers = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else None
    return ProblemError(status, code, detail, headers=headers)
