"""A pool of connections whose tables are those of one service."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from tallyho_postgres.errors import is_transient

# Strings, since the library's classes take their parameter in its type stubs only.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
COMMAND_TIMEOUT_SECONDS = 60.0


@asynccontextmanager
async def open_pool(url: str, *, schema: str, size: int = 8) -> AsyncIterator[Pool]:
    """Connect to the database at `url`, waiting until it accepts; unqualified names are those of `schema`.

    Raises asyncpg.PostgresError for what waiting does not mend, such as a wrong password.
    """
    while True:
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=size,
                command_timeout=COMMAND_TIMEOUT_SECONDS,
                server_settings={"search_path": schema, "application_name": f"tallyho {schema}"},
            )
            break
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("waiting for the database error=%s", error)
            await asyncio.sleep(RETRY_SECONDS)  # nothing tells when a server will accept
    try:
        yield pool
    finally:
        await close(pool)


async def close(pool: Pool) -> None:
    """Close `pool` within a bound: a server that is gone never answers a goodbye."""
    try:
        await asyncio.wait_for(pool.close(), 5)
    except TimeoutError:
        pool.terminate()
