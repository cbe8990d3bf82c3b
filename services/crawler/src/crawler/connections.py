"""Connections that take no more answers than were asked for, and names that do not wait for each other.

The HTTP client keeps all answers that come, also on a connection that is idle.
"""

import asyncio
import os
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader

# A request has one answer, and some that announce it (1xx).
MOST_WAITING = 16


class Connection(ResponseHandler):
    """A connection that is cut off when more answers wait in it than anybody can have asked for."""

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take the head of an answer."""
        if self.transport is None:
            return
        if len(self) < MOST_WAITING:
            super().feed_data(data, size)
            return
        self.abort()
        self.set_exception(HttpProcessingError(message="more answers than questions"))


class Connector(aiohttp.TCPConnector):
    """A pool of such connections."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._factory = partial(Connection, loop=asyncio.get_running_loop())  # type: ignore[assignment]  # invariant


def look_up_at_once(names: int) -> None:
    """Let so many names be looked up at once, if it is called before the first: uvloop has a thread for each.

    Of its own it has four: as many names whose servers do not answer would keep all pages waiting until they fail, too.
    """
    os.environ.setdefault("UV_THREADPOOL_SIZE", str(names))
