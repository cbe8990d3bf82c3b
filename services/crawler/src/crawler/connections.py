"""Connections that take no more answers than were asked for: the HTTP client keeps all that come, also while idle."""

import asyncio
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
