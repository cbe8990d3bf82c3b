"""Fetching one URL: whatever a server does ends as one of four results, within bounds of time and size."""

import re
import socket
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Self

import aiohttp
from yarl import URL

from crawler.connections import Connector
from crawler.content_encoding import ACCEPTED, Decoder, UndecodableError
from crawler.guard import Network, PrivateAddressError, guarded_socket
from crawler.urls import join

DOCUMENT_TYPES = frozenset(("text/html", "application/xhtml+xml", "text/plain", "text/markdown", "application/pdf"))
MAX_RETRY_AFTER = 3600.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS_TOO_LARGE = ("Got more than", "Too many headers")  # the texts are all that tells these errors apart
_NO_UTF_8 = re.compile("[\udc80-\udcff]")  # what stands for a byte of a header that is no UTF-8
_CHUNK = 64 * 1024
_SNIFFED = 1024  # bytes that tell whether a body is text
# What servers say of files that they don't know: https://mimesniff.spec.whatwg.org/#interpreting-the-resource-metadata
_OFTEN_WRONG = frozenset(("", "text/plain", "text/plain; charset=iso-8859-1", "text/plain; charset=utf-8"))
_KNOWN_BY_THEIR_START = (b"%PDF-", b"\xff\xfe", b"\xfe\xff")  # UTF-16 holds NUL, too
_DNS_CACHE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Fetched:
    """The body of a page, decoded from its Content-Encoding. `content_type` is the header's whole value.

    `robots_tags` are the values of X-Robots-Tag, one for each of these headers, `links` those of Link.
    """

    status: int
    content_type: str
    body: bytes
    etag: str | None = None
    last_modified: str | None = None
    robots_tags: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    language: str = ""
    refresh: str = ""


@dataclass(frozen=True, slots=True)
class Redirected:
    """The server points to another page; `target` is its canonical URL."""

    status: int
    target: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The page could not be fetched. `retry`: trying again makes sense, after `retry_after` seconds if given."""

    reason: str
    status: int | None = None
    retry: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """The page is none that is kept."""

    reason: str
    status: int


@dataclass(frozen=True, slots=True)
class NotModified:
    """The page is as it was when the server gave it the validators that were sent."""


Result = Fetched | Redirected | Failed | Skipped


class Fetcher:
    """Fetches pages over a pool of connections; use it as an async context manager.

    Follows no redirect, keeps no cookie, uses no proxy and, unless `allow_private`, connects to public addresses and
    `allowed_networks` only.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        timeout: float = 30.0,
        max_body_bytes: int = 10 * 1024 * 1024,
        allow_private: bool = False,
        allowed_networks: Collection[Network] = (),
        allow_invalid_tls: bool = False,
        concurrency: int = 16,
    ) -> None:
        """`timeout` (seconds) bounds a whole fetch; `max_body_bytes` counts after decompression."""
        self.user_agent = user_agent
        self._timeout = timeout
        self.max_body_bytes = max_body_bytes
        self._allow_private = allow_private
        self._allowed_networks = allowed_networks
        self._allow_invalid_tls = allow_invalid_tls
        self._concurrency = concurrency
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        connector = Connector(
            limit=self._concurrency,
            ttl_dns_cache=_DNS_CACHE_SECONDS,
            ssl=not self._allow_invalid_tls,
            socket_factory=None if self._allow_private else partial(guarded_socket, allowed=self._allowed_networks),
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            trust_env=False,
            auto_decompress=False,
            headers={
                "User-Agent": self.user_agent,
                "Accept": "text/html,application/xhtml+xml,text/plain;q=0.9,application/pdf;q=0.8,*/*;q=0.1",
                "Accept-Encoding": ACCEPTED,
            },
        )
        self._session = await self._open.enter_async_context(session)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def fetch(self, url: str, *, first_bytes: int | None = None, accept: str | None = None) -> Result:
        """Fetch a canonical URL once.

        With `first_bytes` the body may be of any type, of those that `accept` prefers, and is cut at that size instead
        of being refused.
        """
        return await self._get(url, {"Accept": accept} if accept else {}, first_bytes)

    async def fetch_if_modified(self, url: str, *, etag: str | None, last_modified: str | None) -> Result | NotModified:
        """Fetch a canonical URL once, unless it is as it was when it had these validators."""
        validators = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        # Some servers make up validators that no request can hold.
        sent = {name: value for name, value in validators.items() if value and value.isprintable()}
        result = await self._get(url, sent, None)
        is_unchanged = isinstance(result, Failed) and result.status == HTTPStatus.NOT_MODIFIED
        return NotModified() if is_unchanged else result

    async def _get(self, url: str, headers: dict[str, str], first_bytes: int | None) -> Result:
        try:
            async with self._session.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as response:
                refused = refusal(url, response, any_type=first_bytes is not None)
                if refused is not None:
                    return refused
                return await self._read(response, first_bytes)
        except (aiohttp.ClientError, TimeoutError, UndecodableError, UnicodeError) as error:
            return failure(error)

    async def _read(self, response: aiohttp.ClientResponse, first_bytes: int | None) -> Result:
        limit = self.max_body_bytes if first_bytes is None else first_bytes
        if first_bytes is None and (response.content_length or 0) > limit:
            return Failed("too_large", response.status)
        decoder = Decoder(response.headers.get("Content-Encoding", ""))
        body, received = bytearray(), 0
        async for chunk in response.content.iter_chunked(_CHUNK):
            received += len(chunk)
            body += decoder.decode(chunk, limit + 1 - len(body))
            if max(len(body), received) > limit:
                break
        if max(len(body), received) > limit:
            if first_bytes is None:
                return Failed("too_large", response.status)
            del body[limit:]
        elif decoder.is_truncated:
            return Failed("truncated", response.status, retry=True)
        content_type = _header(response, "Content-Type") or ""
        if first_bytes is None and content_type.lower() in _OFTEN_WRONG and _is_binary(body):
            return Skipped("content_type", response.status)
        return Fetched(
            response.status,
            content_type,
            bytes(body),
            etag=_header(response, "ETag"),
            last_modified=_header(response, "Last-Modified"),
            robots_tags=tuple(response.headers.getall("X-Robots-Tag", ())),
            links=tuple(response.headers.getall("Link", ())),
            language=response.headers.get("Content-Language", ""),
            refresh=response.headers.get("Refresh", ""),
        )


