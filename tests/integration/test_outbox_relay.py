"""The outbox on a real database and a real broker: what was committed is published, what was not is not."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from links import open_link
from mailboxes import Mailbox, encoded, open_mailbox, page_started
from tallyho_messaging.connection import Amqp, open_amqp
from tallyho_postgres import outbox
from tallyho_postgres.outbox import OutboxEvent, Relay
from tallyho_postgres.pool import Pool, open_pool

# So many rounds, one after the other, would take longer than any time limit of a sweep.
ENOUGH = 100_000
EXPIRE = "UPDATE outbox SET leased_until = now() - interval '1 second'"


@pytest.fixture
async def mailbox(amqp_url: str) -> AsyncIterator[Mailbox]:
    async with open_mailbox(amqp_url) as mailbox:
        yield mailbox


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    yield
    stop.set()
    await task


def outbox_events(number: int, exchange: str) -> list[OutboxEvent]:
    events = [page_started() for _ in range(number)]
    return [OutboxEvent(event.id, exchange, event.type, event.type, encoded(event)) for event in events]


async def commit(pool: Pool, events: Sequence[OutboxEvent]) -> list[UUID]:
    async with pool.acquire() as connection, connection.transaction():
        await outbox.add(connection, events)
    return [event.event_id for event in events]


async def leave_behind(pool: Pool, number: int, exchange: str) -> list[UUID]:
    """What a process that died after its commit leaves."""
    ids = await commit(pool, outbox_events(number, exchange))
    await pool.execute(EXPIRE)
    return ids


async def emptied(pool: Pool) -> None:
    async with asyncio.timeout(15):
        while await pool.fetchval("SELECT count(*) FROM outbox"):
            await asyncio.sleep(0.02)  # a table can't be awaited


async def failed(pool: Pool) -> asyncpg.Record:
    """The row of an event that could not be published."""
    async with asyncio.timeout(15):
        while not (row := await pool.fetchrow("SELECT * FROM outbox WHERE last_error IS NOT NULL")):
            await asyncio.sleep(0.02)  # a table can't be awaited
    return row


async def test_committed_events_are_published_in_batches_and_forgotten(
    tracker_pool: Pool, amqp: Amqp, mailbox: Mailbox
) -> None:
    events = outbox_events(250, mailbox.exchange)
    relay = Relay(tracker_pool, amqp.publisher.publish_events)
    async with running(relay):
        ids = await commit(tracker_pool, events)
        relay.offer(events)

        received = await mailbox.receive_events(250)
        await emptied(tracker_pool)

    assert Counter(received) == Counter(ids)


async def test_event_of_a_transaction_that_was_rolled_back_is_never_published(
    tracker_pool: Pool, amqp: Amqp, mailbox: Mailbox
) -> None:
    connection = await tracker_pool.acquire()
    transaction = connection.transaction()
    await transaction.start()
    await outbox.add(connection, outbox_events(1, mailbox.exchange))
    await transaction.rollback()
    await tracker_pool.release(connection)
    kept = await leave_behind(tracker_pool, 1, mailbox.exchange)

    async with running(Relay(tracker_pool, amqp.publisher.publish_events)):
        await emptied(tracker_pool)

    assert await mailbox.receive_events(1) == kept
    assert mailbox.is_empty


async def test_event_whose_process_died_after_the_commit_is_published_by_another(
    tracker_pool: Pool, amqp: Amqp, mailbox: Mailbox
) -> None:
    left = await leave_behind(tracker_pool, 1, mailbox.exchange)

    async with running(Relay(tracker_pool, amqp.publisher.publish_events)):
        received = await mailbox.receive_events(1)
        await emptied(tracker_pool)

    assert received == left


async def test_event_that_its_own_process_may_still_publish_is_left_to_it(
    tracker_pool: Pool, amqp: Amqp, mailbox: Mailbox
) -> None:
    left = await leave_behind(tracker_pool, 1, mailbox.exchange)
    leased = await commit(tracker_pool, outbox_events(1, mailbox.exchange))

    async with running(Relay(tracker_pool, amqp.publisher.publish_events)):
        received = await mailbox.receive_events(1)

    rows = await tracker_pool.fetch("SELECT event_id FROM outbox")
    assert received == left
    assert [row["event_id"] for row in rows] == leased
    assert mailbox.is_empty


async def test_event_whose_process_died_before_it_was_forgotten_comes_twice_but_is_not_lost(
    tracker_pool: Pool, amqp: Amqp, mailbox: Mailbox
) -> None:
    events = outbox_events(1, mailbox.exchange)
    [event_id] = await commit(tracker_pool, events)

    async def publish_and_die(*message: object) -> None:
        await amqp.publisher.publish_events(*message)  # type: ignore[arg-type]  # passed on as it came
        dying.cancel()

    relay = Relay(tracker_pool, publish_and_die)
    relay.offer(events)
    dying = asyncio.create_task(relay.run(asyncio.Event()))
    await asyncio.gather(dying, return_exceptions=True)
    rows = await tracker_pool.fetchval("SELECT count(*) FROM outbox")
    await tracker_pool.execute(EXPIRE)
    async with running(Relay(tracker_pool, amqp.publisher.publish_events)):
        await emptied(tracker_pool)

    assert rows == 1
    assert await mailbox.receive_events(2) == [event_id, event_id]


async def test_what_others_left_behind_has_its_turn_while_more_comes_all_the_time(
    tracker_pool: Pool, amqp: Amqp, mailbox: Mailbox
) -> None:
    left = set(await leave_behind(tracker_pool, 1, mailbox.exchange))
    published: set[UUID] = set()
    found = asyncio.Event()

    async def publish(_: str, __: str, ___: str, ids: Sequence[UUID], ____: Sequence[bytes]) -> None:
        published.update(ids)
        if left <= published:
            found.set()
        elif len(published) < ENOUGH:
            relay.offer(outbox_events(1, mailbox.exchange))

    relay = Relay(tracker_pool, publish)
    relay.offer(outbox_events(1, mailbox.exchange))
    async with running(relay):
        await asyncio.wait_for(found.wait(), 60)

    assert len(published) < ENOUGH


async def test_two_relays_never_publish_one_event_at_the_same_time(
    tracker_database_url: str, amqp: Amqp, mailbox: Mailbox
) -> None:
    in_flight: set[UUID] = set()
    twice: set[UUID] = set()

    async def publish(exchange: str, key: str, type_: str, ids: Sequence[UUID], bodies: Sequence[bytes]) -> None:
        twice.update(in_flight.intersection(ids))
        in_flight.update(ids)
        await amqp.publisher.publish_events(exchange, key, type_, ids, bodies)
        in_flight.difference_update(ids)

    async with (
        open_pool(tracker_database_url, schema="job_tracker") as one,
        open_pool(tracker_database_url, schema="job_tracker") as two,
    ):
        left = await leave_behind(one, 5_000, mailbox.exchange)
        async with running(Relay(one, publish)), running(Relay(two, publish)):
            received = await mailbox.receive_events(5_000)
            await emptied(one)

    assert not twice
    assert Counter(received) == Counter(left)
    assert mailbox.is_empty


async def test_unroutable_event_waits_with_its_reason_and_is_published_once_its_binding_exists(
    tracker_pool: Pool, amqp: Amqp, amqp_url: str
) -> None:
    async with open_mailbox(amqp_url, bound=False) as mailbox:
        relay = Relay(tracker_pool, amqp.publisher.publish_events)
        events = outbox_events(1, mailbox.exchange)
        async with running(relay):
            await commit(tracker_pool, events)
            relay.offer(events)
            row = await failed(tracker_pool)
            await mailbox.bind()
            await tracker_pool.execute(EXPIRE)
            received = await mailbox.receive_events(1)
            await emptied(tracker_pool)

    assert "NO_ROUTE" in row["last_error"]
    assert row["attempts"] >= 1
    assert received == [events[0].event_id]


async def test_unroutable_event_does_not_hold_up_its_neighbours(
    tracker_pool: Pool, amqp: Amqp, mailbox: Mailbox, amqp_url: str
) -> None:
    async with open_mailbox(amqp_url, bound=False) as nowhere:
        [lost] = await leave_behind(tracker_pool, 1, nowhere.exchange)
        good = await leave_behind(tracker_pool, 3, mailbox.exchange)

        async with running(Relay(tracker_pool, amqp.publisher.publish_events)):
            received = await mailbox.receive_events(3)
            row = await failed(tracker_pool)

    assert Counter(received) == Counter(good)
    assert row["event_id"] == lost


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 1), (1, 2), (2, 4), (3, 5), (10_000, 5)])
async def test_event_that_can_not_be_published_backs_off_ever_longer_but_never_for_long(
    tracker_pool: Pool, attempts: int, seconds: int
) -> None:
    [event_id] = await commit(tracker_pool, outbox_events(1, "anywhere"))
    await tracker_pool.execute("UPDATE outbox SET attempts = $1", attempts)
    rows = await tracker_pool.fetch(outbox.SQL["lease_expired"], 1, timedelta(seconds=15))

    async with tracker_pool.acquire() as connection, connection.transaction():  # in which no time passes
        await connection.execute(outbox.SQL["back_off"], [event_id], "broker away")
        wait = await connection.fetchval("SELECT extract(epoch FROM leased_until - now())::float FROM outbox")

    assert rows == []
    assert wait == seconds
    assert await tracker_pool.fetchval("SELECT attempts FROM outbox") == attempts + 1


async def test_events_wait_while_the_broker_is_away_and_go_when_it_is_back(
    tracker_pool: Pool, amqp_url: str, mailbox: Mailbox
) -> None:
    async with open_link(amqp_url) as link, open_amqp(link.url, name="test") as amqp:
        relay = Relay(tracker_pool, amqp.publisher.publish_events)
        events = outbox_events(3, mailbox.exchange)
        async with running(relay):
            link.cut()
            ids = await commit(tracker_pool, events)
            relay.offer(events)
            await failed(tracker_pool)
            rows = await tracker_pool.fetchval("SELECT count(*) FROM outbox")
            await link.mend()
            received = await mailbox.receive_events(3)
            await emptied(tracker_pool)

    assert rows == 3
    assert Counter(received) == Counter(ids)


async def test_relay_survives_that_the_database_goes_away(
    tracker_database_url: str, tracker_pool: Pool, amqp: Amqp, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        open_link(tracker_database_url) as link,
        open_pool(link.url, schema="job_tracker") as pool,
        running(Relay(pool, amqp.publisher.publish_events)),
    ):
        await leave_behind(tracker_pool, 1, mailbox.exchange)
        await mailbox.receive_events(1)
        await emptied(tracker_pool)
        link.cut()
        left = await leave_behind(tracker_pool, 1, mailbox.exchange)
        async with asyncio.timeout(10):
            while "outbox waits for the database" not in caplog.text:
                await asyncio.sleep(0.02)  # a log can't be awaited
        await link.mend()
        received = await mailbox.receive_events(1)
        await emptied(tracker_pool)

    assert received == left


async def test_stopping_relay_publishes_what_it_still_holds(tracker_pool: Pool, amqp: Amqp, mailbox: Mailbox) -> None:
    events = outbox_events(3, mailbox.exchange)
    ids = await commit(tracker_pool, events)
    relay = Relay(tracker_pool, amqp.publisher.publish_events)
    stopped = asyncio.Event()
    stopped.set()

    relay.offer(events)
    await relay.run(stopped)

    assert await mailbox.receive_events(3) == ids
    assert await tracker_pool.fetchval("SELECT count(*) FROM outbox") == 0


@pytest.mark.parametrize(("bound", "value", "published"), [("FRESH_SECONDS", 0.0, 0), ("WAITING_LIMIT", 2, 2)])
async def test_what_waited_too_long_or_is_too_much_is_left_to_the_sweeper(
    tracker_pool: Pool,
    amqp: Amqp,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
    value: float,
    published: int,
) -> None:
    monkeypatch.setattr(outbox, bound, value)
    events = outbox_events(5, mailbox.exchange)
    ids = await commit(tracker_pool, events)
    relay = Relay(tracker_pool, amqp.publisher.publish_events)
    stopped = asyncio.Event()
    stopped.set()

    relay.offer(events)
    await relay.run(stopped)

    rows = await tracker_pool.fetch("SELECT event_id FROM outbox")
    assert await mailbox.receive_events(published) == ids[:published]
    assert {row["event_id"] for row in rows} == set(ids[published:])


async def test_lease_begins_when_the_event_is_stored_however_long_its_transaction_has_run(tracker_pool: Pool) -> None:
    async with tracker_pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_sleep(0.3)")
        await outbox.add(connection, outbox_events(1, "anywhere"))
        seconds = await connection.fetchval("SELECT extract(epoch FROM leased_until - now())::float FROM outbox")

    assert seconds >= outbox.LEASE_SECONDS + 0.3
