"""A real site to crawl, on any Debian or Ubuntu: the manuals of PostgreSQL and of Python, served by nginx.

The packages are downloaded once, into the user's cache, and unpacked there without being installed.
"""

import shutil
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from tallyho.documentation_site import reachable_pages
from tallyho_backing_services import free_port
from tallyho_backing_services.cache import cache_folder, locked
from tallyho_backing_services.downloads import debian_packages, unpack
from tallyho_backing_services.run_folder import RunFolder
from tallyho_backing_services.servers import PrivateServer, Program

PACKAGES = ("nginx", "^postgresql-doc-[0-9]+$", r"^python3\.[0-9]+-doc$")
MANUALS = {"postgresql": "usr/share/doc/postgresql-doc-*/html", "python": "usr/share/doc/python3.*/html"}
INDEX = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Manuals</title></head><body><ul>\n'
    '<li><a href="postgresql/index.html">PostgreSQL</a></li>\n<li><a href="python/index.html">Python</a></li>\n'
    "</ul></body></html>\n"
)
NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    types {{ text/html html; }}
    charset utf-8;
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    open_file_cache max=10000;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; index index.html; }}
}}
"""


@dataclass(frozen=True)
class Site:
    """A served site: where it starts, how many pages links lead to from there, of how many bytes on average; and who
    serves it."""

    url: str
    pages: int
    mean_bytes: float
    server: PrivateServer


@contextmanager
def open_site(run: RunFolder, *, only: str | None = None) -> Iterator[Site]:
    """Serve both manuals, or `only` one of them; the server ends with the block."""
    unpacked = _unpacked(run)
    root = run.path / "site"
    root.mkdir()
    (root / "index.html").write_text(INDEX)
    for name, pattern in MANUALS.items():
        if only in (None, name):
            [manual] = (folder for folder in unpacked.glob(pattern) if not folder.is_symlink())
            pages = shutil.ignore_patterns("*.txt", "*.py", "*.js", "*.png", "*.inv", "*.gz")
            shutil.copytree(manual, root / name, ignore=pages)
    found, _ = reachable_pages(root)
    sizes = [(root / (page or "index.html")).stat().st_size for page in found]
    port = free_port()
    configuration = run.path / "nginx.conf"
    configuration.write_text(NGINX.format(folder=run.path, root=root, port=port))
    url = f"http://127.0.0.1:{port}/"
    argv = [str(unpacked / "usr/sbin/nginx"), "-c", str(configuration), "-p", str(run.path), "-e", "stderr"]
    server = PrivateServer(Program("nginx", argv, {}, lambda: _answers(url), signal.SIGTERM), url, run)
    server.start()
    try:
        yield Site(url, len(found), sum(sizes) / len(sizes), server)
    finally:
        server.stop()


def _unpacked(run: RunFolder) -> Path:
    """The folder with the unpacked packages, downloaded if need be."""
    folder = cache_folder() / "benchmark-site"
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            partial = folder.with_name("partial-benchmark-site")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            with debian_packages(run, PACKAGES) as packages:
                unpack(run, packages, partial)
            partial.rename(folder)
    return folder


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except (URLError, OSError):
        return False
