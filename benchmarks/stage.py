"""Where the measurements take place: one broker and one database for all, emptied between them."""

import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import aio_pika
import asyncpg
from job_tracker import store
from tallyho.services import Service, ServiceSpec
from tallyho_backing_services import BackingServices
from tallyho_backing_services.servers import PrivateServer
from tallyho_contracts.jobs import JobCreate
from tallyho_messaging.connection import open_amqp
from tallyho_messaging.publisher import Publisher
from tallyho_messaging.topology import DEAD_LETTERS, WORK_QUEUES, declare
from tallyho_postgres.migrations import migrate
from tallyho_postgres.pool import Pool, open_pool

from benchmarks.cpu import cpu_seconds

ROOT = Path(__file__).parent.parent
SCHEMA = "job_tracker"
OTHER_TABLES = """
CREATE SCHEMA old_way;
CREATE TABLE old_way.jobs (job_id uuid PRIMARY KEY, job json NOT NULL);
CREATE SCHEMA faststream_way;
CREATE TABLE faststream_way.jobs (job_id uuid PRIMARY KEY, document_count bigint NOT NULL DEFAULT 0);
CREATE TABLE faststream_way.documents (
    parent_job_id uuid, document_id uuid, source_url text, title text, content_hash text, saved_at timestamptz,
    PRIMARY KEY (parent_job_id, document_id)
);
"""
EMPTY = """
TRUNCATE old_way.jobs, faststream_way.jobs, faststream_way.documents, jobs, job_documents, pages, outbox
"""
ADD_OTHER_JOBS = """
WITH old AS (
    INSERT INTO old_way.jobs SELECT job_id, $2::json FROM unnest($1::uuid[]) AS job_id
)
INSERT INTO faststream_way.jobs SELECT job_id FROM unnest($1::uuid[]) AS job_id
"""
OLD_JOB = '{"name": "The guide", "status": "running", "seeds": ["https://docs.example.org/"], "document_count": 0}'


@dataclass(frozen=True)
class Stage:
    """What every measurement works with; `pool` sees the tracker's tables."""

    backing: BackingServices
    database_url: str
    pool: Pool
    publisher: Publisher
    _numbers: Iterator[int]

    @contextmanager
    def running(self, *argv: str, **settings: str) -> Iterator[Service]:
        """A process of Python that has said that it is ready, and ends with the block."""
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}
        env |= {"AMQP_URL": self.backing.amqp_url, "DATABASE_URL": self.database_url}
        spec = ServiceSpec(f"{argv[0]}-{next(self._numbers)}", [sys.executable, "-m", *argv], env)
        service = Service(spec, self.backing.run)
        service.start()
        try:
            service.await_ready()
            yield service
        finally:
            service.stop()

    @contextmanager
    def trackers(self, replicas: int) -> Iterator[list[Service]]:
        """So many replicas of the tracker, ready."""
        with ExitStack() as running:
            yield [running.enter_context(self.running("job_tracker")) for _ in range(replicas)]

    async def empty(self, jobs: Sequence[UUID]) -> None:
        """Forget everything that was measured; the jobs are there, in each contestant's tables, with no document."""
        async with await aio_pika.connect(self.backing.amqp_url) as link:
            channel = await link.channel()
            for name in (DEAD_LETTERS, *(queue.name for queue in WORK_QUEUES)):
                await (await channel.declare_queue(name, passive=True)).purge()
        now = datetime.now(UTC)
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(EMPTY)
            await connection.execute(ADD_OTHER_JOBS, jobs, OLD_JOB)
            for job_id in jobs:
                wanted = JobCreate(job_id=job_id, name="The guide", seeds=("https://docs.example.org/",))
                await store.create_job(connection, wanted, request_hash=b"", at=now)

    def backing_cpu_seconds(self) -> float:
        """CPU seconds of the broker and the database; 0 for those that were given by their address."""
        servers = (self.backing.broker, self.backing.database)
        return sum(cpu_seconds(server.pid) for server in servers if isinstance(server, PrivateServer) and server.pid)


@asynccontextmanager
async def open_stage(backing: BackingServices) -> AsyncIterator[Stage]:
    """Declare the topology, and make a database of our own, which ends with the block."""
    await declare(backing.amqp_url)
    name = f"benchmark_{uuid4().hex}"
    url = backing.database_url.rpartition("/")[0] + "/" + name
    await _execute(backing.database_url, f'CREATE DATABASE "{name}"')
    try:
        await migrate(url, package=SCHEMA, schema=SCHEMA)
        await _execute(url, OTHER_TABLES)
        async with open_pool(url, schema=SCHEMA) as pool, open_amqp(backing.amqp_url, name="benchmarks") as amqp:
            yield Stage(backing, url, pool, amqp.publisher, count(1))
    finally:
        await _execute(backing.database_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
