"""The same bytes to many connections, with as little between two system calls as there can be.

What a delivery costs beyond its system call is what the interpreter does for it. So whatever can be asked of all
connections is asked in loops that run in C, and only what is out of the ordinary is looked at one by one.
"""

import os
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import attrgetter, call

from ws_gateway.connection import Connection, Tally

_is_closed = attrgetter("closed")


class Broadcast:
    """Writes to these connections, all of which have a plain socket."""

    def __init__(self, connections: Iterable[Connection]) -> None:
        self._connections = list(connections)
        wires = [connection.wire for connection in self._connections]
        self._fds = [wire.fd for wire in wires]
        self._unsent = [wire.transport.get_write_buffer_size for wire in wires]
        self._is_closing = [wire.transport.is_closing for wire in wires]
        self._sockets = [wire.ws for wire in wires]
        self._tally = Tally()
        for connection in self._connections:
            connection.count_with(self._tally)

    def write(self, data: bytes, frames: int) -> list[Connection]:
        """Send frames that many are sent; returns those that have not taken enough of what was sent before."""
        if any(map(call, self._unsent)) or any(map(call, self._is_closing)) or any(map(_is_closed, self._sockets)):
            return [connection for connection in self._connections if not connection.write(data, frames)]
        written = _written(self._fds, data)
        self._tally.frames += frames
        if written.count(len(data)) < len(written):
            for connection, size in zip(self._connections, written, strict=True):
                connection.finish(data, size)
        return []


def _written(fds: Sequence[int], data: bytes) -> list[int]:
    """How many bytes each took; a socket that is full or broken takes none."""
    written: list[int] = []
    while len(written) < len(fds):
        try:
            written.extend(map(os.write, fds[len(written) :], repeat(data)))
        except OSError:  # those before it have been noted
            written.append(0)
    return written
