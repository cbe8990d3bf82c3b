"""Clients that fall silent in the middle of a transaction, on a connection that stays: their locks are freed."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from asyncpg import InterfaceError
from tallyho_postgres.pool import SERVER_SETTINGS, Connection, open_pool
from tallyho_postgres.silent_sessions import end_silent_sessions

FallSilent = Callable[[Connection], Awaitable[object]]

LOCK = "SELECT pg_advisory_xact_lock(1)"
# Those of the settings that end a session, shorter; not so short that a busy machine falls silent by itself.
SHORT_SECONDS = 3.0
SHORT = dict.fromkeys(SERVER_SETTINGS.keys() & {"idle_in_transaction_session_timeout"}, f"{SHORT_SECONDS:g}s")


async def between_statements(connection: Connection) -> None:
    await connection.execute("SELECT 1")


async def within_a_statement(connection: Connection) -> None:
    await connection.prepare("SELECT 1")  # the server now waits for the rest of it


def give_up(ended: Connection) -> None:
    """Nothing can be done with it; the pool may have noticed."""
    with suppress(InterfaceError):
        ended.terminate()


@pytest.mark.parametrize("fall_silent", [between_statements, within_a_statement])
async def test_lock_of_a_client_that_fell_silent_is_freed(crawler_database_url: str, fall_silent: FallSilent) -> None:
    stop = asyncio.Event()
    async with (
        asyncio.timeout(20),
        open_pool(crawler_database_url, schema="crawler", settings=SHORT) as pool,
        pool.acquire() as silent,
        pool.acquire() as waiting,
        asyncio.TaskGroup() as loops,
    ):
        loops.create_task(end_silent_sessions(pool, stop, limit=timedelta(seconds=SHORT_SECONDS), interval=0.1))
        await silent.execute("BEGIN")
        await silent.execute(LOCK)
        await fall_silent(silent)

        await waiting.execute(LOCK)

        give_up(silent)
        stop.set()


async def test_session_that_works_or_waits_for_a_lock_is_left_alone(crawler_database_url: str) -> None:
    stop = asyncio.Event()
    async with (
        asyncio.timeout(20),
        open_pool(crawler_database_url, schema="crawler") as pool,
        pool.acquire() as holder,
        pool.acquire() as idle,
        asyncio.TaskGroup() as loops,
    ):
        await idle.execute("SELECT 1")
        await holder.execute("SELECT pg_advisory_lock(1)")
        waiting = loops.create_task(pool.execute(LOCK))
        loops.create_task(end_silent_sessions(pool, stop, limit=timedelta(0), interval=0.05))
        await holder.execute("SELECT pg_sleep(0.5)")
        await holder.execute("SELECT pg_advisory_unlock(1)")
        await waiting

        await idle.execute("SELECT 1")
        stop.set()


@asynccontextmanager
async def process(module: str, amqp_url: str, database_url: str) -> AsyncIterator[None]:
    """A service that runs, or is about to."""
    environment = os.environ | {"AMQP_URL": amqp_url, "DATABASE_URL": database_url}
    running = await asyncio.create_subprocess_exec(sys.executable, "-m", module, env=environment)
    try:
        yield
    finally:
        running.terminate()
        await running.wait()


async def free_lock_of_silent_client(database_url: str, schema: str, lock: int) -> None:
    async with open_pool(database_url, schema=schema) as pool, pool.acquire() as silent:
        await silent.execute("BEGIN")
        await silent.execute(f"SELECT pg_advisory_xact_lock({lock})")
        await within_a_statement(silent)

        await pool.execute(f"SELECT pg_advisory_xact_lock({lock})", timeout=60)

        give_up(silent)


async def test_services_free_the_locks_of_their_replicas_that_fell_silent(
    crawler_amqp_url: str, tracker_amqp_url: str, crawler_database_url: str, tracker_database_url: str
) -> None:
    async with (
        process("crawler", crawler_amqp_url, crawler_database_url),
        process("job_tracker", tracker_amqp_url, tracker_database_url),
    ):
        await asyncio.gather(
            free_lock_of_silent_client(crawler_database_url, "crawler", 1),
            free_lock_of_silent_client(tracker_database_url, "job_tracker", 2),
        )
