"""What the users of the services may not do, at a real broker and a real database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import asyncpg
import pytest
from aiormq.exceptions import ChannelAccessRefused
from tallyho_backing_services import BackingServices
from tallyho_contracts.registry import COMMANDS, EVENTS, REPLIES
from tallyho_messaging.accounts import ACCOUNTS
from tallyho_messaging.topology import DEAD_LETTERS, WORK_QUEUES


@pytest.fixture
def own_users(backing: BackingServices, amqp_url: str) -> BackingServices:
    if backing.amqp_url_of("crawler") == amqp_url:
        pytest.skip("the broker of AMQP_URL has one user only")
    return backing


@asynccontextmanager
async def channel_of(backing: BackingServices, user: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    async with await aio_pika.connect(backing.amqp_url_of(user)) as connection:
        yield await connection.channel(publisher_confirms=True)


async def may_publish(backing: BackingServices, user: str, exchange: str, key: str) -> bool:
    async with channel_of(backing, user) as channel:
        target = await channel.get_exchange(exchange, ensure=False)
        try:
            await target.publish(aio_pika.Message(b"{}"), key, mandatory=False)
        except ChannelAccessRefused:
            return False
    return True


@pytest.mark.parametrize(
    ("user", "exchange", "key", "allowed"),
    [
        ("crawler", EVENTS, "document.saved.v1", True),
        ("crawler", EVENTS, "job.log.v1.1", True),
        ("crawler", EVENTS, "job.progress.v1.1", False),
        ("crawler", COMMANDS, "job.cancel.v1", False),
        ("crawler", COMMANDS, "crawl.start.v1", False),
        ("crawler", REPLIES, "ws-gateway.replies.1", True),
        ("crawler", DEAD_LETTERS, "crawler.commands", True),
        ("crawler", DEAD_LETTERS, "job-tracker.events", False),
        ("job-tracker", EVENTS, "job.progress.v1.1", True),
        ("job-tracker", EVENTS, "document.saved.v1", False),
        ("job-tracker", COMMANDS, "crawl.start.v1", True),
        ("job-tracker", COMMANDS, "job.create.v1", False),
        ("ws-gateway", COMMANDS, "job.create.v1", True),
        ("ws-gateway", COMMANDS, "crawl.start.v1", False),
        ("ws-gateway", EVENTS, "job.progress.v1.1", False),
        ("ws-gateway", DEAD_LETTERS, "x", False),
        ("deploy", EVENTS, "document.saved.v1", False),
    ],
)
async def test_service_publishes_its_own_messages_only(
    own_users: BackingServices, user: str, exchange: str, key: str, allowed: bool
) -> None:
    assert await may_publish(own_users, user, exchange, key) is allowed


@pytest.mark.parametrize("user", ACCOUNTS)
async def test_nobody_reaches_a_queue_past_the_exchanges(own_users: BackingServices, user: str) -> None:
    async with channel_of(own_users, user) as channel:
        with pytest.raises(ChannelAccessRefused):
            await channel.default_exchange.publish(aio_pika.Message(b"{}"), "job-tracker.commands")


async def test_service_reads_its_own_queues_only(own_users: BackingServices) -> None:
    allowed = set()
    for user in ACCOUNTS.keys() - {"deploy"}:  # which must be able to, to declare where dead letters go
        for name in (DEAD_LETTERS, *(queue.name for queue in WORK_QUEUES)):
            async with channel_of(own_users, user) as channel:
                queue = await channel.get_queue(name, ensure=False)
                try:
                    await queue.get(fail=False, no_ack=False)
                except ChannelAccessRefused:
                    continue
                allowed.add((user, name))

    assert allowed == {
        ("crawler", "crawler.commands"),
        ("crawler", "crawler.requests"),
        ("job-tracker", "job-tracker.commands"),
        ("job-tracker", "job-tracker.events"),
        ("job-tracker", "job-tracker.logs"),
    }


async def test_gateway_can_neither_delete_nor_rebind_what_is_shared(own_users: BackingServices) -> None:
    for step in ("queue_delete", "bind"):
        async with channel_of(own_users, "ws-gateway") as channel:
            queue = await channel.get_queue("job-tracker.events", ensure=False)
            with pytest.raises(ChannelAccessRefused):
                await (channel.queue_delete(queue.name) if step == "queue_delete" else queue.bind(EVENTS, "job.#"))


@pytest.mark.parametrize(
    ("service", "statement"),
    [
        ("job_tracker", "SELECT count(*) FROM crawler.documents"),
        ("job_tracker", "DELETE FROM crawler.outbox"),
        ("crawler", "SELECT count(*) FROM job_tracker.jobs"),
        ("job_tracker", "DROP TABLE job_tracker.jobs"),
        ("job_tracker", "TRUNCATE job_tracker.jobs"),
        ("job_tracker", "ALTER TABLE job_tracker.jobs ADD COLUMN x int"),
        ("job_tracker", "CREATE TABLE job_tracker.x ()"),
        ("job_tracker", "UPDATE job_tracker.migrations SET sha256 = ''"),
        ("crawler", "CREATE ROLE x"),
        ("crawler", "COPY crawler.outbox TO PROGRAM 'cat'"),
    ],
)
async def test_role_is_confined_to_the_rows_of_its_own_schema(
    tracker_database_url: str, crawler_database_url: str, database_url: str, service: str, statement: str
) -> None:
    url = tracker_database_url if service == "job_tracker" else crawler_database_url
    if url == database_url:
        pytest.skip("the database of DATABASE_URL has one role only")
    connection = await asyncpg.connect(url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
        assert await connection.fetchval(f"SELECT count(*) FROM {service}.outbox") == 0
    finally:
        await connection.close()
