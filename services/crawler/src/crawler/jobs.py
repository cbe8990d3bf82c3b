"""The rows of jobs: how they start, change and end. One function per named query; the caller owns the transaction."""

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.pages import Outcome
from tallyho_postgres import named_sql
from tallyho_postgres.pool import Connection

from crawler.frontier import FoundPage, Visit

SQL = named_sql.load("crawler", "jobs.sql")


async def start_job(
    connection: Connection,
    job_id: UUID,
    *,
    revision: int,
    options: CrawlOptions,
    sites: Iterable[str],
    retry_of: Sequence[UUID] = (),
) -> str | None:
    """Store a job's rules, once; returns its status, or None when it was started before."""
    level = None if options.max_depth is None else 0
    status: str | None = await connection.fetchval(
        SQL["start_job"],
        job_id,
        revision,
        options.model_dump_json(),
        sorted(sites),
        level,
        list(retry_of),
        UUID(int=0) if retry_of else None,
    )
    return status


async def get_retried(connection: Connection, job_id: UUID) -> tuple[list[str], list[UUID]] | None:
    """The sites of a job and the jobs that it retried itself; None when the crawler does not know it."""
    row = await connection.fetchrow(SQL["get_retried"], job_id)
    return (row["sites"], row["retry_of"]) if row else None


async def set_status(connection: Connection, job_id: UUID, status: str, *, revision: int) -> None:
    """Obey a command, unless a newer one was obeyed."""
    await connection.execute(SQL["set_status"], job_id, status, revision)


async def change_options(connection: Connection, job_id: UUID, options: CrawlOptions, *, revision: int) -> bool:
    """Give a job other rules, unless newer ones were given; whether it did."""
    changed = await connection.fetchval(SQL["change_options"], job_id, revision, options.model_dump_json())
    return bool(changed)


async def renew_pace(connection: Connection, job_id: UUID, *, longer: float) -> None:
    """Let a delay of a job that is so many seconds longer hold from now on, and its lanes be looked at now."""
    await connection.execute(SQL["renew_pace"], job_id, timedelta(seconds=longer))


async def note_closed(connection: Connection, job_id: UUID, pages: int, *, closing: bool) -> None:
    """Take the places of closed pages from a locked job; `closing`: more are left to be closed."""
    await connection.execute(SQL["note_closed"], job_id, pages, closing)


async def list_closing(connection: Connection) -> list[UUID]:
    """The jobs whose last pages are being closed."""
    return [row["job_id"] for row in await connection.fetch(SQL["list_closing"])]


async def list_halted(connection: Connection, job_ids: Collection[UUID]) -> list[UUID]:
    """Those of these jobs of which nothing may be fetched now."""
    return [row["job_id"] for row in await connection.fetch(SQL["list_halted"], list(job_ids))]


async def remove_pages(connection: Connection, job_id: UUID, *, limit: int) -> list[FoundPage]:
    """Close up to `limit` pages of a locked job that is being closed; returns them."""
    rows = await connection.fetch(SQL["remove_pages"], job_id, limit)
    return [FoundPage(job_id, row["page_id"], row["url"], row["depth"], is_list=row["is_list"]) for row in rows]


async def forget_lanes(connection: Connection, job_id: UUID) -> None:
    """Drop the lanes of a job without pages; with a larger budget it may go on."""
    await connection.execute(SQL["forget_lanes"], job_id)


async def forget_hosts(connection: Connection, job_id: UUID) -> None:
    """Forget how many pages each host has in a job that never goes on."""
    await connection.execute(SQL["forget_hosts"], job_id)


async def note_failed(connection: Connection, visits: Iterable[Visit]) -> None:
    """Remember the pages of closed visits that failed."""
    rows = [
        (visit.page.lane.job_id, visit.page.page_id, visit.page.url, visit.page.depth, visit.page.is_list)
        for visit in visits
        if visit.outcome is Outcome.FAILED
    ]
    if rows:
        await connection.execute(SQL["note_failed"], *map(list, zip(*rows, strict=True)))


async def list_failed(connection: Connection, job_id: UUID, *, after: UUID, limit: int) -> list[FoundPage]:
    """The pages of a job that failed after page `after`, by id."""
    rows = await connection.fetch(SQL["list_failed"], job_id, after, limit)
    return [FoundPage(job_id, row["page_id"], row["url"], row["depth"], is_list=row["is_list"]) for row in rows]


async def delete_job(connection: Connection, job_id: UUID, *, revision: int) -> None:
    """Make a job one that is never started again, and that is to be forgotten."""
    await connection.execute(SQL["delete_job"], job_id, revision)


async def lock_remains(connection: Connection) -> UUID | None:
    """Lock a deleted job that still has rows; None when there is none."""
    job_id: UUID | None = await connection.fetchval(SQL["lock_remains"])
    return job_id


async def forget_documents(connection: Connection, job_id: UUID, *, limit: int) -> int:
    """Take up to `limit` documents from a job, and delete those that no other job has; returns how many it lost."""
    taken = [row["document_id"] for row in await connection.fetch(SQL["forget_job_documents"], job_id, limit)]
    if taken:
        await connection.execute(SQL["lock_documents"], taken)
        await connection.execute(SQL["delete_orphans"], taken)
    return len(taken)


async def forget_urls(connection: Connection, job_id: UUID, *, limit: int) -> int:
    """Forget up to `limit` URLs of a job in each table that has some; returns how many."""
    done = [
        await connection.execute(SQL[query], job_id, limit)
        for query in ("forget_pages", "forget_waiting_urls", "forget_failed", "forget_seen")
    ]
    return sum(int(status.rpartition(" ")[2]) for status in done)


async def mark_deleted(connection: Connection, job_id: UUID) -> None:
    """Remember that nothing is left of a deleted job but its row."""
    await forget_lanes(connection, job_id)
    await forget_hosts(connection, job_id)
    await connection.execute(SQL["mark_deleted"], job_id)
