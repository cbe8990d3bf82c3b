"""How many pages each host has in jobs that bound them: one function per named query.

The caller owns the transaction.
"""

from collections.abc import Collection, Mapping
from uuid import UUID

from tallyho_postgres import named_sql
from tallyho_postgres.pool import Connection

SQL = named_sql.load("crawler", "host_budgets.sql")


async def host_pages(connection: Connection, job_id: UUID, hosts: Collection[str]) -> dict[str, int]:
    """How many pages hosts have in a locked job."""
    return {row["host"]: row["pages"] for row in await connection.fetch(SQL["host_pages"], job_id, list(hosts))}


async def add_host_pages(connection: Connection, job_id: UUID, pages: Mapping[str, int]) -> None:
    """Add to the pages that hosts have in a locked job."""
    if pages:
        await connection.execute(SQL["add_host_pages"], job_id, list(pages), list(pages.values()))
