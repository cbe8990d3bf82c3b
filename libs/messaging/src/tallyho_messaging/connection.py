"""The two connections of a process: one publishes, one consumes.

A resource alarm of the broker blocks the socket that publishes; acknowledgements must not wait behind it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractRobustConnection
from aio_pika.connection import make_url

from tallyho_messaging.metrics import CONNECTED, RECONNECTS
from tallyho_messaging.publisher import Publisher

# A dead link is noticed after about three heartbeats; the default of 60 s would mean three minutes.
HEARTBEAT_SECONDS = 10
RECONNECT_SECONDS = 1
CONNECT_TIMEOUT_SECONDS = 10
CLOSE_TIMEOUT_SECONDS = 3


@dataclass(frozen=True)
class Amqp:
    """What a process needs of the broker. `name` is the service's, and the CloudEvents source of what it sends."""

    name: str
    consuming: AbstractRobustConnection
    publisher: Publisher


@asynccontextmanager
async def open_amqp(url: str, *, name: str) -> AsyncIterator[Amqp]:
    """Connect to the broker at `url`, waiting until it answers; reconnects by itself until closed.

    Closing takes all channels along, and is bounded: a broker that hangs never says goodbye.
    """
    publishing, consuming = _connection(url, name, "publishes"), _connection(url, name, "consumes")
    try:
        await asyncio.gather(*(each.connect(timeout=CONNECT_TIMEOUT_SECONDS) for each in (publishing, consuming)))
        channel = await publishing.channel(publisher_confirms=True, on_return_raises=True)
        yield Amqp(name=name, consuming=consuming, publisher=Publisher(channel))
    finally:
        closing = [asyncio.ensure_future(each.close()) for each in (consuming, publishing)]
        await asyncio.wait(closing, timeout=CLOSE_TIMEOUT_SECONDS)
        for close in closing:
            close.cancel()


def _connection(url: str, name: str, role: str) -> aio_pika.RobustConnection:
    # Not aio_pika.connect_robust: cancelled while it connects, it would leave its attempts behind, unclosed.
    options: dict[str, Any] = {
        "heartbeat": HEARTBEAT_SECONDS,
        "reconnect_interval": RECONNECT_SECONDS,
        "fail_fast": 0,
    }
    properties = {"connection_name": f"{name} {role}"}
    connection = aio_pika.RobustConnection(make_url(url, **options), client_properties=properties, **options)
    CONNECTED.labels(role).set_function(connection.connected.is_set)
    reconnects = RECONNECTS.labels(role)
    connection.reconnect_callbacks.add(lambda *_: reconnects.inc())
    return connection
