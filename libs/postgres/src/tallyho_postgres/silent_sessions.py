"""Sessions whose client fell silent in the middle of a statement, while they hold locks that others wait for.

The library sends a statement in two parts and awaits an answer in between. A client that is frozen there, or cut off by
a proxy that keeps the connection to the server, leaves a session that is not idle, so that
`idle_in_transaction_session_timeout` does not see it, and that can't be cancelled: PostgreSQL holds back cancellations
and `statement_timeout` while it reads a message. `transaction_timeout` would do; version 17 brought it.
"""

import asyncio
import logging
from datetime import timedelta

from tallyho_process.waiting import first_of

from tallyho_postgres import named_sql
from tallyho_postgres.errors import is_transient
from tallyho_postgres.pool import Pool

log = logging.getLogger(__name__)

SQL = named_sql.load("tallyho_postgres", "silent_sessions.sql")

# As long as the server lets a session be idle in a transaction.
LIMIT = timedelta(seconds=15)
LOOK_SECONDS = 5.0


async def end_silent_sessions(
    pool: Pool, stop: asyncio.Event, *, limit: timedelta = LIMIT, interval: float = LOOK_SECONDS
) -> None:
    """End such sessions of the service that `pool` belongs to, of all its replicas, until `stop` is set."""
    while not stop.is_set():
        try:
            for row in await pool.fetch(SQL["end_silent"], limit):
                log.warning(
                    "a session was silent in the middle of a statement pid=%d ended=%s", row["pid"], row["ended"]
                )
        except Exception as error:
            if not is_transient(error):
                raise
            log.info("silent sessions not looked for error=%s", error)
        await first_of(stop, seconds=interval)
