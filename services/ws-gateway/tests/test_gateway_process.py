"""`python -m ws_gateway` as a process of its own, with no broker to talk to."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import pytest
from ws_gateway.keys import KeyRing, Scope, new_key

# Port 9 is nobody's: the broker is away.
NO_BROKER = {"AMQP_URL": "amqp://guest:secret@127.0.0.1:9/", "GATEWAY_PORT": "0", "GATEWAY_REQUEST_TIMEOUT": "0.5"}


SECRET, KEY = new_key("reader", [Scope.READ])


@dataclass(frozen=True)
class Process:
    url: str
    handle: asyncio.subprocess.Process
    said: list[str]

    async def stop(self) -> int:
        self.handle.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            return await self.handle.wait()

    async def everything_said(self) -> str:
        """All that it wrote, once it has ended."""
        assert self.handle.stderr
        return "".join(self.said) + (await self.handle.stderr.read()).decode()


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
    said: list[str] = []
    try:
        async with asyncio.timeout(30):
            async for line in handle.stderr:
                said.append(line.decode())
                if found := re.search(rb"listening url=(\S+)", line):
                    yield Process(found[1].decode(), handle, said)
                    break
    finally:
        if handle.returncode is None:
            handle.kill()
        await handle.communicate()  # to the end of its pipe, which else is left to the garbage collector


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
        (NO_BROKER | {"GATEWAY_FLUSH_MS": "5"}, "GATEWAY_FLUSH_MS"),
        (NO_BROKER | {"GATEWAY_TICKET_SECRET": "secret"}, "GATEWAY_TICKET_SECRET"),
        (NO_BROKER | {"GATEWAY_ORIGINS": "https://a.example, b.example"}, "GATEWAY_ORIGINS"),
        (NO_BROKER | {"GATEWAY_KEYS": "reader:read:secret"}, "GATEWAY_KEYS"),
        (NO_BROKER | {"GATEWAY_KEYS_FILE": "/nowhere/keys"}, "GATEWAY_KEYS_FILE"),
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
        message = await watcher.receive(timeout=30)

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


async def test_stop_signal_closes_many_clients_in_time_and_sends_them_elsewhere() -> None:
    limits = {"GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "0"}
    async with listening(**NO_BROKER | limits) as process:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(process.url, connector=connector) as http:
            watchers = await asyncio.gather(*(http.ws_connect("/v1/ws") for _ in range(1_000)))
            stopping = asyncio.create_task(process.stop())
            receiving = [asyncio.create_task(watcher.receive(timeout=30)) for watcher in watchers]
            await asyncio.wait(receiving, return_when=asyncio.FIRST_COMPLETED)
            ready = await http.get("/readyz")
            messages = await asyncio.gather(*receiving)
            code = await stopping

    hints = [json.loads(message.extra)["retry_ms"] for message in messages]
    assert {message.data for message in messages} == {1012}
    assert len(set(hints)) > 500
    assert all(500 <= hint <= 5_000 for hint in hints)
    assert (ready.status, code) == (503, 0)


async def test_keys_are_asked_for_and_neither_they_nor_tickets_are_ever_logged() -> None:
    async with listening(**NO_BROKER | {"GATEWAY_KEYS": KEY.line()}) as process:
        async with aiohttp.ClientSession(process.url) as http:
            headers = {"Authorization": f"Bearer {SECRET}"}
            ticket = (await (await http.post("/v1/tickets", headers=headers)).json())["ticket"]
            watcher = await http.ws_connect(f"/v1/ws?ticket={ticket}")
            await watcher.send_str("nonsense")
            answer = await watcher.receive_json(timeout=30)
            again = await http.ws_connect(f"/v1/ws?ticket={ticket}")
            refused = await again.receive(timeout=30)
            missing = await http.get(f"/v1/jobs?ticket={ticket}")
            bad = await http.get(f"/v1/jobs?key={SECRET}", headers=headers)
        await process.stop()
        said = await process.everything_said()

    assert answer["type"] == "error"
    assert (refused.data, missing.status, bad.status) == (4401, 401, 422)
    assert "listening" in said
    assert ticket not in said
    assert SECRET not in said
    assert "no keys" not in said


async def test_without_keys_it_says_that_only_this_machine_is_served() -> None:
    async with listening(**NO_BROKER) as process:
        await process.stop()
        said = await process.everything_said()

    assert "no keys: only this machine is served" in said


@pytest.mark.parametrize(
    ("environment", "status"),
    [({}, 422), ({"CRAWLER_ALLOWED_NETWORKS": '["10.1.0.0/16"]'}, 503)],
    ids=["none allowed", "one network"],
)
async def test_seed_with_a_private_address_is_for_the_crawler_to_judge_where_any_is_allowed(
    environment: dict[str, str], status: int
) -> None:
    async with listening(**NO_BROKER | environment) as process, aiohttp.ClientSession(process.url) as http:
        answer = await http.post("/v1/jobs", json={"seeds": ["http://10.1.2.3/"]})

    assert answer.status == status  # 503: there is no broker to pass it on to


async def test_new_key_is_printed_with_the_line_that_lets_it_in() -> None:
    command = (sys.executable, "-m", "ws_gateway", "new-key", "ours", "read,write", "2999-01-01")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    [secret, line] = [text.rpartition(": ")[2] for text in out.decode().splitlines()]

    found = KeyRing.parse(line).find(secret, datetime.now(UTC))

    assert found is not None
    assert (found.name, found.scopes) == ("ours", {Scope.READ, Scope.WRITE})


@pytest.mark.parametrize("words", [("ours", "all"), ("o:urs", "read"), ("ours", "read", "soon")])
async def test_key_that_can_not_be_made_is_said_so(words: tuple[str, ...]) -> None:
    command = (sys.executable, "-m", "ws_gateway", "new-key", *words)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()

    assert process.returncode == 2
    assert "usage: " in err.decode()
