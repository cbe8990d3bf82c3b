"""The whole system on this machine: backing services and the three services, as child processes."""

import errno
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tallyho_backing_services import Accounts, BackingServices, BackingServicesError, open_backing_services
from tallyho_backing_services.accounts import ADMINISTRATOR
from tallyho_backing_services.servers import PrivateServer
from tallyho_messaging.accounts import ACCOUNTS, definitions

from tallyho.services import STOP_TIMEOUT, Service, ServiceSpec, supervise

Report = Callable[[str], None]


@dataclass(frozen=True)
class SystemOptions:
    """What to run: replicas of each service, the first gateway's port (0: any), and settings for all services."""

    port: int = 0
    crawlers: int = 1
    renderers: int = 0
    trackers: int = 1
    gateways: int = 1
    allow_private_addresses: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    verbose: bool = False


@dataclass(frozen=True)
class Plan:
    """The programs of a system: the steps that prepare it, and the services."""

    steps: Sequence[ServiceSpec]
    services: Sequence[ServiceSpec]


@dataclass(frozen=True)
class Addresses:
    """Where the broker and the database are, for whoever prepares them, and for each service as a user of its own.

    A service that is not named shares the first.
    """

    amqp: str
    database: str
    amqp_of: Mapping[str, str] = field(default_factory=dict)
    database_of: Mapping[str, str] = field(default_factory=dict)


# Given the options, the gateways' ports, and the addresses of the servers.
MakePlan = Callable[[SystemOptions, Sequence[int], Addresses], Plan]


class System:
    """A running system."""

    def __init__(self, backing: BackingServices, services: Sequence[Service]) -> None:
        """Hold what was started; `running_system` starts it."""
        self.backing = backing
        self.services = {service.name: service for service in services}
        self._closing = threading.Event()

    @property
    def amqp_url(self) -> str:
        """The broker's address."""
        return self.backing.amqp_url

    @property
    def database_url(self) -> str:
        """The database's address."""
        return self.backing.database_url

    @property
    def urls(self) -> list[str]:
        """Where the gateways listen, as they said themselves."""
        lines = [service.ready_line for service in self.services.values()]
        return [found[1] for line in lines if (found := re.search(r"\burl=(\S+)", line))]

    @property
    def url(self) -> str:
        """Where the first gateway listens."""
        return self.urls[0]

    def supervise(self, report: Report) -> None:
        """From now on, start again what dies, the private servers included."""
        servers = {"RabbitMQ": self.backing.broker, "PostgreSQL": self.backing.database}
        private = {name: server for name, server in servers.items() if isinstance(server, PrivateServer)}
        for name, process in {**private, **self.services}.items():
            arguments = (name, process, self._closing, report)
            threading.Thread(target=supervise, args=arguments, name=f"supervise {name}", daemon=True).start()

    def close(self) -> None:
        """Stop the services, all at the same time."""
        self._closing.set()
        for service in self.services.values():
            service.retire()
        deadline = time.monotonic() + STOP_TIMEOUT
        for service in self.services.values():
            service.stop(timeout=max(0.0, deadline - time.monotonic()))


