"""Clients that read nothing: they delay nobody, what is held for them is bounded, and they are cut off."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.jobs import JobState
from ws_gateway import connection, sockets
from ws_gateway.clients import Pace

State = Callable[..., JobState]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


class StalledClient:
    """Opens a WebSocket and never reads from it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )

    def is_cut_off(self) -> bool:
        """Whether the kernel has seen the reset."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


Stall = Callable[[int], StalledClient]


@pytest.fixture
def stall() -> Iterator[Stall]:
    with ExitStack() as stack:

        def open_one(port: int) -> StalledClient:
            client = StalledClient(port)
            stack.callback(client.socket.close)
            return client

        yield open_one


async def test_stalled_client_delays_nobody_and_is_cut_off(
    gateway_with: Any, state: State, stall: Stall, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await gateway_with(flush_seconds=0.005)
    monkeypatch.setattr(connection, "STALLED_SECONDS", 4.0)
    stalled = stall(gateway.http.port)
    watcher = await gateway.watch()
    connections = gateway.http.app[sockets.CONNECTIONS]
    await eventually(lambda: len(connections) == 2)

    received = 0
    revision = 0
    async with asyncio.timeout(30):
        while len(connections) > 1:  # until the stalled one is gone
            revision += 1
            for job in range(200):
                gateway.hub.offer(state(job, revision))
            received += len(await watcher.states_until(UUID(int=199), revision))

    await eventually(stalled.is_cut_off)
    assert received >= 200 * revision


async def test_stalled_client_holds_one_state_a_job(gateway_with: Any, state: State, stall: Stall) -> None:
    gateway = await gateway_with(flush_seconds=0.001)
    stall(gateway.http.port)
    connections = gateway.http.app[sockets.CONNECTIONS]
    await eventually(lambda: len(connections) == 1)
    [only] = connections

    for revision in range(1, 3001):
        gateway.hub.offer(state(revision % 20, revision))
        if revision % 10 == 0:
            await asyncio.sleep(0.001)

    assert len(only.client.everything.dirty) <= 20
    assert only._transport.get_write_buffer_size() < 1_000_000


async def test_client_that_takes_nothing_is_tried_once_at_a_time_however_much_is_queued(
    gateway: Any, stall: Stall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALLED_SECONDS", 3600.0)
    times: list[float] = []
    flush = connection.Connection.flush

    def noting_flush(self: connection.Connection, pace: Pace) -> None:
        times.append(asyncio.get_running_loop().time())
        flush(self, pace)

    monkeypatch.setattr(connection.Connection, "flush", noting_flush)
    stall(gateway.http.port)
    connections = gateway.http.app[sockets.CONNECTIONS]
    await eventually(lambda: len(connections) == 1)
    [only] = connections
    only._transport.write(b"x" * 20_000_000)  # more than a kernel holds

    for number in range(800):
        only.client.put(b"a line", urgent=number % 2 == 0)
    await eventually(lambda: len(times) >= 470)
    tries = times[420:]  # without those that are due to the frames themselves

    # Too few tries on a busy machine are no fault; too many are.
    assert (tries[-1] - tries[0]) / len(tries) > connection.HURRY_SECONDS / 2
    assert len(only.client.queue) == 800


async def test_client_that_sends_but_never_reads_is_not_answered_without_bound(
    gateway: Any, stall: Stall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALLED_SECONDS", 0.5)
    stalled = stall(gateway.http.port)
    connections = gateway.http.app[sockets.CONNECTIONS]
    await eventually(lambda: len(connections) == 1)
    stalled.socket.setblocking(False)
    nonsense = b"\x81\x82\x00\x00\x00\x00hi" * 1000

    async with asyncio.timeout(30):
        while connections:
            try:
                stalled.socket.send(nonsense)
            except BlockingIOError:
                await asyncio.sleep(0.01)
            except OSError:
                break

    await eventually(lambda: not connections)
