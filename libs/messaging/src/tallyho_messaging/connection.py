"""The two connections of a process: one publishes, one consumes.

A resource alarm of the broker blocks the socket that publishes; acknowledgements must not wait behind it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractRobustConnection

from tallyho_messaging.publisher import Publisher

# A dead link is noticed after about three heartbeats; the default of 60 s would mean three minutes.
HEARTBEAT_SECONDS = 10
RECONNECT_SECONDS = 1


@dataclass(frozen=True)
class Amqp:
    """What a process needs of the broker. `name` is the service's, and the CloudEvents source of what it sends."""

    name: str
    consuming: AbstractRobustConnection
    publisher: Publisher


@asynccontextmanager
async def open_amqp(url: str, *, name: str) -> AsyncIterator[Amqp]:
    """Connect to the broker at `url`, waiting until it answers; reconnects by itself until closed."""
    async with await _connect(url, f"{name} publishes") as publishing:
        channel = await publishing.channel(publisher_confirms=True, on_return_raises=True)
        async with await _connect(url, f"{name} consumes") as consuming:
            yield Amqp(name=name, consuming=consuming, publisher=Publisher(channel))


async def _connect(url: str, connection_name: str) -> AbstractRobustConnection:
    return await aio_pika.connect_robust(
        url,
        client_properties={"connection_name": connection_name},
        heartbeat=HEARTBEAT_SECONDS,
        reconnect_interval=RECONNECT_SECONDS,
        fail_fast=0,
    )
