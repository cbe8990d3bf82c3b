"""The way to a gateway: requests that are repeated while it is away, connections that are made again."""

import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, TypeVar

import aiohttp
from aiohttp import WSMsgType
from pydantic import BaseModel, ValidationError

from tallyho import frames
from tallyho.errors import NotAGateway, TallyhoError, refused_with
from tallyho.frames import Frame
from tallyho.outage import GatewayAway, Outage

DEFAULT_URL = "http://127.0.0.1:8080"
HEARTBEAT = 15  # seconds: a gateway that does not answer a ping in half of that is gone

BROKEN = (aiohttp.ClientError, ConnectionError, TimeoutError)
ENDED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)

ModelT = TypeVar("ModelT", bound=BaseModel)
T = TypeVar("T")


class Gateway:
    """A gateway's address and key, the session with it, and for how many seconds it may be away."""

    def __init__(self, url: str | None, api_key: str | None, *, patience: float, first_patience: float) -> None:
        self.url = (url or os.environ.get("TALLYHO_URL") or DEFAULT_URL).rstrip("/")
        self._headers = {"User-Agent": f"tallyho-python/{version('tallyho')}"}
        if key := api_key or os.environ.get("TALLYHO_API_KEY"):
            if not re.fullmatch(r"[!-~]+", key):
                raise TallyhoError("the API key has characters that no key has")  # not repeated: it is a secret
            self._headers["Authorization"] = f"Bearer {key}"
        self._patience = patience
        self._first_patience = first_patience
        self._reached = False
        self._opened: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Begin the session."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=30)
        self._opened = aiohttp.ClientSession(timeout=timeout, headers=self._headers)

    async def close(self) -> None:
        """End the session, and every connection with it."""
        if self._opened is not None:
            await self._opened.close()

    @property
    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None or self._opened.closed:
            raise RuntimeError("use `async with Tallyho(url) as client`, and its calls within that block")
        return self._opened

    async def ask(self, model: type[ModelT], method: str, path: str, **request: Any) -> ModelT:
        """Send a request until it is answered; the answer, or what the gateway's refusal says."""
        return parsed(model, await self.read(method, path, **request))

    async def read(self, method: str, path: str, **request: Any) -> bytes:
        """The same, with the answer as it is."""
        outage = Outage(self.url)
        while True:
            try:
                async with self._session.request(method, f"{self.url}/v1/{path}", **request) as response:
                    body = await response.read()
                    self._check(response, body)
                    return body
            except BROKEN as error:
                await self._wait(outage, error)

    async def lasting(self, connect: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """What comes from a connection until it ends by itself; when it is lost, it is made again."""
        outage = Outage(self.url)
        while True:
            try:
                async with aclosing(connect()) as items:
                    async for item in items:
                        outage.over()
                        yield item
            except BROKEN as error:
                await self._wait(outage, error)
            else:
                return

    async def lines(self, path: str, params: dict[str, str]) -> AsyncGenerator[bytes, None]:
        """The lines of a stream of JSON Lines; raises one of BROKEN when it breaks off."""
        request = self._session.get(f"{self.url}/v1/{path}", params=params, headers={"Accept": "application/jsonl"})
        async with request as response:
            self._check(response, b"" if response.ok else await response.read())
            # A line can be larger than the reader of lines in aiohttp takes.
            begun: list[bytes] = []
            async for chunk in response.content.iter_any():
                first, *others = chunk.split(b"\n")
                begun.append(first)
                for following in others:
                    yield b"".join(begun)
                    begun = [following]
            if any(begun):
                yield b"".join(begun)

    async def frames(self, *subscriptions: dict[str, Any]) -> AsyncGenerator[Frame, None]:
        """What comes over a WebSocket with these subscriptions.

        Never ends by itself: raises one of BROKEN when the connection does, RequestRefused when the gateway refuses.
        """
        url = f"{self.url}/v1/ws"
        async with self._session.ws_connect(url, heartbeat=HEARTBEAT, max_msg_size=0) as socket:
            for wanted in subscriptions:
                await socket.send_json({"type": "subscribe", "payload": wanted})
            while (message := await socket.receive()).type not in ENDED:
                if message.type is not WSMsgType.TEXT:
                    continue
                frame = frames.parse(message.data)
                frames.check(frame)
                self._reached = True
                if frame.kind == "ping":
                    await socket.send_json({"type": "pong", "payload": {}})
                yield frame
            if message.type is not WSMsgType.CLOSE:
                raise GatewayAway("the connection was lost")
            raise frames.closing(message.data, str(message.extra or ""))

    def _check(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self._reached = True
        if response.status < HTTPStatus.BAD_REQUEST:
            return
        error = refused_with(response.status, body)
        if not _is_away(response.status):
            raise error
        after = response.headers.get("Retry-After", "")
        seconds = float(after) if re.fullmatch(r"\d{1,2}", after) else 0.0
        raise GatewayAway(f"{response.status}: {error}", retry_after=seconds)

    async def _wait(self, outage: Outage, error: Exception) -> None:
        """Wait before the next attempt, or raise: what is not HTTP, or no WebSocket, will not become one."""
        if isinstance(error, aiohttp.ClientResponseError) and not _is_away(error.status):
            if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise refused_with(error.status, b"") from error
            raise NotAGateway(f"no gateway answers at {self.url}: {error.status} {error.message}") from error
        self._reached = self._reached or isinstance(error, GatewayAway | aiohttp.ClientResponseError)
        await outage.wait(error, patience=self._patience if self._reached else self._first_patience)


def _is_away(status: int) -> bool:
    """Whether a gateway, or a proxy before it, answers so while it or what it needs restarts, or fails."""
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def parsed(model: type[ModelT], body: bytes) -> ModelT:
    """An answer's body as a model; raises NotAGateway."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise NotAGateway("an answer came that is not a gateway's") from error