def plan_system(options: SystemOptions, ports: Sequence[int], addresses: Addresses) -> Plan:
    """Return the programs of Tallyho; each is told only the addresses that it uses, as the user that it is."""
    common = {**os.environ, **options.settings, "PYTHONUNBUFFERED": "1"}
    # The last one, since the lines are read for who is ready.
    for variable in ("AMQP_URL", "DATABASE_URL", "MIGRATION_DATABASE_URL", "LOG_FORMAT"):
        common.pop(variable, None)
    if options.allow_private_addresses:
        common["CRAWLER_ALLOW_PRIVATE_ADDRESSES"] = "true"

    def spec(name: str, env: Mapping[str, str], *argv: str) -> ServiceSpec:
        return ServiceSpec(name, [sys.executable, "-m", *argv], {**common, **env})

    amqp = {service: {"AMQP_URL": addresses.amqp_of.get(service, addresses.amqp)} for service in ACCOUNTS}
    database = {service: {"DATABASE_URL": addresses.database_of.get(service, addresses.database)} for service in ROLES}
    preparing = {
        service: {**env, "MIGRATION_DATABASE_URL": addresses.database} if service in addresses.database_of else env
        for service, env in database.items()
    }
    crawler, tracker = ({**amqp[service], **database[service]} for service in ("crawler", "job-tracker"))
    steps = [
        spec("declare", amqp["deploy"], "tallyho_messaging", "declare"),
        spec("migrate-crawler", preparing["crawler"], "crawler", "migrate"),
        spec("migrate-job-tracker", preparing["job-tracker"], "job_tracker", "migrate"),
    ]
    services = [
        *(spec(f"job-tracker-{n}", tracker, "job_tracker") for n in range(1, options.trackers + 1)),
        *(spec(f"crawler-{n}", crawler, "crawler") for n in range(1, options.crawlers + 1)),
        *(spec(f"renderer-{n}", crawler, "crawler", "render") for n in range(1, options.renderers + 1)),
        *(
            spec(f"ws-gateway-{n}", {**amqp["ws-gateway"], "GATEWAY_PORT": str(port)}, "ws_gateway")
            for n, port in enumerate(ports, start=1)
        ),
    ]
    return Plan(steps, services)


# Each service's role in the database.
ROLES = {"crawler": "tallyho_crawler", "job-tracker": "tallyho_job_tracker"}


def accounts() -> Accounts:
    """The users and roles of the services, with passwords of their own."""
    return Accounts.of(
        tuple(ACCOUNTS), lambda passwords: definitions(passwords, administrators=[ADMINISTRATOR]), tuple(ROLES.values())
    )


def addresses_of(backing: BackingServices) -> Addresses:
    """Where the servers are; each service is a user of its own where the servers are ours."""
    own_roles = {service: backing.database_url_of(role) for service, role in ROLES.items()}
    return Addresses(
        backing.amqp_url,
        backing.database_url,
        {user: backing.amqp_url_of(user) for user in ACCOUNTS},
        {service: url for service, url in own_roles.items() if url != backing.database_url},
    )


@contextmanager
def running_system(
    options: SystemOptions,
    *,
    report: Report = lambda line: None,
    supervised: bool = False,
    backing: BackingServices | None = None,
    plan: MakePlan = plan_system,
) -> Iterator[System]:
    """Yield the system once every service is ready; all that was started ends with the block.

    Backing services that are given stay up. Unless supervised, what dies stays dead until it is started again.
    Raises BackingServicesError: a port that is taken, a server that can't be had, a service that does not start.
    """
    asked_for = ports_asked_for(options, os.environ.get("GATEWAY_HOST", "127.0.0.1"))
    with ExitStack() as stack:
        backing = backing or stack.enter_context(open_backing_services(report, accounts()))
        ports = asked_for or [backing.run.port() for _ in range(options.gateways)]
        programs = plan(options, ports, addresses_of(backing))
        prepare(backing, programs.steps)
        services = [Service(spec, backing.run, verbose=options.verbose) for spec in programs.services]
        system = System(backing, services)
        stack.callback(system.close)
        for service in services:
            service.start()
        for service in services:
            service.await_ready()
        if supervised:
            system.supervise(report)
        yield system


def prepare(backing: BackingServices, steps: Sequence[ServiceSpec]) -> None:
    """Run the steps that the services rely on, side by side: each has a part of its own to prepare."""
    running = [backing.run.spawn(step.name, step.argv, env=step.env) for step in steps]
    for process in running:
        if process.wait() != 0:
            raise backing.run.failure(f"{process.name} failed", process.name)


def ports_asked_for(options: SystemOptions, host: str) -> list[int]:
    """Return a port for each gateway, the one asked for and those after it; none if any will do."""
    if options.port == 0:
        return []
    ports = list(range(options.port, options.port + options.gateways))
    for port in ports:
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError as error:
            problem = "is taken" if error.errno == errno.EADDRINUSE else f"can't be had ({error.strerror})"
            raise BackingServicesError(f"port {port} {problem}: choose another with --port (0 is any)") from error
    return ports
