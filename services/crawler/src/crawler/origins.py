"""How servers are treated, by all jobs and replicas together: one function per named query.

The caller owns the transaction.
"""

from datetime import timedelta
from uuid import UUID

from tallyho_postgres import named_sql
from tallyho_postgres.pool import Connection

from crawler.frontier import Lane

SQL = named_sql.load("crawler", "origins.sql")


async def reserve_fetch(connection: Connection, origin: str, *, within: float) -> float | None:
    """Reserve the next request to an origin with a delay; returns the seconds to wait, None when it is too far off."""
    wait: float | None = await connection.fetchval(SQL["reserve_fetch"], origin, timedelta(seconds=within))
    return wait


async def reserve_job_fetch(
    connection: Connection, job_id: UUID, origin: str, *, delay: float, within: float
) -> float | None:
    """Reserve a job's next request to an origin; returns the seconds to wait, None when it is too far off."""
    seconds = timedelta(seconds=delay), timedelta(seconds=within)
    wait: float | None = await connection.fetchval(SQL["reserve_job_fetch"], job_id, origin, *seconds)
    return wait


async def hold_origin(
    connection: Connection, origin: str, *, at_least: float, at_most: float, counts_at_once: bool
) -> float:
    """Send nothing more to an origin that is too busy, longer each time in a row; returns for how many seconds."""
    arguments = origin, timedelta(seconds=at_least), int(counts_at_once), at_most
    seconds: float | None = await connection.fetchval(SQL["hold_origin"], *arguments)
    return max(0.0, seconds or 0.0)


async def calm_origin(connection: Connection, origin: str) -> None:
    """Note that an origin that was too busy answers again."""
    await connection.execute(SQL["calm_origin"], origin)


async def rest_slot(connection: Connection, lane: Lane, seconds: float) -> None:
    """Leave the slot of a leased lane unclaimed for some time, once it is given back."""
    await connection.execute(SQL["rest_slot"], lane.origin, lane.slot, lane.epoch, timedelta(seconds=seconds))


async def get_robots(connection: Connection, origin: str) -> tuple[str, str | None] | None:
    """The verdict and body of an origin's robots.txt while they are fresh."""
    row = await connection.fetchrow(SQL["get_robots"], origin)
    return (row["robots_verdict"], row["robots_body"]) if row else None


async def set_robots(
    connection: Connection, origin: str, *, verdict: str, body: str | None, ttl: float, delay: float
) -> None:
    """Remember an origin's robots.txt for `ttl` seconds, and the delay between requests that holds there."""
    seconds = timedelta(seconds=ttl), timedelta(seconds=delay)
    await connection.execute(SQL["set_robots"], origin, verdict, body, *seconds)
