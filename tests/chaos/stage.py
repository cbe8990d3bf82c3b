"""The system on stage: real services behind proxies, each ready to die on order, and started again when it did."""

import asyncio
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import asyncpg
from aio_pika.abc import AbstractChannel
from chaos.orders import OrderBook
from chaos.proxy import Proxy
from tallyho.services import Service, ServiceSpec
from tallyho.system import Addresses, Plan, System, SystemOptions, plan_system, running_system
from tallyho_backing_services import BackingServices, Server
from tallyho_backing_services.servers import PrivateServer

TESTS = Path(__file__).parents[1]
LEASE_SECONDS = 2.0
READY_SECONDS = 60.0
STOP_SECONDS = 28.0  # a process gives up draining after 25

DISK_FULL = 53100  # the key of an advisory lock: while it is held, the services' tables take no more rows
_ERROR = re.compile(r"\w(Error|Exception)\b")
TABLES = ("crawler.documents", "crawler.outbox", "job_tracker.job_documents", "job_tracker.pages")
DISK_FULL_TRIGGERS = f"""
CREATE FUNCTION public.disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = {DISK_FULL}) THEN
        RAISE 'could not extend file: No space left on device' USING ERRCODE = '{DISK_FULL}';
    END IF;
    RETURN NULL;
END $$;
""" + "".join(
    f"CREATE TRIGGER disk_full BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION public.disk_full();"
    for table in TABLES
)


class NotInjected(Exception):  # noqa: N818  # nobody's error: another fault takes its turn
    """The fault could not be made to happen here and now."""


