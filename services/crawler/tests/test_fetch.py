"""Fetching one URL from servers that behave in every way."""

import asyncio
import gzip
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import ClientConnectorDNSError, web
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.test_utils import TestServer
from crawler.fetch import Failed, Fetched, Fetcher, Redirected, Skipped, failure, retry_after
from crawler.urls import canonical

PAGE = b"<title>page</title>" * 100
MAX_BODY = 100_000
HTML = "Content-Type: text/html"


@asynccontextmanager
async def fetching(**options: float) -> AsyncIterator[Fetcher]:
    settings = {"timeout": 10.0, "max_body_bytes": MAX_BODY} | options
    async with Fetcher(user_agent="Tallyho/1", allow_private=True, **settings) as fetcher:  # type: ignore[arg-type]
        yield fetcher


@asynccontextmanager
async def answering(*pieces: bytes, hang: bool = False) -> AsyncIterator[str]:
    """Serve these bytes, whatever HTTP they are, and close (or hang)."""
    closing = asyncio.Event()
    answers: set[asyncio.Task[None] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.add(asyncio.current_task())
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if hang:
                await closing.wait()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        finally:
            closing.set()
            await asyncio.gather(*filter(None, answers))


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(application) as server:
        yield str(server.make_url("/"))


async def test_page_is_fetched_with_its_validators() -> None:
    async def handler(_: web.Request) -> web.Response:
        headers = {"ETag": '"1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        return web.Response(body=PAGE, content_type="text/html", charset="koi8-r", headers=headers)

    async with serving(handler) as url, fetching() as fetcher:
        result = await fetcher.fetch(url)

    assert result == Fetched(200, "text/html; charset=koi8-r", PAGE, '"1"', "Mon, 01 Jan 2024 00:00:00 GMT")


async def test_server_sees_who_asks_for_exactly_this_url_and_no_cookie() -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        response = web.Response(body=PAGE, content_type="text/html")
        response.set_cookie("session", "1")
        return response

    async with serving(handler) as url, fetching() as fetcher:
        page = canonical(url + "a%2Fb/%7Ec|[d]'?q=a+b%20c&%C3%BC=%27")
        assert page is not None
        await fetcher.fetch(page)
        await fetcher.fetch(page)

    assert [request.raw_path for request in seen] == ["/a%2Fb/%7Ec|[d]'?q=a+b%20c&%C3%BC=%27"] * 2
    assert [request.headers["User-Agent"] for request in seen] == ["Tallyho/1"] * 2
    assert not any("Cookie" in request.headers for request in seen)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_reported_and_not_followed(status: int) -> None:
    requests = []

    async def handler(request: web.Request) -> web.Response:
        requests.append(request.path)
        return web.Response(status=status, headers={"Location": "../c/./d?x#y"})

    async with serving(handler) as url, fetching() as fetcher:
        result = await fetcher.fetch(url + "a/b")

    assert result == Redirected(status, url + "c/d?x")
    assert requests == ["/a/b"]


@pytest.mark.parametrize(
    "location", ["Location: ftp://a/", "Location: http://[", "Location: javascript:x", "X-None: 1"]
)
async def test_redirect_to_nowhere_fails(location: str) -> None:
    async with answering(head(location, "Content-Length: 0", status="302 Found")) as url, fetching() as fetcher:
        assert await fetcher.fetch(url) == Failed("bad_redirect", 302)


@pytest.mark.parametrize(
    ("location", "target"), [(b"/\xc3\xa9?\xc3\xa9", "%C3%A9?%C3%A9"), (b"/\xe9?\xff&\xc3\xa9", "%E9?%FF&%C3%A9")]
)
async def test_redirect_to_an_address_that_is_no_ascii_is_followed_byte_by_byte(location: bytes, target: str) -> None:
    answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"
    async with answering(answer) as url, fetching() as fetcher:
        assert await fetcher.fetch(url) == Redirected(302, url + target)


async def test_redirect_of_a_page_to_itself_fails() -> None:
    async with (
        answering(head("Location: /#again", "Content-Length: 0", status="302 Found")) as url,
        fetching() as fetcher,
    ):
        assert await fetcher.fetch(url) == Failed("redirect_loop", 302)


@pytest.mark.parametrize(
    ("status", "retry"), [(400, False), (404, False), (410, False), (304, False), (429, True), (500, True), (503, True)]
)
async def test_status_decides_on_a_retry(status: int, retry: bool) -> None:
    async with answering(head("Content-Length: 0", status=f"{status} x")) as url, fetching() as fetcher:
        assert await fetcher.fetch(url) == Failed(f"http_{status}", status, retry=retry)


async def test_retry_after_is_read_where_a_retry_makes_sense() -> None:
    after = "Retry-After: 7"
    async with (
        answering(head(after, "Content-Length: 0", status="503 x")) as busy,
        answering(head(after, "Content-Length: 0", status="404 x")) as missing,
        fetching() as fetcher,
    ):
        assert await fetcher.fetch(busy) == Failed("http_503", 503, retry=True, retry_after=7.0)
        assert await fetcher.fetch(missing) == Failed("http_404", 404)


def test_retry_after_is_seconds_or_a_date_and_at_most_an_hour() -> None:
    now = datetime(2024, 5, 1, 12, tzinfo=UTC)

    assert retry_after("120", now) == 120
    assert retry_after(format_datetime(now + timedelta(seconds=90), usegmt=True), now) == 90
    assert retry_after(format_datetime(now - timedelta(days=1), usegmt=True), now) == 0
    assert retry_after("9" * 400, now) == retry_after("Fri, 01 May 2099 12:00:00 GMT", now) == 3600
    for value in ("", "soon", "-5", "1.5", "²", "Wed, 99 Foo 2024", "Fri, 31 Dec 9999 23:59:59 -2359"):
        assert retry_after(value, now) is None


@pytest.mark.parametrize("content_type", ["application/zip", "image/png", "text/css", "TEXT/JAVASCRIPT; x", "nonsense"])
async def test_other_types_are_skipped_without_reading_the_body(content_type: str) -> None:
    async with answering(head(f"Content-Type: {content_type}"), b"x", hang=True) as url, fetching() as fetcher:
        assert await fetcher.fetch(url) == Skipped("content_type", 200)


@pytest.mark.parametrize(
    "content_type", ["text/html", "Text/HTML ;charset=utf-8", "application/xhtml+xml", "text/plain"]
)
async def test_text_is_kept(content_type: str) -> None:
    async with answering(head(f"Content-Type: {content_type}"), PAGE) as url, fetching() as fetcher:
        assert await fetcher.fetch(url) == Fetched(200, content_type, PAGE)


async def test_body_of_no_declared_type_is_kept_if_it_is_text() -> None:
    async with answering(head(), PAGE) as text, answering(head(), b"\x7fELF\0" * 9) as binary, fetching() as fetcher:
        assert await fetcher.fetch(text) == Fetched(200, "", PAGE)
        assert await fetcher.fetch(binary) == Skipped("content_type", 200)


@pytest.mark.parametrize(
    ("content_type", "body", "is_kept"),
    [
        ("text/plain", b"\x7fELF\0", False),
        ("text/plain; charset=ISO-8859-1", b"\x7fELF\0", False),
        ("text/plain; charset=utf-16le", b"a\0b\0", True),
        ("text/plain", b"\xff\xfea\0b\0", True),
        ("text/plain", b"%PDF-1.7\0", True),
        ("text/plain", b"a" * 1024 + b"\0", True),
        ("text/html", b"a\0", True),
    ],
)
async def test_binary_file_that_a_server_calls_text_is_no_document(
    content_type: str, body: bytes, is_kept: bool
) -> None:
    async with answering(head(f"Content-Type: {content_type}"), body) as url, fetching() as fetcher:
        assert isinstance(await fetcher.fetch(url), Fetched) is is_kept


async def test_first_bytes_take_any_type_and_cut_the_body() -> None:
    async with (
        answering(head("Content-Type: image/png", "Content-Length: 4000"), b"x" * 4000) as url,
        fetching() as fetcher,
    ):
        assert await fetcher.fetch(url, first_bytes=1000) == Fetched(200, "image/png", b"x" * 1000)


async def test_dripping_body_ends_at_the_timeout() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        while request.transport and not request.transport.is_closing():
            await response.write(b"x")
            await asyncio.sleep(0.02)
        return response

    async with serving(handler) as url, fetching(timeout=0.3) as fetcher:
        started = time.monotonic()
        result = await fetcher.fetch(url)

    assert result == Failed("timeout", retry=True)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("piece", [b"", b"HTTP/1.1 200 OK\r\nContent-Ty"])
async def test_silent_server_ends_at_the_timeout(piece: bytes) -> None:
    async with answering(piece, hang=True) as url, fetching(timeout=0.2) as fetcher:
        assert await fetcher.fetch(url) == Failed("timeout", retry=True)


async def test_announced_size_is_refused_before_the_body() -> None:
    async with answering(head(HTML, f"Content-Length: {MAX_BODY + 1}"), hang=True) as url, fetching() as fetcher:
        assert await fetcher.fetch(url) == Failed("too_large", 200)


async def test_size_is_counted_while_reading() -> None:
    async with (
        answering(head(HTML), b"x" * MAX_BODY) as largest,
        answering(head(HTML), b"x" * MAX_BODY, b"x", hang=True) as larger,
        fetching() as fetcher,
    ):
        fits = await fetcher.fetch(largest)

        assert isinstance(fits, Fetched)
        assert len(fits.body) == MAX_BODY
        assert await fetcher.fetch(larger) == Failed("too_large", 200)


async def test_size_counts_after_decompression() -> None:
    bomb = gzip.compress(b"\0" * (MAX_BODY + 1))
    empty = gzip.compress(b"") * (MAX_BODY // 20 + 1)
    encoded = head(HTML, "Content-Encoding: gzip")
    async with answering(encoded, bomb) as large, answering(encoded, empty, hang=True) as long, fetching() as fetcher:
        assert len(bomb) < 1000
        assert await fetcher.fetch(large) == Failed("too_large", 200)
        assert await fetcher.fetch(long) == Failed("too_large", 200)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
async def test_compressed_body_is_decoded(encoding: str) -> None:
    async with (
        answering(head(HTML, f"Content-Encoding: {encoding}"), gzip.compress(PAGE)) as url,
        fetching() as fetcher,
    ):
        assert await fetcher.fetch(url) == Fetched(200, "text/html", PAGE)


@pytest.mark.parametrize("encoding", ["gzip, deflate", "br", "zstd", "deflate"])
async def test_undecodable_body_fails(encoding: str) -> None:
    async with (
        answering(head(HTML, f"Content-Encoding: {encoding}"), gzip.compress(PAGE)) as url,
        fetching() as fetcher,
    ):
        assert await fetcher.fetch(url) == Failed("encoding")


async def test_body_that_ends_early_is_truncated() -> None:
    cut = gzip.compress(PAGE)[:-9]
    answers = [
        (head(HTML, "Content-Encoding: gzip", f"Content-Length: {len(cut)}"), cut),
        (head(HTML, "Content-Length: 9999"), PAGE),
        (head(HTML, "Transfer-Encoding: chunked"), b"8\r\n12345678\r\n"),
    ]
    for answer in answers:
        async with answering(*answer) as url, fetching() as fetcher:
            result = await fetcher.fetch(url)

            assert isinstance(result, Failed)
            assert (result.reason, result.retry) == ("truncated", True)


@pytest.mark.parametrize(
    "answer",
    [
        head(HTML, "X-Long: " + "x" * 100_000),
        head(HTML, *(f"X-{number}: x" for number in range(10_000))),
        head(HTML, *(f"X-{number}: {'x' * 8000}" for number in range(1300))),
        head(HTML, status="200 " + "x" * 100_000),
    ],
    ids=["long", "many", "many and long: 10 MB", "status"],
)
async def test_oversized_headers_fail(answer: bytes) -> None:
    async with answering(answer, PAGE) as url, fetching() as fetcher:
        assert await fetcher.fetch(url) == Failed("headers_too_large")


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", head("X: a\0b")])
async def test_answer_that_is_not_http_fails(answer: bytes) -> None:
    async with answering(answer) as url, fetching() as fetcher:
        assert await fetcher.fetch(url) == Failed("bad_response")


async def test_lost_connection_is_tried_again() -> None:
    async with answering() as url, fetching() as fetcher:
        hung_up = await fetcher.fetch(url)
    async with fetching() as fetcher:
        refused = await fetcher.fetch(url)

    assert hung_up == refused == Failed("connection", retry=True)


async def test_tls_failure_is_final() -> None:
    async def speak_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"this is not TLS\r\n" * 9)
        writer.close()

    server = await asyncio.start_server(speak_plainly, "127.0.0.1", 0)
    async with server, fetching() as fetcher:
        assert await fetcher.fetch(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/") == Failed("tls")


async def test_invalid_certificate_is_accepted_only_if_the_operator_says_so(certificate: ssl.SSLContext) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head(HTML, f"Content-Length: {len(PAGE)}") + PAGE)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificate)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, fetching() as strict, fetching(allow_invalid_tls=True) as lenient:
        results = [await strict.fetch(url), await lenient.fetch(url)]

    assert results == [Failed("tls"), Fetched(200, "text/html", PAGE)]


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    """A certificate that nobody vouches for."""
    key, own = tmp_path / "key.pem", tmp_path / "own.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=nobody"]
    subprocess.run([*command, "-keyout", key, "-out", own], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    return context


@pytest.mark.parametrize("host", ["a..example", "a" * 64 + ".example"])
async def test_name_that_dns_can_not_express_is_final(host: str) -> None:
    async with fetching() as fetcher:
        assert await fetcher.fetch(f"http://{host}/") == Failed("dns")


@pytest.mark.parametrize(("code", "retry"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
def test_only_a_name_that_is_unknown_for_now_is_tried_again(code: int, retry: bool) -> None:
    error = ClientConnectorDNSError(ConnectionKey("x", 80, False, True, None, None, None), socket.gaierror(code, "x"))

    assert failure(error) == Failed("dns", retry=retry)


async def test_name_that_does_not_resolve_fails() -> None:
    async with fetching() as fetcher:
        result = await fetcher.fetch("http://does-not-exist.invalid/")

    assert isinstance(result, Failed)
    assert result.reason == "dns"


async def test_no_more_connections_than_allowed() -> None:
    open_now, most = 0, 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.02)
        open_now -= 1
        return web.Response(body=PAGE, content_type="text/html")

    async with serving(handler) as url, fetching(concurrency=3) as fetcher:
        results = await asyncio.gather(*(fetcher.fetch(f"{url}{n}") for n in range(12)))

    assert all(isinstance(result, Fetched) for result in results)
    assert most == 3


async def test_proxy_of_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with answering(head(HTML), PAGE) as url, fetching() as fetcher:
        assert await fetcher.fetch(url) == Fetched(200, "text/html", PAGE)
