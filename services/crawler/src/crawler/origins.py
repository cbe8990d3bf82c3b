"""How servers are treated, by all jobs and replicas together: one function per named query.

The caller owns the transaction.
"""

from datetime import timedelta

from tallyho_postgres import named_sql
from tallyho_postgres.pool import Connection

from crawler.frontier import Lane

SQL = named_sql.load("crawler", "origins.sql")


async def reserve_turn(
    connection: Connection, lane: Lane, *, is_spaced: bool, within: float, idle: float
) -> float | None:
    """Reserve a lane's next request by its job's delay and, if `is_spaced`, its origin's, at a time that suits both.

    Returns the seconds to wait. None, and nothing is reserved, when that is too far off, or when the origin would have
    to be left idle for longer than `idle` until it is the job's turn.
    """
    origin, pace = 0.0, 0.0
    if is_spaced:
        origin = await connection.fetchval(SQL["lock_origin"], lane.origin)
    if lane.options.delay:
        pace = await connection.fetchval(SQL["lock_pace"], lane.job_id, lane.origin)
    wait = max(origin, pace)
    if wait > within or (is_spaced and pace - origin > idle):
        return None
    if is_spaced:
        await connection.execute(SQL["reserve_fetch"], lane.origin, timedelta(seconds=wait))
    if lane.options.delay:
        await connection.execute(SQL["reserve_job_fetch"], lane.job_id, lane.origin, timedelta(seconds=wait))
    return wait


async def hold_origin(
    connection: Connection, origin: str, *, at_least: float, at_most: float, counts_at_once: bool
) -> float:
    """Send nothing more to an origin that is too busy, longer each time in a row; returns for how many seconds."""
    arguments = origin, timedelta(seconds=at_least), int(counts_at_once), at_most
    seconds: float | None = await connection.fetchval(SQL["hold_origin"], *arguments)
    return max(0.0, seconds or 0.0)


async def is_held(connection: Connection, origin: str) -> bool:
    """Whether nothing is to be sent to an origin, because it was too busy."""
    return bool(await connection.fetchval(SQL["is_held"], origin))


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