@dataclass
class Stage:
    """A running system, and everything needed to hurt it."""

    system: System
    broker_link: Proxy
    database_link: Proxy
    orders: OrderBook
    database_url: str  # past the proxy, as superuser
    role: str  # of the services
    asked_to_end: set[int] = field(default_factory=set)
    exit_codes: dict[int, int | None] = field(default_factory=dict)
    exits: list[str] = field(default_factory=list)  # those that nobody asked for
    poison: set[bytes] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    @property
    def broker(self) -> Server:
        """The broker itself."""
        return self.system.backing.broker

    @property
    def database(self) -> Server:
        """The database server itself."""
        return self.system.backing.database

    def replicas(self, kind: str = "") -> list[str]:
        """The names of the services of that kind; of all without one."""
        return sorted(name for name in self.system.services if name.startswith(kind))

    def signal(self, service: str, number: signal.Signals) -> int:
        """Send a signal to a service that runs; returns its process id."""
        process = self.system.services[service]
        if not process.running:
            raise NotInjected(f"{service} is not running just now")
        if number is signal.SIGTERM:
            self.asked_to_end.add(process.pid)
        os.kill(process.pid, number)
        return process.pid

    @asynccontextmanager
    async def sql(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A superuser's connection to the services' database, past the proxy."""
        connection = await asyncpg.connect(self.database_url)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """A channel to the broker, past the proxy."""
        async with await aio_pika.connect(self.system.amqp_url) as connection:
            yield await connection.channel(publisher_confirms=True, on_return_raises=True)

    async def rabbitmqctl(self, *arguments: str) -> None:
        """Run the broker's own tool; raises NotInjected where it can't be reached."""
        if not isinstance(self.broker, PrivateServer):
            raise NotInjected("rabbitmqctl reaches a private broker only")
        program = self.broker.program
        tool = Path(program.argv[0]).with_name("rabbitmqctl")
        running = await asyncio.create_subprocess_exec(
            str(tool),
            *arguments,
            env=dict(program.env),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await running.communicate()
        if running.returncode != 0:
            raise NotInjected(f"rabbitmqctl {arguments[0]}: {said.decode(errors='replace').strip()[-200:]}")

    async def until_ready(self) -> None:
        """Wait until every service has said that it is ready."""
        for service in self.system.services.values():
            async with asyncio.timeout(READY_SECONDS):
                while not service.running:
                    await asyncio.sleep(0.05)  # until its keeper has started it
            await asyncio.to_thread(service.await_ready)


@asynccontextmanager
async def open_stage(
    backing: BackingServices, *, crawlers: int = 2, mutant: str = "", settings: Mapping[str, str] | None = None
) -> AsyncIterator[Stage]:
    """Run a system on `backing` in a database of its own; `mutant` names the build that the services are."""
    async with AsyncExitStack() as opened:
        broker_link = await opened.enter_async_context(Proxy(_port(backing.amqp_url)))
        database_link = await opened.enter_async_context(Proxy(_port(backing.database_url)))
        database_url, role, password = await opened.enter_async_context(_database(backing.database_url))
        orders = OrderBook(backing.run.path / f"orders-{role}")

        def plan(options: SystemOptions, ports: Sequence[int], given: Addresses) -> Plan:
            amqp_of = {user: _with(url, broker_link.port) for user, url in given.amqp_of.items()}
            owner = _with(database_url, database_link.port, f"{role}:{password}")
            addresses = Addresses(_with(given.amqp, broker_link.port), owner, amqp_of)
            usual = plan_system(options, ports, addresses)
            return replace(usual, services=[sabotaged(spec, orders, mutant) for spec in usual.services])

        options = SystemOptions(
            crawlers=crawlers,
            trackers=2,
            allow_private_addresses=True,
            settings={"CRAWLER_LEASE_SECONDS": str(LEASE_SECONDS), **(settings or {})},
        )
        running = running_system(options, backing=backing, plan=plan)
        threads = ExitStack()
        opened.push_async_callback(asyncio.to_thread, threads.close)
        system = await asyncio.to_thread(threads.enter_context, running)
        stage = Stage(system, broker_link, database_link, orders, database_url, role)
        async with stage.sql() as connection:
            await connection.execute(DISK_FULL_TRIGGERS)
        closing = threading.Event()
        opened.callback(closing.set)
        for service in system.services.values():
            threading.Thread(target=_keep, args=(stage, service, closing), daemon=True).start()
        yield stage


def sabotaged(spec: ServiceSpec, orders: OrderBook, mutant: str) -> ServiceSpec:
    """The same service, run by `chaos.sabotage`."""
    broken = ["--mutant", mutant] if mutant else []
    argv = [sys.executable, "-m", "chaos.sabotage", "--order", str(orders.file(spec.name)), *broken, spec.argv[-1]]
    path = os.pathsep.join(filter(None, [str(TESTS), spec.env.get("PYTHONPATH")]))
    return ServiceSpec(spec.name, argv, {**spec.env, "PYTHONPATH": path})


def _keep(stage: Stage, service: Service, closing: threading.Event) -> None:
    """Start a service again whenever it has ended, at once, and note an end that nobody ordered."""
    while True:
        code = service.wait()
        stage.exit_codes[service.pid] = code
        if closing.is_set():
            return
        if code != -signal.SIGKILL and service.pid not in stage.asked_to_end:
            stage.exits.append(f"{service.name} ended with exit code {code}: {_last_error(service.log)}")
        service.start()


def _last_error(log: Path) -> str:
    """The last line of a log that names an error; of a group of errors the last line of all is a frame."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line for line in reversed(lines) if _ERROR.search(line)), "")[:300]


@asynccontextmanager
async def _database(url: str) -> AsyncIterator[tuple[str, str, str]]:
    """A database of its own, and a role that owns it without being a superuser: the address, the role, its password."""
    role, password = f"chaos_{secrets.token_hex(4)}", secrets.token_hex(16)
    server = await asyncpg.connect(url)
    await server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    await server.execute(f"CREATE DATABASE {role} OWNER {role}")
    await server.close()
    try:
        yield url.rpartition("/")[0] + "/" + role, role, password
    finally:
        server = await asyncpg.connect(url)
        await server.execute(f"DROP DATABASE {role} WITH (FORCE)")
        await server.execute(f"DROP ROLE {role}")
        await server.close()


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _with(url: str, port: int, user: str = "") -> str:
    """`url` at another port of this machine, perhaps as another user."""
    parts = urlsplit(url)
    user = user or parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{port}"))
