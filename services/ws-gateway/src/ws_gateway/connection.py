"""One WebSocket's way out: what the hub has for it is written in phases, and nobody ever waits for it."""

import asyncio
import logging
import secrets
import socket
import struct
from contextlib import suppress

from aiohttp import WSCloseCode, WSMsgType, web

from ws_gateway import frames
from ws_gateway.hub import Client, Hub

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.1
FRAMES_AT_ONCE = 256
STALLED_SECONDS = 20.0
PING_SECONDS = 20.0
CLOSE_SECONDS = 2.0
RETRY_MS = (500, 5_000)


class Connection:
    """Writes a client's frames straight to its transport, one write a flush.

    That keeps their order because the WebSocket is not compressed: aiohttp then writes before it waits.
    """

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport, hub: Hub) -> None:
        self._ws = ws
        self._transport = transport
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._phase = secrets.randbelow(1000) / 1000 * FLUSH_SECONDS  # so that not all clients flush at once
        self._timer: asyncio.TimerHandle | None = None
        self._ping_due = False
        self._ping_timer = self._loop.call_later(PING_SECONDS, self._ping)
        self._stalled_since: float | None = None
        self.client: Client = hub.join(self._wake)

    async def reply(self, frame: bytes) -> None:
        """Answer a client's frame; waits for this client only, who then can't send more."""
        await self._ws.send_frame(frame, WSMsgType.TEXT)
        self._wake(urgent=False)  # to notice if it does not take the answer

    async def close_for_restart(self) -> None:
        """Close with 1012 and a time to come back that differs between clients; bounded."""
        retry_ms = RETRY_MS[0] + secrets.randbelow(RETRY_MS[1] - RETRY_MS[0])
        reason = f'{{"reason":"restarting","retry_ms":{retry_ms}}}'.encode()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._ws.close(code=WSCloseCode.SERVICE_RESTART, message=reason, drain=False)
        except TimeoutError:
            self._cut_off()

    def end(self) -> None:
        """Free what this connection holds; a client that does not read its last bytes loses them."""
        self._hub.leave(self.client)
        self._ping_timer.cancel()
        if self._timer:
            self._timer.cancel()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(CLOSE_SECONDS, self._cut_off)

    def _wake(self, urgent: bool) -> None:  # noqa: FBT001  # the hub calls it with one argument
        now = self._loop.time()
        when = now if urgent else now + (self._phase - now) % FLUSH_SECONDS
        if self._timer and when >= self._timer.when():
            return
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._flush)

    def _ping(self) -> None:
        # Code in a browser can't see the protocol's own pings.
        self._ping_due = True
        self._ping_timer = self._loop.call_later(PING_SECONDS, self._ping)
        self._wake(urgent=True)

    def _flush(self) -> None:
        self._timer = None
        if self._ws.closed or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size():
            self._wait_or_abort()
            return
        self._stalled_since = None
        batch = self.client.take(FRAMES_AT_ONCE)
        if self._ping_due:
            self._ping_due = False
            batch.append(frames.on_the_wire(frames.PING))
        self._transport.write(b"".join(batch))
        if self.client.pending or self._transport.get_write_buffer_size():
            self._wake(urgent=False)

    def _wait_or_abort(self) -> None:
        """The client has not taken what was written: it gets the newest states once it has, or is cut off."""
        now = self._loop.time()
        self._stalled_since = self._stalled_since or now
        if now - self._stalled_since < STALLED_SECONDS:
            self._wake(urgent=False)
        else:
            log.warning("client aborted: it reads nothing pending=%s", len(self.client.pending))
            self._cut_off()

    def _cut_off(self) -> None:
        # Without lingering: else the kernel keeps what was not read, and tries for minutes to deliver it.
        if sock := self._transport.get_extra_info("socket"):
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
