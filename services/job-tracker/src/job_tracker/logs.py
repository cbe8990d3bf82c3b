"""The tail of each job's log, for those who come after its end. Best effort, as the log is, and beside the counting."""

from collections.abc import Sequence

from tallyho_contracts.logs import JobLog
from tallyho_messaging.wire import AnyEvent
from tallyho_postgres.pool import Pool

from job_tracker import store

KEPT_LINES = 200


async def on_lines(pool: Pool, events: Sequence[AnyEvent]) -> None:
    """Keep the newest lines of each job; one that comes twice is kept once, one that comes too late not at all."""
    lines = {event.id: event.data for event in events if isinstance(event.data, JobLog)}
    async with pool.acquire() as connection, connection.transaction():
        await store.keep_log_lines(connection, lines, most=KEPT_LINES)
