"""Gateways in this process, on the real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from ws_gateway.app import Readiness, build_app
from ws_gateway.hub import Hub
from ws_gateway.logs import LogBook
from ws_gateway.tracker import Tracker

Gateway = TestClient[Any, Any]


@asynccontextmanager
async def running_gateway(amqp_url: str) -> AsyncIterator[Gateway]:
    """A gateway that is connected."""
    hub, logs = Hub(), LogBook()
    link = Tracker(5, hub, logs)
    readiness = Readiness(is_connected=link.connected.is_set)
    app = build_app(hub, link.ask, readiness, allow_private_addresses=False, hear=link.hear, logs=logs)
    following = asyncio.create_task(link.follow(amqp_url))
    async with TestClient(TestServer(app)) as client:
        async with asyncio.timeout(30):
            await link.connected.wait()
        yield client
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
