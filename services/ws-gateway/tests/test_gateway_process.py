"""`python -m ws_gateway` as a process of its own, with no broker to talk to."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

# Port 9 is nobody's: the broker is away.
NO_BROKER = {"AMQP_URL": "amqp://guest:secret@127.0.0.1:9/", "GATEWAY_PORT": "0", "GATEWAY_REQUEST_TIMEOUT": "0.5"}


@dataclass(frozen=True)
class Process:
    url: str
    handle: asyncio.subprocess.Process

    async def stop(self) -> int:
        self.handle.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            return await self.handle.wait()


async def start(**environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ws_gateway",
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environment},
    )


@asynccontextmanager
async def listening(**environment: str) -> AsyncIterator[Process]:
    handle = await start(**environment)
    assert handle.stderr
    try:
        async with asyncio.timeout(30):
            async for line in handle.stderr:
                if found := re.search(rb"listening url=(\S+)", line):
                    yield Process(found[1].decode(), handle)
                    break
    finally:
        if handle.returncode is None:
            handle.kill()
        await handle.wait()


async def output_of(handle: asyncio.subprocess.Process) -> tuple[int, str]:
    _, err = await handle.communicate()
    assert handle.returncode is not None
    return handle.returncode, err.decode()


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, "AMQP_URL"),
        ({"AMQP_URL": "http://user:secret@localhost/"}, "AMQP_URL"),
        (NO_BROKER | {"GATEWAY_PORT": "70000"}, "GATEWAY_PORT"),
        (NO_BROKER | {"GATEWAY_REQUEST_TIMEOUT": "0"}, "GATEWAY_REQUEST_TIMEOUT"),
        (NO_BROKER | {"CRAWLER_ALLOW_PRIVATE_ADDRESSES": "perhaps"}, "CRAWLER_ALLOW_PRIVATE_ADDRESSES"),
    ],
)
async def test_bad_setting_is_one_line_and_exit_2(environment: dict[str, str], variable: str) -> None:
    code, err = await output_of(await start(**environment))

    assert code == 2
    assert len(err.splitlines()) == 1
    assert variable in err
    assert "secret" not in err


async def test_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, err = await output_of(await start(**NO_BROKER | {"GATEWAY_PORT": port}))

    assert code == 1
    assert f"can't listen on 127.0.0.1:{port}" in err
    assert "Traceback" not in err


async def test_without_a_broker_it_lives_is_not_ready_and_says_so() -> None:
    async with listening(**NO_BROKER) as process, aiohttp.ClientSession(process.url) as http:
        alive = await http.get("/healthz")
        ready = await http.get("/readyz")
        jobs = await http.get("/v1/jobs")

        assert (alive.status, ready.status, jobs.status) == (200, 503, 503)
        assert (await jobs.json(content_type="application/problem+json"))["code"] == "unavailable"


async def test_stop_signal_ends_it_and_tells_its_clients() -> None:
    async with listening(**NO_BROKER) as process, aiohttp.ClientSession(process.url) as http:
        watcher = await http.ws_connect("/ws")
        stopping = asyncio.create_task(process.stop())
        message = await watcher.receive(timeout=5)

        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1012)
        assert await stopping == 0


async def test_broker_that_hangs_does_not_hold_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"amqp://127.0.0.1:{silent.getsockname()[1]}/"
        async with listening(**NO_BROKER | {"AMQP_URL": address}) as process:
            connection, _ = await asyncio.to_thread(silent.accept)
            with connection:  # it hears the greeting, and says nothing
                code = await process.stop()

    assert code == 0
