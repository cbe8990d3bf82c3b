"""A pool of connections whose tables are those of one service."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
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
CONNECT_TIMEOUT_SECONDS = 10.0
# A connection that fell silent is given up after twice this long: the library asks for the cancellation first.
COMMAND_TIMEOUT_SECONDS = 15.0

# What a client that vanished held locked must not stay so until the kernel notices, which can take hours.
SERVER_SETTINGS = {
    "jit": "off",  # compiling a query takes longer than any of ours
    "idle_in_transaction_session_timeout": "15s",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30s",
}


@asynccontextmanager
async def open_pool(
    url: str, *, schema: str, size: int = 8, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Pool]:
    """Connect to the database at `url`, waiting until it accepts; unqualified names are those of `schema`.

    `settings` are run-time parameters of the server, for each connection.

    Raises asyncpg.PostgresError for what waiting does not mend, such as a wrong password.
    """
    own = {"search_path": schema, "application_name": f"tallyho {schema}", **(settings or {})}
    while True:
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=size,
                timeout=CONNECT_TIMEOUT_SECONDS,
                command_timeout=COMMAND_TIMEOUT_SECONDS,
                server_settings=SERVER_SETTINGS | own,
                reset=_leave_as_it_is,
            )
            break
        except Exception as error:
            if not is_transient(error) or isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
                raise
            log.warning("waiting for the database error=%s", error)
            await asyncio.sleep(RETRY_SECONDS)  # nothing tells when a server will accept
    try:
        yield pool
    finally:
        await close(pool)


async def _leave_as_it_is(_: "asyncpg.Connection[asyncpg.Record]") -> None:
    """No round trip for a connection that goes back: nothing changes its session (decision 55)."""


async def close(pool: Pool) -> None:
    """Close `pool` within a bound: a server that is gone never answers a goodbye."""
    try:
        await asyncio.wait_for(pool.close(), 5)
    except TimeoutError:
        pool.terminate()
