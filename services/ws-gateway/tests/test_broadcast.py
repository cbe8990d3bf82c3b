"""The same bytes to many real sockets: whole and in order to each, whatever the others do."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from ws_gateway.broadcast import Broadcast
from ws_gateway.clients import FLUSH_SECONDS
from ws_gateway.connection import Connection
from ws_gateway.crowds import Crowds
from ws_gateway.hub import Hub
from ws_gateway.phases import Phases


class Peer:
    """A connection, and the end that reads what it is sent."""

    def __init__(self, connection: Connection, far: socket.socket, ws: Any) -> None:
        self.connection = connection
        self.far = far
        self.ws = ws

    def fill(self) -> int:
        """Leave the connection's socket no room; returns how many bytes that took."""
        filled = 0
        with suppress(BlockingIOError):
            while True:
                filled += os.write(self.connection.wire.fd, b"x" * 4096)
        return filled

    async def read(self, size: int) -> bytes:
        """So many bytes of what was sent."""
        got = b""
        async with asyncio.timeout(30):
            while len(got) < size:
                got += await asyncio.get_running_loop().sock_recv(self.far, size - len(got))
        return got

    @property
    def has_more(self) -> bool:
        try:
            return bool(self.far.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False


def linked() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection that holds little."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        far.connect(server.getsockname())
        near, _ = server.accept()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return near, far


@pytest.fixture
async def peers() -> AsyncIterator[list[Peer]]:
    hub, phases = Hub(), Phases()
    crowds = Crowds(hub, phases, FLUSH_SECONDS, lambda members: Broadcast(members).write)
    peers = []
    for _ in range(3):
        near, far = linked()
        far.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
        ws: Any = SimpleNamespace(closed=False)
        connection = Connection(ws, transport, hub, phases, crowds, interval=FLUSH_SECONDS)
        peers.append(Peer(connection, far, ws))
    yield peers
    for peer in peers:
        peer.connection.end()
        peer.connection.wire.transport.abort()
        peer.far.close()
    await asyncio.sleep(0)  # for the transports to end


def broadcast_to(peers: list[Peer]) -> Broadcast:
    return Broadcast([peer.connection for peer in peers])


async def test_socket_that_is_full_gets_it_later_and_those_after_it_at_once(peers: list[Peer]) -> None:
    filled = peers[1].fill()
    broadcast = broadcast_to(peers)

    assert broadcast.write(b"first", 1) == []
    assert broadcast.write(b"second", 1) == []

    assert [await peer.read(11) for peer in (peers[0], peers[2])] == [b"firstsecond"] * 2
    assert (await peers[1].read(filled + 11))[filled:] == b"firstsecond"
    assert not any(peer.has_more for peer in peers)


async def test_what_a_socket_took_in_part_is_finished_and_it_is_behind_until_then(peers: list[Peer]) -> None:
    large = bytes(range(256)) * 1024
    broadcast = broadcast_to(peers)
    readers = [asyncio.create_task(peer.read(len(large))) for peer in (peers[0], peers[2])]

    assert broadcast.write(large, 1) == []
    assert await asyncio.gather(*readers) == [large, large]
    behind = broadcast.write(b"second", 1)

    assert behind == [peers[1].connection]
    assert [await peer.read(6) for peer in (peers[0], peers[2])] == [b"second"] * 2
    assert await peers[1].read(len(large)) == large
    assert not peers[1].has_more


async def test_socket_whose_close_was_sent_is_sent_nothing_more(peers: list[Peer]) -> None:
    broadcast = broadcast_to(peers)
    peers[0].ws.closed = True
    peers[1].connection.wire.transport.close()

    assert broadcast.write(b"news", 1) == []

    assert await peers[2].read(4) == b"news"
    assert not peers[0].has_more


async def test_frames_of_a_broadcast_count_for_acknowledgements(peers: list[Peer]) -> None:
    broadcast_to(peers).write(b"two frames", 2)

    assert peers[0].connection.acknowledge(2)
    assert not peers[0].connection.acknowledge(3)
