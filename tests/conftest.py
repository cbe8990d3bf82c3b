"""The real parts that tests run on: a broker and a PostgreSQL a session, a fresh database and empty queues a test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import aio_pika
import asyncpg
import pytest
from tallyho_backing_services import BackingServices, open_backing_services
from tallyho_messaging.connection import Amqp, open_amqp
from tallyho_messaging.topology import DEAD_LETTERS, WORK_QUEUES, declare
from tallyho_postgres.migrations import migrate
from tallyho_postgres.pool import Pool, open_pool


@pytest.fixture(scope="session")
def backing() -> Iterator[BackingServices]:
    with open_backing_services(report=print) as services:
        asyncio.run(declare(services.amqp_url))
        yield services


@pytest.fixture(scope="session")
def template(backing: BackingServices) -> str:
    """The name of a database with the schemas of both services, to copy for each test."""
    name = f"template_{uuid4().hex}"
    asyncio.run(_create_template(backing.database_url, name))
    return name


async def _create_template(url: str, name: str) -> None:
    await _execute(url, f'CREATE DATABASE "{name}"')
    for schema in ("crawler", "job_tracker"):
        await migrate(_with_database(url, name), package=schema, schema=schema)


@pytest.fixture
async def database_url(backing: BackingServices, template: str) -> AsyncIterator[str]:
    """The address of a fresh, migrated database."""
    name = f"test_{uuid4().hex}"
    await _execute(backing.database_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield _with_database(backing.database_url, name)
    await _execute(backing.database_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def tracker_pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, schema="job_tracker") as pool:
        yield pool


@pytest.fixture
async def crawler_pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_pool(database_url, schema="crawler") as pool:
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
