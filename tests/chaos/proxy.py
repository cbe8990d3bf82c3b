"""A TCP proxy between the services and a server, whose connections can be reset, left half-open, or slowed down."""

import asyncio
import itertools
import random
import socket
import struct
from typing import Self

CHUNK_BYTES = 64 * 1024
NO_LINGER = struct.pack("ii", 1, 0)  # closing then sends a reset


class Proxy:
    """Passes bytes between any number of clients and the server at a port of this machine."""

    def __init__(self, upstream_port: int) -> None:
        self.delay = 0.0
        self._upstream_port = upstream_port
        self._links: dict[asyncio.Task[None], Link] = {}
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.reset()
        for task in list(self._links):
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def reset(self) -> None:
        """Reset every connection."""
        for link in list(self._links.values()):
            link.reset()

    def cut_off(self, share: float, rng: random.Random) -> None:
        """Leave about `share` of the connections half-open: nothing passes any more, and neither side is told."""
        living = sorted((link for link in self._links.values() if not link.is_dead), key=lambda link: link.number)
        for link in rng.sample(living, max(1, round(share * len(living)))) if living else []:
            link.is_dead = True

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, next(self._numbers), (reader, writer), upstream)
        task = asyncio.create_task(link.run())
        self._links[task] = link
        task.add_done_callback(self._links.pop)


class Link:
    """One connection through a proxy."""

    def __init__(
        self,
        proxy: Proxy,
        number: int,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.is_dead = False
        self.number = number
        self._proxy = proxy
        self._client = client
        self._server = server

    async def run(self) -> None:
        """Pass bytes in both directions until one side closes."""
        pumps = [
            asyncio.create_task(self._pump(self._client[0], self._server[1])),
            asyncio.create_task(self._pump(self._server[0], self._client[1])),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for _, writer in (self._client, self._server):
            writer.close()

    def reset(self) -> None:
        """End both halves with a reset."""
        for _, writer in (self._client, self._server):
            connection = writer.get_extra_info("socket")
            if connection is not None and connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                chunk = await reader.read(CHUNK_BYTES)
                if self.is_dead:
                    await asyncio.Event().wait()  # swallowed, the goodbye too
                if not chunk:
                    return
                if self._proxy.delay:
                    await asyncio.sleep(self._proxy.delay)
                writer.write(chunk)
                await writer.drain()
        except OSError:
            return
