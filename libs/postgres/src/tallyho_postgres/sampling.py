"""Figures that only the database knows, looked up now and then."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

from tallyho_process.waiting import first_of

from tallyho_postgres import named_sql
from tallyho_postgres.errors import is_transient
from tallyho_postgres.metrics import OUTBOX_EVENTS, OUTBOX_OLDEST
from tallyho_postgres.pool import Connection, Pool

log = logging.getLogger(__name__)

SQL = named_sql.load("tallyho_postgres", "outbox.sql")

INTERVAL_SECONDS = 10.0
# A look is followed by a rest of so many times its length: large tables are looked at less often.
REST = 50

Look = Callable[[Connection], Awaitable[None]]


async def sample(pool: Pool, looks: list[Look], stop: asyncio.Event, *, interval: float = INTERVAL_SECONDS) -> None:
    """Take each of `looks`, at first and about every `interval` seconds, until `stop` is set."""
    while not stop.is_set():
        started = monotonic()
        try:
            async with pool.acquire() as connection, connection.transaction(readonly=True):
                for look in looks:
                    await look(connection)
        except Exception as error:
            if not is_transient(error):
                raise
            log.info("figures not looked up error=%s", error)
        await first_of(stop, seconds=max(interval, REST * (monotonic() - started)))


def outbox_of(schema: str) -> Look:
    """A look at the outbox of `schema`, which is the connection's."""

    async def look(connection: Connection) -> None:
        row = await connection.fetchrow(SQL["measure"])
        assert row is not None
        OUTBOX_EVENTS.labels(schema).set(row["events"])
        OUTBOX_OLDEST.labels(schema).set(row["oldest_seconds"])

    return look
