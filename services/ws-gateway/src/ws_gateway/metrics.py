"""What the gateway tells of its clients; docs/metrics.md says what each metric is for."""

from collections.abc import Awaitable, Callable
from time import monotonic

from aiohttp import web
from prometheus_client import Counter, Gauge, Histogram

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Whoever asks for a path or with a method that is not there must not make a series of it.
UNKNOWN = "unknown"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

REQUESTS = Counter("tallyho_http_requests", "HTTP requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "tallyho_http_request_seconds",
    "How long it took to answer an HTTP request that is no WebSocket and no stream.",
    ["route"],
)
CLIENTS = Gauge("tallyho_gateway_clients", "Live connections: of WebSockets and event streams.", ["kind"])
CLOSED = Counter("tallyho_gateway_closed", "WebSockets that the gateway closed, by close code.", ["code"])
SLOW = Counter(
    "tallyho_gateway_slow_clients",
    "Clients closed as too slow: flooded (more was queued than is allowed) or stalled (they took nothing).",
    ["reason"],
)
FRAMES_SENT = Counter("tallyho_gateway_frames_sent", "Frames written to WebSockets.")
FRAMES_DROPPED = Counter(
    "tallyho_gateway_frames_dropped",
    "Queued frames forgotten because their client was too slow; it resumes, and gets them then.",
)
FRAMES_RECEIVED = Counter("tallyho_gateway_frames_received", "Frames that clients sent.")
STATES = Counter("tallyho_gateway_states", "Job states received, by whether they were news.", ["news"])

for _kind in ("websocket", "firecrawl", "events"):
    CLIENTS.labels(_kind)
for _reason in ("flooded", "stalled"):
    SLOW.labels(_reason)


@web.middleware
async def measure_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count each request when it is answered, by its route; the outermost, so that it sees what was answered."""
    started = monotonic()
    resource = request.match_info.route.resource
    route = resource.canonical if resource else UNKNOWN
    method = request.method if request.method in METHODS else UNKNOWN
    status = 499  # as nginx says: the client left before it was answered
    try:
        response = await handler(request)
        status = response.status
        if isinstance(response, web.Response | web.FileResponse):
            REQUEST_SECONDS.labels(route).observe(monotonic() - started)
    except web.HTTPException as error:
        status = error.status
        raise
    finally:
        REQUESTS.labels(method, route, str(status)).inc()
    return response
