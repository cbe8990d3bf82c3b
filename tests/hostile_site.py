"""A site made to harm whoever crawls it: pages without end, bombs, loops, lies, and ways to other hosts' secrets."""

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from aiohttp import web
from made_up_pdf import pdf

MB = 1024 * 1024
MAX_BODY_BYTES = 4 * MB  # what the crawler is told to take

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _page(*links: str, text: str = "text") -> str:
    anchors = " ".join(f'<a href="{link}">x</a>' for link in links)
    return f"<!doctype html><title>{text}</title><main><p>{text}</p>{anchors}</main>"


def _html(text: str, **headers: str) -> web.Response:
    return web.Response(text=text, content_type="text/html", headers=headers)


def _raw(body: bytes, content_type: str = "text/html", **headers: str) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": content_type} | headers)


def _bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join([*(packer.compress(b" " * MB) for _ in range(megabytes)), packer.flush()])


_BOMB = _bomb(200)
_PDF_BOMB = pdf(streams=[b"q " * 25_000_000])

# Pages that are always the same, with what becomes of each: the reason, or None for a document.
_NESTED = "<div>" * 19_000 + "deep"
_FORMATTED = "".join(f"<b class={number}><i>" for number in range(9_000)) + "<p>x" * 9_000
PAGES: dict[str, tuple[str | None, Callable[[], web.Response]]] = {
    "/bomb": ("too_large", lambda: _raw(_BOMB, **{"Content-Encoding": "gzip"})),
    "/bomb-in-bomb": ("encoding", lambda: _raw(gzip.compress(_BOMB), **{"Content-Encoding": "gzip, gzip"})),
    "/not-gzip": ("encoding", lambda: _raw(b"plain", **{"Content-Encoding": "gzip"})),
    "/large": ("too_large", lambda: _raw(b"<p>large " * (20 * MB // 9))),
    "/headers": ("headers_too_large", lambda: _html(_page(), **{"X-Large": "x" * 10 * MB})),
    "/loop": ("redirect_loop", lambda: web.Response(status=302, headers={"Location": "/loop"})),
    "/ping": ("redirect", lambda: web.Response(status=302, headers={"Location": "/pong"})),
    "/pong": ("redirect", lambda: web.Response(status=302, headers={"Location": "/ping"})),
    "/elsewhere": ("bad_redirect", lambda: web.Response(status=302, headers={"Location": "file:///etc/passwd"})),
    "/zip": ("content_type", lambda: _raw(b"PK", "application/zip")),
    "/pdf-bomb": ("parser_crash", lambda: _raw(_PDF_BOMB, "application/pdf")),
    "/pdf-junk": ("pdf_damaged", lambda: _raw(b"%PDF-1.7 junk", "application/pdf")),
    "/pdf": (None, lambda: _raw(pdf("A document"), "application/pdf")),
    "/nested": (None, lambda: _html(_NESTED)),
    "/formatted": (None, lambda: _html(_FORMATTED)),
    "/unclosed": (None, lambda: _html("<title>t</title><p>" + "<a b='" * 100_000)),
    "/attributes": (None, lambda: _html("<p " + " ".join(f"a{number}" for number in range(100_000)) + ">x")),
    "/table": (None, lambda: _html("<table>" + "<tr><td colspan=1000>x" * 20_000)),
    "/nul": (None, lambda: _html("<title>\0</title>\0&#0;&#xD800;<p>\0" * 1000)),
    "/utf-7": (None, lambda: _raw(b"+ADw-p+AD4-", "text/html; charset=utf-7")),
    "/utf-16": (None, lambda: _raw(b"\xff\xfe\x00\xd8" * 1000, "text/html; charset=utf-8")),
    "/wrong-charset": (None, lambda: _raw("é".encode(), "text/html; charset=utf-16")),
    "/binary": (None, lambda: _raw(bytes(range(256)) * 100, "text/plain; charset=shift_jis")),
    "/empty": (None, lambda: _raw(b"")),
    "/error": ("http_500", lambda: web.Response(status=500)),
    "/wait": ("http_429", lambda: web.Response(status=429, headers={"Retry-After": "0"})),
    "/many-links": (None, lambda: _html(_page(*(f"/many/{number}" for number in range(50_000))))),
}  # fmt: skip
PRIVATE = (
    "http://[::1]:{port}/secret", "http://127.0.0.2:{port}/secret", "http://0x7f000003:{port}/secret",
    "http://[::ffff:127.0.0.1]:{port}/secret", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/",
)  # fmt: skip


class HostileSite:
    """Notes what was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.secrets_given_away = 0
        self._never = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer whatever is asked for."""
        path = request.path
        if path in PAGES:
            return PAGES[path][1]()
        match path.split("/")[1]:
            case "":
                return _html(_page(*PAGES, *self._endless, *(f"/private/{number}" for number in range(len(PRIVATE)))))
            case "calendar":
                return _html(_page(f"/calendar?month={int(request.query['month']) + 1}", text=request.path_qs))
            case "circles":
                return _html(_page("circles/", "../circles/circles/"))
            case "deeper":
                return _html(_page(f"{path}/{path.count('/')}"))
            case "maze":
                return _html(_page(*(f"/maze/{hash((path, number)):x}" for number in range(30))))
            case "session":
                return _html(_page(*(f"/session?sid={hash((request.path_qs, number)):x}" for number in range(3))))
            case "forever":
                return web.Response(status=302, headers={"Location": f"/forever/{int(path.split('/')[2]) + 1}"})
            case "private":
                location = PRIVATE[int(path.split("/")[2])].format(port=request.url.port)
                return web.Response(status=302, headers={"Location": location})
            case "secret":
                self.secrets_given_away += 1
                return _html(_page(text="secret"))
            case "hang-up":
                assert request.transport
                request.transport.abort()
                return web.Response()
            case "announcements":
                assert request.transport
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 500_000)
                return _html(_page())
            case "silence":
                await self._never.wait()
                return web.Response()
            case "drip":
                return await self._drip(request)
            case "many":
                return _html(_page())
            case _:
                return web.Response(status=404)

    _endless = (
        "/calendar?month=0", "/circles/", "/deeper", "/maze/0", "/session?sid=0", "/forever/0", "/hang-up", "/silence",
        "/drip", "/announcements",
    )  # fmt: skip

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        with suppress(ConnectionError):
            while not self._never.is_set():
                await response.write(b"x")
                await asyncio.sleep(0.05)  # a server that takes its time is what is served
        return response

    def stop(self) -> None:
        """End the answers that have no end."""
        self._never.set()


@asynccontextmanager
async def hostile_site() -> AsyncIterator[HostileSite]:
    """Serve the site on every address of this machine; its `url` is that of one."""
    site = HostileSite()
    application = web.Application()
    application.router.add_route("GET", "/{path:.*}", site.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    everywhere = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    await web.SockSite(runner, everywhere).start()
    site.url = f"http://127.0.0.1:{everywhere.getsockname()[1]}"
    try:
        yield site
    finally:
        site.stop()
        await runner.cleanup()
