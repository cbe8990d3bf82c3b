"""A network that tests can cut: a TCP link between this process and a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from tallyho_backing_services import hold_port, port_of


class Link:
    """Forwards to the server of `url`. While it is cut, connections are reset and new ones refused."""

    def __init__(self, url: str) -> None:
        server = urlsplit(url)
        self._target = server.hostname, server.port
        self._holder = hold_port()
        self._port = port_of(self._holder)
        self._ends: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        user, at, _ = server.netloc.rpartition("@")
        self.url = server._replace(netloc=f"{user}{at}127.0.0.1:{self._port}").geturl()

    async def mend(self) -> None:
        """Accept connections (again)."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self._port)

    def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        if self._server:
            self._server.close()
        for end in self._ends:
            end.transport.abort()

    def close(self) -> None:
        """Cut it for good."""
        self.cut()
        self._holder.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        ends = {writer, far_writer}
        self._ends |= ends
        if not (self._server and self._server.is_serving()):
            self.cut()  # it was cut while this connection was made
        with suppress(OSError):
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._ends -= ends
        for end in ends:
            end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def open_link(url: str) -> AsyncIterator[Link]:
    """A link to the server of `url`, whole at first."""
    link = Link(url)
    await link.mend()
    try:
        yield link
    finally:
        link.close()
