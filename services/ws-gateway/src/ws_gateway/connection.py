"""One WebSocket's way out: what the hub has for it is written in phases, and nobody ever waits for it."""

import asyncio
import logging
import os
import socket
import struct
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from aiohttp import WSMsgType, web

from ws_gateway import frames, metrics
from ws_gateway.clients import Client, Pace
from ws_gateway.closing import EXPIRED, TOO_SLOW, Closing
from ws_gateway.crowds import FRAMES_AT_ONCE, Crowds
from ws_gateway.hub import Hub
from ws_gateway.keys import Key
from ws_gateway.phases import TICK_SECONDS, Phases

log = logging.getLogger(__name__)

# What the kernel holds for a client is out of date when it is read at last; so is what the transport holds.
UNSENT_BYTES = 16 * 1024
# A client that has room for so much gets more documents.
ROOM_BYTES = 64 * 1024
HURRY_SECONDS = 0.02
STALLED_SECONDS = 20.0
PING_SECONDS = 20.0
CLOSE_SECONDS = 2.0


class Wire(NamedTuple):
    """A connection's socket, and who else writes to it."""

    fd: int
    transport: asyncio.Transport
    ws: web.WebSocketResponse


class Tally:
    """How many frames were sent to many at once."""

    __slots__ = ("frames",)

    def __init__(self) -> None:
        self.frames = 0


_ALONE = Tally()


