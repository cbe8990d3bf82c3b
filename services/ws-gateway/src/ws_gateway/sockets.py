"""The WebSocket edge: handshake, the frames that clients send, and the end of all connections at a restart."""

import asyncio
import random
from contextlib import suppress

from aiohttp import WSMessage, WSMsgType, web

from ws_gateway.access import KEY, close_at_once, key_name
from ws_gateway.closing import RESTARTING, TOO_MANY_CONNECTIONS
from ws_gateway.connection import CLOSE_SECONDS, PING_SECONDS, Connection
from ws_gateway.deps import DEPS, Deps
from ws_gateway.limits import NoPlaceError
from ws_gateway.metrics import CLIENTS, FRAMES_RECEIVED
from ws_gateway.session import Session

LEGACY_PATH = "/ws"
# A client that is going to subscribe does so at once; until then it is not taken for one that follows every job.
SILENCE_SECONDS = 0.25

CONNECTIONS = web.AppKey("connections", set[Connection])
STOPPING = web.AppKey("stopping", asyncio.Event)


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Send the states of all jobs, or what the client subscribes to, until it leaves."""
    deps = request.app[DEPS]
    if request.app[STOPPING].is_set():
        return await close_at_once(request, RESTARTING)
    place = request.remote or "", key_name(request)
    try:
        deps.places.take(*place)
    except NoPlaceError:
        return await close_at_once(request, TOO_MANY_CONNECTIONS)
    try:
        with CLIENTS.labels("websocket").track_inprogress():
            return await _serve(request, deps)
    finally:
        deps.places.give_back(*place)


async def _serve(request: web.Request, deps: Deps) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(
        compress=False, heartbeat=PING_SECONDS, max_msg_size=deps.limits.frame_bytes, timeout=CLOSE_SECONDS
    )
    await ws.prepare(request)
    transport = request.transport
    if transport is None:  # it is gone already
        return ws
    connection = Connection(
        ws,
        transport,
        deps.hub,
        deps.phases,
        deps.crowds,
        interval=deps.flush_seconds,
        legacy=request.path == LEGACY_PATH,
        key=request.get(KEY),
    )
    session = Session(deps, connection)
    connections = request.app[CONNECTIONS]
    connections.add(connection)
    settling = asyncio.get_running_loop().call_later(SILENCE_SECONDS, connection.settle)
    try:
        with suppress(ConnectionError):
            async for message in ws:
                await _received(session, message)
    finally:
        settling.cancel()
        connections.discard(connection)
        session.end()
        connection.end()
    return ws


async def _received(session: Session, message: WSMessage) -> None:
    FRAMES_RECEIVED.inc()
    await session.receive(message.data if message.type is WSMsgType.TEXT else None)


async def close_all(app: web.Application, *, seconds: float = 0.0) -> None:
    """Tell every client to come back, and when: each at a moment of its own within so many seconds."""
    app[STOPPING].set()
    for stop in list(app[DEPS].on_stop):
        stop()

    async def close(connection: Connection) -> None:
        await asyncio.sleep(random.uniform(0, seconds))  # noqa: S311  # jitter
        await connection.close(RESTARTING)

    await asyncio.gather(*[close(connection) for connection in app[CONNECTIONS]])
