"""Other ways to send one message to everybody: `python -m benchmarks.fanout_ways aiohttp | websockets`.

Says "listening PORT"; a line "ROUNDS MILLISECONDS BYTES" on the standard input begins, "done" ends.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Broadcast = Callable[[str], Awaitable[None]]


async def rounds(broadcast: Broadcast, count: int, milliseconds: int, size: int) -> None:
    """One message a round, each when it is due."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(1, count + 1):
        await broadcast(f'{{"revision":{number},"text":"t={time.time_ns() // 1000}"}}'.ljust(size))
        await asyncio.sleep(max(0.0, start + number * milliseconds / 1000 - loop.time()))
    print("done", flush=True)


async def obey(broadcast: Broadcast) -> None:
    """Do what the standard input says, until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        await rounds(broadcast, *map(int, line.split()))


async def with_aiohttp() -> None:
    """What its documentation shows: `send_str` to each, in a loop; compression off."""
    clients: set[web.WebSocketResponse] = set()

    async def websocket(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        clients.add(socket)
        async for _ in socket:
            pass
        return socket

    async def broadcast(text: str) -> None:
        for client in list(clients):
            await client.send_str(text)

    app = web.Application()
    app.add_routes([web.get("/v1/ws", websocket)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(f"listening {runner.addresses[0][1]}", flush=True)
    await obey(broadcast)


async def with_websockets() -> None:
    """Its own `broadcast`, which is made for this; compression off."""
    from websockets.asyncio.server import broadcast, serve  # type: ignore[import-not-found]  # in a scratch folder

    async def broadcast_text(text: str) -> None:
        broadcast(server.connections, text)

    async def listen(socket: Any) -> None:
        await socket.wait_closed()

    async with serve(listen, "127.0.0.1", 0, compression=None, backlog=1024) as server:
        print(f"listening {next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await obey(broadcast_text)


if __name__ == "__main__":
    asyncio.run(with_aiohttp() if sys.argv[1] == "aiohttp" else with_websockets())