class Connection:
    """Writes a client's frames past aiohttp, one write a flush.

    That keeps their order because the WebSocket is not compressed: aiohttp then writes before it waits.
    """

    __slots__ = (
        "__weakref__",
        "_ack_window",
        "_acked",
        "_closing",
        "_crowds",
        "_fd",
        "_hub",
        "_key",
        "_loop",
        "_phases",
        "_ping_timer",
        "_room",
        "_sent",
        "_stalled_since",
        "_tally",
        "_transport",
        "_ws",
        "client",
    )  # fmt: skip

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        hub: Hub,
        phases: Phases,
        crowds: Crowds,
        *,
        interval: float,
        legacy: bool = False,
        key: Key | None = None,
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._hub = hub
        self._phases = phases
        self._crowds = crowds
        self._key = key
        self._loop = asyncio.get_running_loop()
        self._ping_timer = self._loop.call_later(PING_SECONDS, self._ping)
        self._stalled_since: float | None = None
        self._closing: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None
        self._ack_window: int | None = None
        self._acked = self._sent = 0
        self._tally = _ALONE
        bound_unsent(transport)
        self._fd = _plain_socket(transport)
        self.client: Client = hub.join(self._wake, interval, legacy=legacy)

    async def reply(self, frame: bytes) -> None:
        """Answer a client's frame; waits for this client only, who then can't send more."""
        if self._closing:
            return
        self._sent += 1
        self.client.default.wake()  # to notice if it does not take the answer
        await self._ws.send_frame(frame, WSMsgType.TEXT)

    async def has_room(self) -> None:
        """Wait until the client has taken most of what is queued for it."""
        if self._room is None:
            self._room = asyncio.Event()
        while self.client.queued_bytes > ROOM_BYTES:
            self._room.clear()
            await self._room.wait()

    @property
    def wire(self) -> Wire:
        """What is needed to write to its socket, which must be a plain one."""
        assert self._fd is not None
        return Wire(self._fd, self._transport, self._ws)

    def expect_acks(self, window: int) -> None:
        """From now on, be at most so many frames ahead of what the client has acknowledged."""
        self._ack_window = window
        self._acked = self._frames
        if self.client.crowd:
            self.client.crowd.leave(self.client)

    def settle(self) -> None:
        """The client has said what it follows, or nothing for a while: it may be one of many."""
        self._hub.settle(self.client)
        if self._fd is not None and self._ack_window is None and not self._closing:
            self._crowds.enter(self)

    def write(self, data: bytes, frames: int) -> bool:
        """Send frames that many are sent; false if it has not taken enough of what was sent before."""
        transport = self._transport
        if self._closing or transport.is_closing() or self._ws.closed:
            return True  # it is about to leave
        if (unsent := transport.get_write_buffer_size()) > UNSENT_BYTES:
            return False
        written = 0
        if not unsent and self._fd is not None:
            try:  # straight to the socket, which is a third cheaper
                written = os.write(self._fd, data)
            except OSError:  # full, or broken: the transport will notice, too
                written = 0
        self._sent += frames
        self.finish(data, written)
        return True

    @property
    def _frames(self) -> int:
        """How many frames it was sent."""
        return self._sent + self._tally.frames

    def count_with(self, tally: Tally) -> None:
        """From now on frames are counted there, too: once for many connections, each of which would cost a touch."""
        self._sent = self._frames - tally.frames
        self._tally = tally

    def finish(self, data: bytes, written: int) -> None:
        """So many bytes have been written to the socket; the rest is the transport's to send."""
        if written != len(data):
            self._transport.write(data[written:])

    def acknowledge(self, received: int) -> bool:
        """The client has received so many frames; false if so many were never sent."""
        if received > self._frames:
            return False
        self._acked = max(self._acked, received)
        return True

    def close(self, closing: Closing) -> asyncio.Task[None]:
        """Begin to close with a reason; bounded, whatever the client does. What was to be sent is forgotten."""
        if self._closing is None:
            self._hub.leave(self.client)
            metrics.CLOSED.labels(str(closing.code)).inc()
            self._closing = self._loop.create_task(self._close(closing))
        return self._closing

    def end(self) -> None:
        """Free what this connection holds; a client that does not read its last bytes loses them."""
        self._hub.leave(self.client)
        self._ping_timer.cancel()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(CLOSE_SECONDS, self._cut_off)

    def _wake(self, pace: Pace, urgent: bool) -> None:  # noqa: FBT001  # a Wake
        if urgent:
            self._loop.call_soon(self.flush, pace)
        else:
            if pace.phase is None:
                pace.phase = self._phases.deal(pace.interval)
            pace.phase.add(self.flush, pace)

    def _ping(self) -> None:
        if self._key and self._key.has_expired(datetime.now(UTC)):
            self.close(EXPIRED)
            return
        # Code in a browser can't see the protocol's own pings.
        self.client.put(frames.PING, urgent=True)
        self._ping_timer = self._loop.call_later(PING_SECONDS, self._ping)

    def flush(self, pace: Pace) -> None:
        """Write what waits at that pace, in one go."""
        if self._closing or self._ws.closed or self._transport.is_closing():
            return
        if self.client.is_flooded:
            metrics.SLOW.labels("flooded").inc()
            log.warning("client closed: it takes too little of what it follows")
            self.close(TOO_SLOW)
            return
        room = FRAMES_AT_ONCE if self._ack_window is None else self._ack_window - (self._frames - self._acked)
        if room <= 0 or self._transport.get_write_buffer_size() > UNSENT_BYTES:
            self._wait_or_close(pace)
            return
        self._stalled_since = None
        if batch := self.client.take(pace, min(room, FRAMES_AT_ONCE)):
            metrics.FRAMES_SENT.inc(len(batch))
            self.write(b"".join(batch) if len(batch) > 1 else batch[0], len(batch))
        if pace.dirty or self.client.queue:
            self._flush_again(pace, TICK_SECONDS)
        if self._room is not None:
            self._room.set()

    def _flush_again(self, pace: Pace, seconds: float) -> None:
        """Flush once more, however many flushes ask for it; the earliest counts."""
        when = self._loop.time() + seconds
        if pace.again and pace.again.when() <= when:
            return
        if pace.again:
            pace.again.cancel()
        pace.again = self._loop.call_at(when, self._flush_rest, pace)

    def _flush_rest(self, pace: Pace) -> None:
        pace.again = None
        self.flush(pace)

    def _wait_or_close(self, pace: Pace) -> None:
        """The client has not taken what was written: it gets the newest states once it has, or must resume."""
        now = self._loop.time()
        self._stalled_since = self._stalled_since or now
        if now - self._stalled_since < STALLED_SECONDS:
            # What is queued holds up what comes after it; states only become newer.
            self._flush_again(pace, min(pace.interval, HURRY_SECONDS) if self.client.queue else pace.interval)
        else:
            metrics.SLOW.labels("stalled").inc()
            metrics.FRAMES_DROPPED.inc(len(self.client.queue))
            log.warning("client closed: it reads nothing pending=%s", len(pace.dirty))
            self.close(TOO_SLOW)

    async def _close(self, closing: Closing) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._ws.close(code=closing.code, message=closing.text(), drain=False)
        except TimeoutError:
            self._cut_off()

    def _cut_off(self) -> None:
        if self._transport.is_closing() and not self._transport.get_write_buffer_size():
            return  # it is gone
        # Without lingering: else the kernel keeps what was not read, and tries for minutes to deliver it.
        if sock := self._transport.get_extra_info("socket"):
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def bound_unsent(transport: asyncio.Transport) -> None:
    """Keep the kernel from taking more than a client reads soon."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _plain_socket(transport: asyncio.Transport) -> int | None:
    """The file descriptor that takes what is sent as it is; none if it is encrypted on the way."""
    sock = transport.get_extra_info("socket")
    return None if sock is None or transport.get_extra_info("sslcontext") else sock.fileno()
