"""A made-up site with what makes counting hard: cycles, redirects, broken links, pages that fail at first."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DOCUMENT = """<!doctype html><title>Page {number}</title><main><h1>Page {number}</h1>
<p>{links}</p></main>"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Site"

    def do_GET(self) -> None:
        time.sleep(self.server.latency)  # a server that takes its time is what is served
        number = "0" if self.path == "/" else self.path.removeprefix("/").removesuffix(".html")
        if self.path.startswith("/old/"):
            self._answer(301, location="/" + self.path.removeprefix("/old/"))
        elif not number.isdecimal() or int(number) >= self.server.pages:
            self._answer(404)
        elif int(number) % 17 == 3 and number not in self.server.failed_once:
            self.server.failed_once.add(number)
            self._answer(503)
        else:
            if self.server.may_end and int(number) == self.server.pages - 1:
                self.server.may_end.wait()
            self._answer(200, DOCUMENT.format(number=number, links=_links(int(number), self.server.pages)))

    def _answer(self, status: int, text: str = "", location: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the standard library
        """Say nothing."""


def _links(number: int, pages: int) -> str:
    """Two children, a redirect to one of them, the start, a page further up, and every tenth time a broken link."""
    children = [child for child in (2 * number + 1, 2 * number + 2) if child < pages]
    targets = [f"/{child}.html" for child in children] + [f"/old/{child}.html" for child in children[:1]]
    back = number // 3
    targets += ["/", f"/{back}.html#part" if back else "/#part", "mailto:nobody@example.com"]
    if number % 10 == 0:
        targets.append(f"/missing-{number}.html")
    return " ".join(f'<a href="{target}">{target}</a>' for target in targets)


class _Site(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pages: int, latency: float, may_end: threading.Event | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = pages
        self.latency = latency
        self.may_end = may_end
        self.failed_once: set[str] = set()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that are gone; any other fault of the site shows as a wrong count."""


@contextmanager
def made_up_site(pages: int, *, latency: float = 0.0, may_end: threading.Event | None = None) -> Iterator[str]:
    """Serve a site of `pages` documents, each after `latency` seconds; yields its address, which ends in a slash.

    Page 0 is reachable as `/` only, so there are exactly `pages` documents. The last one is held back until `may_end`.
    """
    with _Site(pages, latency, may_end) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def endless_site(pages: int, *, latency: float = 0.0) -> Iterator[str]:
    """The same, whose last page is held back as long as the block runs: a crawl of all of it does not end by itself."""
    may_end = threading.Event()
    with made_up_site(pages, latency=latency, may_end=may_end) as url:
        try:
            yield url
        finally:
            may_end.set()
