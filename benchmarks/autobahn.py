"""`python -m benchmarks.autobahn PYTHON2.7`: Autobahn's test suite against the gateway, and against bare aiohttp.

The suite wants an echo. So the endpoint is the gateway's own, with its handshake, reading, writing and closing, in
which a frame is answered with itself in place of what it asks for. The suite (PyPI autobahntestsuite) is Python 2.7.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from unittest.mock import patch

from aiohttp import ClientConnectionResetError, WSMessage, WSMsgType, web
from ws_gateway import sockets
from ws_gateway.app import Options, Readiness, build_app
from ws_gateway.connection import Connection
from ws_gateway.deps import Deps
from ws_gateway.frames import on_the_wire
from ws_gateway.hub import Hub
from ws_gateway.limits import Limits

# All but compression (which we never agree to) and speed.
CASES, LEFT_OUT = ["*"], ["9.*", "12.*", "13.*"]
RUN = "from autobahntestsuite.wstest import run; import sys; sys.argv[0] = 'wstest'; run()"
AS_GOOD = ("OK", "INFORMATIONAL", "NON-STRICT")


class Echo:
    """In place of a session: answers each frame with itself."""

    def __init__(self, _: Deps, connection: Connection) -> None:
        self._connection = connection

    async def echo(self, message: WSMessage) -> None:
        """Send it back as it came: a text as the gateway sends states, past aiohttp, the rest as it sends answers."""
        data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
        if message.type is not WSMsgType.TEXT or not self._connection.write(on_the_wire(data), 1):
            await self._connection._ws.send_frame(data, message.type)

    def end(self) -> None:
        """Nothing is held."""


async def never(_: object) -> None:
    """No tracker is asked."""
    raise AssertionError


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[int]:
    """The port of an application."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


def gateway() -> web.Application:
    """The gateway's own routes and limits, but for the size of a frame."""
    readiness = Readiness(is_connected=lambda: True)
    options = Options(limits=Limits(frame_bytes=16 * 1024 * 1024))
    return build_app(Hub(), never, readiness, allow_private_addresses=False, options=options)


def bare() -> web.Application:
    """What aiohttp does by itself."""

    async def websocket(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=16 * 1024 * 1024)
        await socket.prepare(request)
        with suppress(ClientConnectionResetError):
            async for message in socket:
                data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
                await socket.send_frame(data, message.type)
        return socket

    app = web.Application()
    app.add_routes([web.get("/v1/ws", websocket)])
    return app


def install(python: str, folder: Path) -> None:
    """The suite, in a folder."""
    command = [python, "-m", "pip", "install", "--quiet", "--target", str(folder), "autobahntestsuite"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    (folder / "zope" / "__init__.py").touch()  # pip leaves namespace packages of Python 2 without one


async def results(python: str, suite: Path, ports: dict[str, int], scratch: Path) -> dict[str, dict[str, str]]:
    """How each case ended, by server."""
    servers = [{"agent": name, "url": f"ws://127.0.0.1:{port}/v1/ws"} for name, port in ports.items()]
    specification = {"servers": servers, "cases": CASES, "exclude-cases": LEFT_OUT, "outdir": str(scratch / "reports")}
    (scratch / "spec.json").write_text(json.dumps(specification))
    process = await asyncio.create_subprocess_exec(
        *(python, "-c", RUN, "-m", "fuzzingclient", "-s", str(scratch / "spec.json")),
        cwd=scratch,
        env=os.environ | {"PYTHONPATH": str(suite)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    await process.wait()
    index = json.loads((scratch / "reports" / "index.json").read_text())
    return {
        name: {case: max(one["behavior"], one["behaviorClose"], key=_badness) for case, one in cases.items()}
        for name, cases in index.items()
    }


def _badness(behavior: str) -> int:
    return ["OK", "INFORMATIONAL", "NON-STRICT", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "FAILED"].index(behavior)


async def main(python: str) -> int:
    """Run the suite against both, and say where the gateway does worse; 1 if it does anywhere."""
    with tempfile.TemporaryDirectory(prefix="tallyho-autobahn-") as folder:
        scratch = Path(folder)
        install(python, scratch / "suite")
        with patch.object(sockets, "Session", Echo), patch.object(sockets, "_received", Echo.echo):
            async with serving(gateway()) as ours, serving(bare()) as other:
                ended = await results(python, scratch / "suite", {"gateway": ours, "aiohttp": other}, scratch)
    for name, cases in ended.items():
        print(f"{name}: {len(cases)} cases, {dict(Counter(cases.values()))}")
    bad = {case for case, behavior in ended["gateway"].items() if behavior not in AS_GOOD}
    for case in sorted(bad):
        print(f"{case}: gateway {ended['gateway'][case]}, aiohttp {ended['aiohttp'][case]}")
    return int(any(ended["aiohttp"][case] in AS_GOOD for case in bad))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