def refusal(
    url: str, response: aiohttp.ClientResponse, *, any_type: bool = False
) -> Redirected | Failed | Skipped | None:
    """Return what a response is by its head alone, or None when its body is wanted."""
    status = response.status
    if status in _REDIRECTS:
        target = join(url, _NO_UTF_8.sub(_percent_encoded, response.headers.get("Location", "#")))
        if target is None:
            return Failed("bad_redirect", status)
        return Failed("redirect_loop", status) if target == url else Redirected(status, target)
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        retry = status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        after = retry_after(response.headers.get("Retry-After", ""), datetime.now(UTC)) if retry else None
        return Failed(f"http_{status}", status, retry=retry, retry_after=after)
    content_type = (response.headers.get("Content-Type") or "text/html").partition(";")[0].strip().lower()
    if not any_type and content_type not in DOCUMENT_TYPES:
        return Skipped("content_type", status)
    return None


def _percent_encoded(byte: re.Match[str]) -> str:
    return f"%{ord(byte[0]) - 0xDC00:02X}"


def failure(error: Exception) -> Failed:  # noqa: PLR0911  # one line for each thing that goes wrong
    """Name what went wrong while fetching."""
    match error:
        case TimeoutError():
            return Failed("timeout", retry=True)
        case UndecodableError():
            return Failed("encoding")
        case aiohttp.ClientConnectorError(os_error=PrivateAddressError()):
            return Failed("private_address")
        case aiohttp.ClientConnectorDNSError(os_error=OSError(errno=code)):
            return Failed("dns", retry=code not in (socket.EAI_NONAME, socket.EAI_NODATA))
        case UnicodeError():  # a name that the DNS can't express
            return Failed("dns")
        case aiohttp.ClientSSLError():
            return Failed("tls")
        case aiohttp.ClientResponseError(message=message) if message.startswith(_HEADERS_TOO_LARGE):
            return Failed("headers_too_large")
        case aiohttp.ClientPayloadError():
            return Failed("truncated", retry=True)
        case aiohttp.ClientConnectionError():
            return Failed("connection", retry=True)
        case _:
            return Failed("bad_response")


def retry_after(value: str, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header (seconds or a date) asks to wait, at most an hour; None for none."""
    if value.strip().isdecimal():
        seconds = float(value)
    else:
        try:
            seconds = (parsedate_to_datetime(value).astimezone(UTC) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _is_binary(body: bytearray) -> bool:
    return b"\0" in body[:_SNIFFED] and not body.startswith(_KNOWN_BY_THEIR_START)


def _header(response: aiohttp.ClientResponse, name: str) -> str | None:
    value = response.headers.get(name)
    return value if value and value.isascii() else None
