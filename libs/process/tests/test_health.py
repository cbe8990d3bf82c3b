"""The port for the orchestrator."""

import asyncio
import logging
import re

import aiohttp
import pytest
from tallyho_process.health import Health
from tallyho_process.settings import ProcessSettings


async def status(port: str, path: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status


async def test_process_lives_before_it_is_ready_and_after_it_stops_being(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HEALTH_PORT", "0")
    stop = asyncio.Event()
    health = Health("test")
    with caplog.at_level(logging.INFO):
        async with health.serving(ProcessSettings()):
            [port] = re.findall(r"port=(\d+)", caplog.text)
            seen = [(await status(port, "/healthz"), await status(port, "/readyz"))]
            health.ready(lambda: not stop.is_set())
            seen.append((await status(port, "/healthz"), await status(port, "/readyz")))
            stop.set()
            seen.append((await status(port, "/healthz"), await status(port, "/readyz")))

    assert seen == [(200, 503), (200, 200), (200, 503)]
    with pytest.raises(aiohttp.ClientConnectionError):
        await status(port, "/healthz")


async def test_without_a_port_nothing_listens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with Health("test").serving(ProcessSettings()):
            pass

    assert caplog.text == ""
