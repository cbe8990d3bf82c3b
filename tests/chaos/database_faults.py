"""A PostgreSQL that dies, restarts, ends sessions, or has no room left."""

import asyncio
from random import Random

import asyncpg
from chaos.stage import DISK_FULL, Stage

HOLD_SECONDS = 3.0
RECOVERY_SECONDS = 60.0
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1"


async def killed(stage: Stage, _: Random) -> None:
    """Kill the server, and start it again: it recovers from its log."""
    await asyncio.to_thread(stage.database.kill)
    await asyncio.to_thread(stage.database.start)
    await _recovered(stage)


async def restarted(stage: Stage, _: Random) -> None:
    """Stop the server in order, and start it again."""
    await asyncio.to_thread(stage.database.stop)
    await asyncio.to_thread(stage.database.start)
    await _recovered(stage)


async def sessions_ended(stage: Stage, _: Random) -> None:
    """End every session of the services, as an administrator would."""
    async with stage.sql() as connection:
        await connection.execute(END_SESSIONS, stage.role)


async def full_of_connections(stage: Stage, rng: Random) -> None:
    """Let the services have a connection or two in all, and end those they have."""
    async with stage.sql() as connection:
        await connection.execute(f"ALTER ROLE {stage.role} CONNECTION LIMIT {rng.randint(0, 2)}")
        try:
            await connection.execute(END_SESSIONS, stage.role)
            await asyncio.sleep(HOLD_SECONDS)
        finally:
            await connection.execute(f"ALTER ROLE {stage.role} CONNECTION LIMIT -1")


async def disk_full(stage: Stage, _: Random) -> None:
    """Refuse every insert with the error of a full disk."""
    async with stage.sql() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", DISK_FULL)
        await asyncio.sleep(HOLD_SECONDS)  # the lock ends with the session


async def _recovered(stage: Stage) -> None:
    """Wait until the server takes connections: it answers before it has replayed its log."""
    async with asyncio.timeout(RECOVERY_SECONDS):
        while True:
            try:
                async with stage.sql():
                    return
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.1)
