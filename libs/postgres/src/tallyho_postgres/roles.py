"""The role of a service: it may read and change the rows of its own schema, and nothing else."""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import asyncpg


@dataclass(frozen=True)
class Role:
    """A role that logs in with a password."""

    name: str
    password: str = field(repr=False)


def role_of(url: str) -> Role:
    """The role that connects with this address. Raises ValueError when it names none."""
    parts = urlsplit(url)
    if not parts.username:
        raise ValueError("DATABASE_URL names no role")
    return Role(unquote(parts.username), unquote(parts.password or ""))


async def let_in(connection: "asyncpg.Connection[asyncpg.Record]", role: Role, schema: str) -> None:
    """Let `role` use the tables of `schema`, creating it if need be. The caller owns the transaction.

    The tables stay those of the caller: a service can't alter, truncate or drop them, nor change what was migrated. The
    password of a role that exists is left alone: whoever manages it changes it.
    """
    name, owned = await _quoted(connection, "%I", role.name), await _quoted(connection, "%I", schema)
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role.name):
        try:
            async with connection.transaction():  # of several that create it, one does
                password = await _quoted(connection, "%L", role.password)
                await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD {password}")
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            pass
    await connection.execute(
        f"REVOKE ALL ON SCHEMA {owned} FROM PUBLIC;"
        f"GRANT USAGE ON SCHEMA {owned} TO {name};"
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {owned} TO {name};"
        f"REVOKE INSERT, UPDATE, DELETE ON {owned}.migrations FROM {name}"
    )


async def _quoted(connection: "asyncpg.Connection[asyncpg.Record]", kind: str, text: str) -> str:
    """An identifier or a literal, quoted by the database itself: neither can be a parameter here."""
    return str(await connection.fetchval("SELECT format($1, $2::text)", kind, text))
