"""Where crawling is measured: one served site, one broker, one database server, and other people's crawlers in an
environment of their own."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
from tallyho.client import Tallyho
from tallyho.system import System, SystemOptions, running_system
from tallyho_backing_services import BackingServices
from tallyho_backing_services.cache import cache_folder, locked
from tallyho_backing_services.servers import GivenServer, PrivateServer, Server
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.jobs import JobStatus

from benchmarks.cpu import cpu_seconds, run_on, sampled_memory
from benchmarks.crawl_site import Site
from benchmarks.fanout_stage import Program

HERE = Path(__file__).parent
REQUIREMENTS = HERE.parent / "requirements" / "benchmark.txt"
POLL_SECONDS = 0.02
GIVE_UP_SECONDS = 300.0
# One host, at full speed, as all contestants have it.
FULL_SPEED = {"CRAWLER_CONCURRENCY": "32", "CRAWLER_HOST_CONCURRENCY": "32", "CRAWLER_HOST_DELAY": "0"}
STATE = "SELECT status, document_count FROM job_tracker.jobs WHERE job_id = $1"
SAVED = "SELECT count(*) FROM crawler.job_documents JOIN crawler.documents USING (document_id) WHERE job_id = $1"


@dataclass(frozen=True)
class Measured:
    """One crawl: pages a second; CPU seconds per 1,000 pages of each part; most memory of the crawler's processes
    and of those that they start.

    The parts are `crawler`, `services` (all our other processes), `database`, `broker` and `site` (its server).
    """

    rate: float
    cpu: Mapping[str, float]
    megabytes: float


@dataclass(frozen=True)
class Stage:
    """What every crawl works with. `apart`: the crawler has the last core to itself, everything else the others."""

    site: Site
    backing: BackingServices
    report: Callable[[str], None]
    apart: bool = False

    def foreign(self, *argv: str) -> Measured:
        """A crawl by a program that says "ready", crawls when it is given a line, and says how many pages it got."""
        python = other_python(self.report)
        with _running([str(python), str(HERE / argv[0]), *argv[1:], self.site.url]) as program:
            assert program.hear() == "ready"
            parts = {"crawler": [program.pid], "site": _pids(self.site.server)}
            self._place(parts)
            with sampled_memory([program.pid]) as megabytes:
                before, start = _cpu(parts), time.monotonic()
                program.say("go")
                got = json.loads(program.hear())
                seconds = time.monotonic() - start
                cpu = _cpu_since(before, parts, got["pages"])
        self._check(argv[0], got["pages"])
        return Measured(got["pages"] / seconds, cpu, max(megabytes))

    async def ours(self, *, crawlers: int, markdown: bool) -> Measured:
        """A crawl by the whole system on an empty database, from the request until the tracker says that it is done."""
        settings = SystemOptions(crawlers=crawlers, allow_private_addresses=True, settings=FULL_SPEED)
        async with self._empty_database() as backing:
            with running_system(settings, backing=backing) as system:
                return await self._crawl(system, CrawlOptions(markdown=markdown))

    async def _crawl(self, system: System, options: CrawlOptions) -> Measured:
        crawlers = [service.pid for name, service in system.services.items() if name.startswith("crawler")]
        parts = {
            "crawler": crawlers,
            "services": [service.pid for service in system.services.values() if service.pid not in crawlers],
            "database": _pids(self.backing.database),
            "broker": _pids(self.backing.broker),
            "site": _pids(self.site.server),
        }
        self._place(parts)
        connection = await asyncpg.connect(system.database_url)
        async with Tallyho(system.url) as client:
            with sampled_memory(crawlers) as megabytes:
                before, start = _cpu(parts), time.monotonic()
                job = await client.create_job([self.site.url], options=options)
                async with asyncio.timeout(GIVE_UP_SECONDS):
                    row = await _ended(connection, job.job_id)
                seconds = time.monotonic() - start
                cpu = _cpu_since(before, parts, row["document_count"])
        saved = await connection.fetchval(SAVED, job.job_id)
        await connection.close()
        self._check("ours", row["document_count"])
        self._check("ours, saved", saved)
        return Measured(saved / seconds, cpu, max(megabytes))

    def _check(self, who: str, pages: int) -> None:
        if pages != self.site.pages:
            raise RuntimeError(f"{who}: {pages} pages, but links lead to {self.site.pages}")

    def _place(self, parts: Mapping[str, Iterable[int]]) -> None:
        if not self.apart:
            return
        *others, last = sorted(os.sched_getaffinity(0))
        for part, pids in parts.items():
            for pid in pids:
                run_on(pid, {last} if part == "crawler" else set(others))

    @asynccontextmanager
    async def _empty_database(self) -> AsyncIterator[BackingServices]:
        name = f"benchmark_{uuid4().hex}"
        url = self.backing.database_url.rpartition("/")[0] + "/" + name
        await self._execute(f'CREATE DATABASE "{name}"')
        try:
            yield replace(self.backing, database=GivenServer(url))
        finally:
            await self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.backing.database_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def other_python(report: Callable[[str], None]) -> Path:
    """The Python of an environment with the other crawlers, made once in the user's cache."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"benchmark-python-{digest}"
    with locked(folder.with_suffix(".lock")):
        if not (folder / "installed").exists():
            report(f"installing {REQUIREMENTS.name} (once)")
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True, stdout=sys.stderr)
            (folder / "installed").touch()
    return folder / "bin" / "python"


@contextmanager
def _running(argv: Sequence[str]) -> Iterator[Program]:
    env: Mapping[str, str] = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with ExitStack() as stack:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
            cwd="/tmp",
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield Program(process)


async def _ended(connection: "asyncpg.Connection[asyncpg.Record]", job_id: UUID) -> asyncpg.Record:
    """The row of a job, once it has ended."""
    while True:
        row = await connection.fetchrow(STATE, job_id)
        if row and JobStatus(row["status"]).is_terminal:
            return row
        await asyncio.sleep(POLL_SECONDS)


def _pids(server: Server) -> list[int]:
    """The process of a server of our own; none of one that was given by its address."""
    return [server.pid] if isinstance(server, PrivateServer) and server.pid else []


def _cpu(parts: Mapping[str, Iterable[int]]) -> dict[str, float]:
    return {part: sum(map(cpu_seconds, pids)) for part, pids in parts.items()}


def _cpu_since(before: Mapping[str, float], parts: Mapping[str, Iterable[int]], pages: int) -> dict[str, float]:
    """CPU seconds per 1,000 pages of each part that was seen."""
    return {part: (cpu - before[part]) * 1_000 / pages for part, cpu in _cpu(parts).items() if parts[part]}
