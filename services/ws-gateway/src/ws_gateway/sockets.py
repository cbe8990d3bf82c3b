"""The WebSocket edge: handshake, the frames that clients send, and the end of all connections at a restart."""

import asyncio
import logging
import socket
from contextlib import suppress
from uuid import UUID

from aiohttp import ClientConnectionResetError, WSMessage, WSMsgType, web
from tallyho_contracts.jobs import Job, JobGet
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.requests import RequestRefused, RequestTimedOut

from ws_gateway import frames
from ws_gateway.connection import CLOSE_SECONDS, PING_SECONDS, Connection
from ws_gateway.frames import BadFrameError, Error, Subscribe, Unsubscribe
from ws_gateway.http_api import ASK, Ask
from ws_gateway.hub import MAX_SUBSCRIPTIONS, Hub, TooManySubscriptionsError, state_of

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 16 * 1024
# What the kernel holds for a client is out of date when it is read at last.
UNSENT_BYTES = 16 * 1024

HUB = web.AppKey("hub", Hub)
CONNECTIONS = web.AppKey("connections", set[Connection])


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Send the states of all jobs, or of those that the client subscribes to, until it leaves."""
    ws = web.WebSocketResponse(
        compress=False, heartbeat=PING_SECONDS, max_msg_size=MAX_FRAME_BYTES, timeout=CLOSE_SECONDS
    )
    await ws.prepare(request)
    transport = request.transport
    if transport is None:  # it is gone already
        return ws
    _bound_unsent(transport)
    connection = Connection(ws, transport, request.app[HUB])
    request.app[CONNECTIONS].add(connection)
    try:
        with suppress(ClientConnectionResetError):
            async for message in ws:
                await _answer(connection, request.app[HUB], request.app[ASK], message)
    finally:
        request.app[CONNECTIONS].discard(connection)
        connection.end()
    return ws


async def close_all(app: web.Application) -> None:
    """Tell every client to come back, and when."""
    await asyncio.gather(*(connection.close_for_restart() for connection in app[CONNECTIONS]))


def _bound_unsent(transport: asyncio.Transport) -> None:
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


async def _answer(connection: Connection, hub: Hub, ask: Ask, message: WSMessage) -> None:
    """Carry out one frame; what is wrong with it is answered, and the connection stays open."""
    if message.type is not WSMsgType.TEXT:
        await connection.reply(frames.error(Error(code="not_text", message="Frames are text, with JSON in them.")))
        return
    try:
        frame = frames.parse(message.data)
        if isinstance(frame, Subscribe):
            await _subscribe(connection, hub, ask, frame)
        elif isinstance(frame, Unsubscribe):
            hub.unsubscribe(connection.client, frame.payload.job_id)
            await connection.reply(frames.unsubscribed(frame.payload.job_id))
    except BadFrameError as bad:
        await connection.reply(frames.error(bad.error))


async def _subscribe(connection: Connection, hub: Hub, ask: Ask, frame: Subscribe) -> None:
    """Register the interest first, then fetch the state: what changes between the two is not lost."""
    job_id = frame.payload.job_id
    try:
        hub.subscribe(connection.client, job_id, frame.payload.revision)
        job: Job = await ask(JobGet(job_id=job_id))
    except TooManySubscriptionsError:
        most = f"A connection may follow {MAX_SUBSCRIPTIONS} jobs."
        raise BadFrameError(Error(code="too_many_subscriptions", message=most, job_id=job_id)) from None
    except (RequestRefused, RequestTimedOut) as error:
        hub.unsubscribe(connection.client, job_id)
        raise BadFrameError(_refusal(error, job_id)) from None
    if answer := hub.answer(connection.client, state_of(job)):
        await connection.reply(frames.subscribed(answer))


def _refusal(error: RequestRefused | RequestTimedOut, job_id: UUID) -> Error:
    if isinstance(error, RequestTimedOut):
        return Error(code="unavailable", message="The job tracker did not answer; subscribe again.", job_id=job_id)
    refused = error.refused
    field = "job_id" if refused.code is ErrorCode.NOT_FOUND else refused.field
    return Error(code=refused.code, message=refused.message, field=field, job_id=job_id)
