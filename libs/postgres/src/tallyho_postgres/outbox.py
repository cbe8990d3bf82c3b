"""The transactional outbox: an event is stored with the change it tells of, and published after the commit.

The process that committed publishes at once, from memory. Every row carries a lease; a row whose lease has expired (its
process died, or could not publish) is taken over by the sweeper of any replica. A row is never in flight twice in one
process: rows wait in memory for less than their lease, and the sweeper takes expired ones only.

Each service creates the table in its own schema:
    CREATE TABLE outbox (event_id uuid PRIMARY KEY, exchange text, routing_key text, type text, body bytea,
        leased_until timestamptz, attempts int DEFAULT 0, last_error text, created_at timestamptz DEFAULT now())
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby, islice
from operator import attrgetter
from time import monotonic
from typing import NamedTuple
from uuid import UUID

from tallyho_process.waiting import first_of

from tallyho_postgres import metrics, named_sql
from tallyho_postgres.errors import is_transient
from tallyho_postgres.pool import Connection, Pool

log = logging.getLogger(__name__)

SQL = named_sql.load("tallyho_postgres", "outbox.sql")

LEASE_SECONDS = 15.0
# What waits in memory longer than this is left to the sweeper: publishing must end within the lease.
FRESH_SECONDS = 4.0
SWEEP_SECONDS = 1.0
BATCH_EVENTS = 100
BATCH_BYTES = 256 * 1024
ROUND_EVENTS = 2_000
WAITING_LIMIT = 20_000


class OutboxEvent(NamedTuple):
    """An encoded event and where it goes."""

    event_id: UUID
    exchange: str
    routing_key: str
    type: str
    body: bytes


Publish = Callable[[str, str, str, Sequence[UUID], Sequence[bytes]], Awaitable[None]]


async def add(connection: Connection, events: Sequence[OutboxEvent]) -> None:
    """Store `events` in the transaction of `connection`; after its commit, `Relay.offer` the same events."""
    if events:
        columns = [list(column) for column in zip(*events, strict=True)]
        await connection.execute(SQL["add"], *columns, timedelta(seconds=LEASE_SECONDS))


@dataclass(frozen=True)
class _Waiting:
    event: OutboxEvent
    fresh_until: float


class Relay:
    """Publishes the outbox with `publish`, which takes one message: exchange, routing key, type, ids and bodies."""

    def __init__(self, pool: Pool, publish: Publish) -> None:
        self._pool = pool
        self._publish = publish
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()

    def offer(self, events: Iterable[OutboxEvent]) -> None:
        """Publish `events`, just committed, as soon as possible; what exceeds a bound is left to the sweeper."""
        fresh_until = monotonic() + FRESH_SECONDS
        room = max(0, WAITING_LIMIT - len(self._waiting))
        self._waiting.extend(_Waiting(event, fresh_until) for event in islice(events, room))
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set, then publish what is in memory once more."""
        next_sweep = monotonic()
        while not stop.is_set():
            published = await self._survives(self._publish_waiting())
            if not published or monotonic() >= next_sweep:
                more = published and await self._survives(self._sweep())
                next_sweep = monotonic() + (0 if more else SWEEP_SECONDS)
            if not (published and self._waiting):
                await first_of(self._wake, stop, seconds=next_sweep - monotonic())
                self._wake.clear()
        while self._waiting and await self._survives(self._publish_waiting()):
            pass

    async def _survives(self, step: Awaitable[bool]) -> bool:
        """The result of `step`; False when the database is away, which the sweeper mends later."""
        try:
            return await step
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("outbox waits for the database error=%s", error)
            return False

    async def _publish_waiting(self) -> bool:
        """Publish a round of what waits in memory: with more each time, what others left behind must have its turn."""
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), ROUND_EVENTS))]
        now = monotonic()
        await self._publish_round([waiting.event for waiting in taken if waiting.fresh_until > now])
        return True

    async def _sweep(self) -> bool:
        """Publish what others left behind; returns whether there may be more."""
        rows = await self._pool.fetch(SQL["lease_expired"], ROUND_EVENTS, timedelta(seconds=LEASE_SECONDS))
        await self._publish_round([OutboxEvent(*row) for row in rows])
        return len(rows) == ROUND_EVENTS

    async def _publish_round(self, events: Sequence[OutboxEvent]) -> None:
        batches = list(in_batches(events))
        results = await asyncio.gather(*map(self._publish_batch, batches), return_exceptions=True)
        confirmed: list[UUID] = []
        for batch, result in zip(batches, results, strict=True):
            ids = [event.event_id for event in batch]
            if result is None:
                confirmed.extend(ids)
                metrics.BATCH_EVENTS.observe(len(ids))
                metrics.PUBLISHED.inc(len(ids))
            elif isinstance(result, Exception):
                metrics.FAILED.inc(len(ids))
                log.warning("%d events not published, later again type=%s error=%s", len(ids), batch[0].type, result)
                await self._pool.execute(SQL["back_off"], ids, str(result)[:500])
            else:
                raise result
        if confirmed:
            await self._pool.execute(SQL["delete_confirmed"], confirmed)

    async def _publish_batch(self, batch: Sequence[OutboxEvent]) -> None:
        head = batch[0]
        await self._publish(
            head.exchange,
            head.routing_key,
            head.type,
            [event.event_id for event in batch],
            [event.body for event in batch],
        )


def in_batches(events: Sequence[OutboxEvent]) -> Iterator[list[OutboxEvent]]:
    """Group events of one destination and type into messages of at most 100 events or 256 KB."""
    destination = attrgetter("exchange", "routing_key", "type")
    for _, group in groupby(sorted(events, key=destination), key=destination):
        batch: list[OutboxEvent] = []
        size = 0
        for event in group:
            if batch and (len(batch) == BATCH_EVENTS or size + len(event.body) > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(event)
            size += len(event.body)
        yield batch
