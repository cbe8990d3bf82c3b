"""The real parts that tests run on: a broker and a PostgreSQL a session, a fresh database and empty queues a test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
from tallyho.system import ROLES, accounts
from tallyho_backing_services import BackingServices, open_backing_services
from tallyho_messaging.connection import Amqp, open_amqp
from tallyho_messaging.topology import DEAD_LETTERS, WORK_QUEUES, declare
from tallyho_postgres.migrations import migrate
from tallyho_postgres.pool import Pool, open_pool
from tallyho_postgres.roles import role_of


@pytest.fixture(scope="session")
def backing() -> Iterator[BackingServices]:
    with open_backing_services(print, accounts()) as services:
        asyncio.run(declare(services.amqp_url_of("deploy")))
        yield services


@pytest.fixture(scope="session")
def template(backing: BackingServices) -> str:
    """The name of a database with the schemas of both services, to copy for each test."""
    name = f"template_{uuid4().hex}"
    asyncio.run(_create_template(backing, name))
    return name


async def _create_template(backing: BackingServices, name: str) -> None:
    await _execute(backing.database_url, f'CREATE DATABASE "{name}"')
    url = _with_database(backing.database_url, name)
    for service, role in ROLES.items():
        schema = service.replace("-", "_")
        own = backing.database_url_of(role)
        is_own = own != backing.database_url
        await migrate(url, package=schema, schema=schema, role=role_of(own) if is_own else None)


def as_role(backing: BackingServices, database_url: str, service: str) -> str:
    """The address of a test's database for a service."""
    return _with_database(backing.database_url_of(ROLES[service]), database_url.rpartition("/")[2])


@pytest.fixture
async def database_url(backing: BackingServices, template: str) -> AsyncIterator[str]:
    """The address of a fresh, migrated database."""
    name = f"test_{uuid4().hex}"
    await _execute(backing.database_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield _with_database(backing.database_url, name)
    await _execute(backing.database_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def tracker_database_url(backing: BackingServices, database_url: str) -> str:
    """The address of that database for the tracker."""
    return as_role(backing, database_url, "job-tracker")


@pytest.fixture
def crawler_database_url(backing: BackingServices, database_url: str) -> str:
    """The address of that database for the crawler."""
    return as_role(backing, database_url, "crawler")


@pytest.fixture
async def tracker_pool(tracker_database_url: str) -> AsyncIterator[Pool]:
    """Of the tracker's own role."""
    async with open_pool(tracker_database_url, schema="job_tracker") as pool:
        yield pool


@pytest.fixture
async def crawler_pool(crawler_database_url: str) -> AsyncIterator[Pool]:
    """Of the crawler's own role."""
    async with open_pool(crawler_database_url, schema="crawler") as pool:
        yield pool


@pytest.fixture
async def amqp_url(backing: BackingServices) -> str:
    """The address of a broker whose queues are declared and empty."""
    async with await aio_pika.connect(backing.amqp_url) as connection:
        channel = await connection.channel()
        for name in (DEAD_LETTERS, *(queue.name for queue in WORK_QUEUES)):
            await (await channel.declare_queue(name, passive=True)).purge()
    return backing.amqp_url


@pytest.fixture
async def tracker_owner(database_url: str) -> AsyncIterator[Pool]:
    """Of whoever owns the tracker's tables: to change what the tracker itself may not."""
    async with open_pool(database_url, schema="job_tracker") as pool:
        yield pool


@pytest.fixture
async def crawler_owner(database_url: str) -> AsyncIterator[Pool]:
    """Of whoever owns the crawler's tables."""
    async with open_pool(database_url, schema="crawler") as pool:
        yield pool


@pytest.fixture
def tracker_amqp_url(backing: BackingServices, amqp_url: str) -> str:
    """The address of that broker for the tracker."""
    assert amqp_url  # declared and empty
    return backing.amqp_url_of("job-tracker")


@pytest.fixture
def crawler_amqp_url(backing: BackingServices, amqp_url: str) -> str:
    """The address of that broker for the crawler."""
    assert amqp_url
    return backing.amqp_url_of("crawler")


@pytest.fixture
def gateway_amqp_url(backing: BackingServices, amqp_url: str) -> str:
    """The address of that broker for a gateway."""
    assert amqp_url
    return backing.amqp_url_of("ws-gateway")


@pytest.fixture
async def amqp(amqp_url: str) -> AsyncIterator[Amqp]:
    async with open_amqp(amqp_url, name="tests") as amqp:
        yield amqp


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _with_database(url: str, name: str) -> str:
    return url.rpartition("/")[0] + "/" + name
