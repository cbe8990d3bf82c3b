"""A real documentation site on any machine with Python: the standard library as `pydoc` writes it, and a server for it.

`write_documentation_site` works in processes of its own (this module run with arguments), because documenting a module
imports it, and some modules of the standard library print, warn or refuse.
"""

import importlib
import inspect
import os
import pkgutil
import pydoc
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from html import escape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urldefrag, urljoin

INDEX = "index.html"
WRITING_TIMEOUT = 120  # seconds

# Importing these opens a browser, prints or runs a program; test suites are no documentation; and Tk is not everywhere
# (where it is, its pages take as long to write as half of the others).
LEFT_OUT = frozenset(
    ("__main__", "__phello__", "antigravity", "idlelib", "test", "tests", "this", "tkinter", "turtle", "turtledemo")
)


def write_documentation_site(folder: Path) -> int:
    """Write a page for each module of the standard library and an index; the number of pages.

    The links are pydoc's own: those to modules that can't be imported here stay broken, as on any real site.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = os.cpu_count() or 1
    names = sorted(sys.stdlib_module_names - LEFT_OUT)
    with ExitStack() as stack:
        writers = [stack.enter_context(_writer(folder, names[shard::shards])) for shard in range(shards)]
        for writer in writers:
            with suppress(subprocess.TimeoutExpired):
                writer.wait(WRITING_TIMEOUT)
    written = sorted(path.stem for path in folder.glob("*.html") if path.name != INDEX)
    (folder / INDEX).write_text(_index(name for name in written if "." not in name), encoding="utf-8")
    return len(written) + 1


@contextmanager
def _writer(folder: Path, names: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    # Isolated (-I), so that no file of the current folder is taken for a module of the standard library.
    command = [sys.executable, "-I", "-W", "ignore", __file__, str(folder.resolve()), *names]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing) as process:
        try:
            yield process
        finally:
            process.kill()


def _index(names: Iterable[str]) -> str:
    links = "\n".join(f'<li><a href="{escape(name)}.html">{escape(name)}</a></li>' for name in names)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Python: index of modules</title></head>\n'
        f"<body><h1>Index of modules</h1>\n<ul>\n{links}\n</ul></body></html>\n"
    )


def write_pages(folder: Path, names: Iterable[str]) -> None:
    """Write a page for each of these modules and for the modules inside them; a module that fails is left out."""
    waiting = list(names)
    while waiting:
        # A foreign module may raise anything; SystemExit among it.
        with suppress(Exception, SystemExit):
            waiting.extend(_write_page(folder, waiting.pop()))


def _write_page(folder: Path, name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    page = pydoc.html.page(pydoc.describe(module), pydoc.html.document(module, name))
    (folder / f"{name}.html").write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    for inside in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if inside.name not in LEFT_OUT:
            yield f"{name}.{inside.name}"


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the inherited name
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False


@contextmanager
def serve_folder(folder: Path, *, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve the folder on a free port of this machine's address `host`; its address, which ends in a slash."""
    with _Server((host, 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, name="documentation site", daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs.update(value.strip() for name, value in attrs if tag == "a" and name == "href" and value)


def _links(page: str) -> set[str]:
    links = _Links()
    for tag in re.findall(r"<a\s[^>]*>", page):  # these tags only: html.parser is slow
        links.feed(tag)
    return links.hrefs


def reachable_pages(folder: Path) -> tuple[set[str], set[str]]:
    """The paths that links lead to from the index, read from the files: those that exist, and the broken ones."""
    site = "http://site.invalid/"
    found: set[str] = set()
    broken: set[str] = set()
    waiting = [site]
    while waiting:
        address = waiting.pop()
        path = address.removeprefix(site)
        file = folder / (path or INDEX)
        if path in found or path in broken:
            continue
        if not file.is_file():
            broken.add(path)
            continue
        found.add(path)
        targets = {urldefrag(urljoin(address, href)).url for href in _links(file.read_text(encoding="utf-8"))}
        waiting.extend(target for target in targets if target.startswith(site))
    return found, broken


if __name__ == "__main__":
    # Where there is no docstring pydoc looks for comments, which takes as long as all the rest.
    inspect.getcomments = lambda _: None  # type: ignore[assignment]  # its parameter's name shadows a builtin
    write_pages(Path(sys.argv[1]), sys.argv[2:])
