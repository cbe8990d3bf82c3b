"""The tracker's tables: one function per named query. The caller owns the transaction."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from pydantic_core import from_json, to_json
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import Document
from tallyho_contracts.jobs import CountedAt, JobCreate, JobStatus, PagesByReason, WaitingPage
from tallyho_contracts.logs import JobLog
from tallyho_contracts.pages import Page, PagesQuery
from tallyho_postgres import named_sql
from tallyho_postgres.pool import Connection

from job_tracker.batches import DocumentRow, Key, Row, is_described
from job_tracker.rules import PAGE_STATES, Job, PageCounts, moved

SQL = named_sql.load("job_tracker", "tracker.sql")

NIL = UUID(int=0)
# In the order of the query's parameters.
PAGE_COLUMNS = ("state", "url", "depth", "reason", "status_code", "document_id", "skipped_links", "finished_at")


async def lock_jobs(connection: Connection, job_ids: Collection[UUID]) -> dict[UUID, Job]:
    """Lock jobs, in the order of their ids; those not created yet get a placeholder."""
    ordered = sorted(job_ids)
    rows = await connection.fetch(SQL["lock_jobs"], ordered)
    if len(rows) < len(ordered):
        await connection.execute(SQL["create_placeholders"], ordered)
        rows = await connection.fetch(SQL["lock_jobs"], ordered)
    return {row["job_id"]: _job(row) for row in rows}


async def lock_job(connection: Connection, job_id: UUID) -> Job | None:
    """Lock one job; None when it was never created."""
    row = await connection.fetchrow(SQL["lock_jobs"], [job_id])
    return _job(row) if row and row["created_at"] else None


async def add_documents(connection: Connection, documents: Mapping[Key, DocumentRow]) -> dict[UUID, int]:
    """Count each document once in its job; returns how many each job counted anew. The jobs are locked."""
    if not documents:
        return {}
    jobs = await connection.fetch(SQL["add_documents"], *_document_columns(documents))
    known = {(job["job_id"], document_id) for job in jobs for document_id in job["known"] or ()}
    if described := {key: documents[key] for key in known if is_described(documents[key])}:
        await connection.execute(SQL["describe_documents"], *_document_columns(described))
    return {job["job_id"]: job["counted"] for job in jobs}


async def advance_pages(connection: Connection, pages: Mapping[Key, Row], *, at: datetime) -> dict[UUID, PageCounts]:
    """Insert pages or move them forward; returns the change of each job's page counts. The jobs are locked."""
    if not pages:
        return {}
    changes: dict[UUID, list[tuple[int | None, int, int]]] = {}
    for row in await connection.fetch(SQL["advance_pages"], *_columns(pages, PAGE_COLUMNS), at):
        changes.setdefault(row["job_id"], []).append((row["was"], row["is"], row["pages"]))
    return {job_id: moved(change) for job_id, change in changes.items()}


def _document_columns(documents: Mapping[Key, DocumentRow]) -> list[list[object]]:
    """The keys and columns of documents as arrays, which cost the database half of what JSON would."""
    return [*map(list, zip(*documents, strict=True)), *map(list, zip(*documents.values(), strict=True))]


def _columns(rows: Mapping[Key, Row], names: Iterable[str]) -> list[list[object]]:
    """The same of rows of which each has other columns."""
    return [*map(list, zip(*rows, strict=True)), *([row.get(name) for row in rows.values()] for name in names)]


async def advance_jobs(connection: Connection, steps: Iterable[tuple[Job, Job]], *, at: datetime) -> list[Job]:
    """Write what changed between each job before and after, as additions; returns the jobs at their new revision."""
    rows = [_step(before, after) for before, after in steps]
    if not rows:
        return []
    return [_job(row) for row in await connection.fetch(SQL["advance_jobs"], _json(rows), at)]


def _step(before: Job, after: Job) -> Row:
    was, now = before.pages, after.pages
    return {
        "job_id": after.job_id,
        "documents": after.document_count - before.document_count,
        "pending": now.pending - was.pending,
        "running": now.running - was.running,
        "completed": now.completed - was.completed,
        "failed": now.failed - was.failed,
        "skipped": now.skipped - was.skipped,
        "cancelled": now.cancelled - was.cancelled,
        "status": after.status,
        "start_confirmed": after.start_confirmed,
        "crawler_pages": after.crawler_pages,
        "change_confirmed": after.change_confirmed,
        "started_at": after.started_at,
        "finished_at": after.finished_at,
        "error": after.error,
    }


async def failure_reasons(connection: Connection, job_id: UUID) -> dict[str | None, int]:
    """The most frequent reasons why pages of a job gave no document."""
    rows = await connection.fetch(SQL["failure_reasons"], job_id)
    return {row["reason"]: row["pages"] for row in rows}


async def lock_idempotency_key(connection: Connection, key: str) -> tuple[Job, bytes] | None:
    """Let one creation with `key` at a time go on; returns the job that has it already, and its request's hash."""
    await connection.execute(SQL["lock_idempotency_key"], key)
    row = await connection.fetchrow(SQL["find_by_idempotency_key"], key)
    return (_job(row), row["request_hash"]) if row else None


async def set_options(connection: Connection, job: Job) -> None:
    """Write the options of a locked job, and that the crawler is to confirm those of its present revision."""
    await connection.execute(SQL["set_options"], job.job_id, job.options.model_dump_json(), job.revision)


async def create_job(
    connection: Connection, request: JobCreate, *, request_hash: bytes, at: datetime, retry_of: UUID | None = None
) -> Job | None:
    """Insert a job, or fill its placeholder; None when a job with this id was created before."""
    row = await connection.fetchrow(
        SQL["create_job"],
        request.job_id,
        at,
        request.idempotency_key,
        request_hash,
        request.name,
        _json(request.seeds),
        request.options.model_dump_json(),
        retry_of,
    )
    return _job(row) if row else None


async def get_job(connection: Connection, job_id: UUID) -> Job | None:
    """One job; None when it was never created."""
    row = await connection.fetchrow(SQL["get_job"], job_id)
    return _job(row) if row else None


async def get_created(connection: Connection, job_id: UUID) -> tuple[Job, bytes] | None:
    """One job and the hash of the request that created it; None when it was never created."""
    row = await connection.fetchrow(SQL["get_job"], job_id)
    return (_job(row), row["request_hash"]) if row else None


async def list_jobs(connection: Connection, *, live: bool, before: UUID | None, limit: int) -> list[Job]:
    """The jobs created before job `before`, the newest first."""
    rows = await connection.fetch(SQL["list_live_jobs" if live else "list_jobs"], before, limit)
    return [_job(row) for row in rows]


async def was_created(connection: Connection, job_id: UUID) -> bool:
    """Whether a job exists, or did before it was deleted."""
    created: bool = await connection.fetchval(SQL["was_created"], job_id)
    return created


async def list_documents(connection: Connection, job_id: UUID, *, after: int, limit: int) -> list[Document]:
    """The documents of a job after ordinal `after`."""
    return [Document(**row) for row in await connection.fetch(SQL["list_documents"], job_id, after, limit)]


async def list_pages(connection: Connection, query: PagesQuery) -> list[Page]:
    """The pages of a job that the query is about, by id."""
    states = [PAGE_STATES.index(state) for state in ([query.state] if query.state else PAGE_STATES)]
    asked = query.job_id, query.after or NIL, states, query.limit
    if query.reason is None:
        rows = await connection.fetch(SQL["list_pages"], *asked)
    else:
        rows = await connection.fetch(SQL["list_pages_for"], *asked, query.reason)
    return [Page(**{**row, "state": PAGE_STATES[row["state"]]}) for row in rows]


async def pages_by_reason(connection: Connection, job_id: UUID) -> list[PagesByReason]:
    """How many pages of a job are in which state for which reason, the most frequent first."""
    rows = await connection.fetch(SQL["pages_by_reason"], job_id)
    return [PagesByReason(**{**row, "state": PAGE_STATES[row["state"]]}) for row in rows]


async def sample_documents(connection: Connection, job_id: UUID, *, steps: int) -> list[CountedAt]:
    """When documents of a job were saved: at most `steps` + 1, at equal steps from the first to the last."""
    return [CountedAt(**row) for row in await connection.fetch(SQL["sample_documents"], job_id, steps)]


async def report_silent_jobs(connection: Connection, *, before: datetime, at: datetime) -> list[Job]:
    """Mark the live jobs whose last change came before a time and that are not marked yet; returns them."""
    return [_job(row) for row in await connection.fetch(SQL["report_silent_jobs"], before, at)]


class LiveJobs(NamedTuple):
    """How many live jobs are in one status, how many of them are silent, and how many pages these miss."""

    jobs: int
    stalled: int
    missing_pages: int


async def measure_live_jobs(connection: Connection) -> dict[JobStatus, LiveJobs]:
    """The figures of live jobs, by their status."""
    rows = await connection.fetch(SQL["measure_live_jobs"])
    return {JobStatus(row["status"]): LiveJobs(row["jobs"], row["stalled"], row["missing_pages"]) for row in rows}


async def waiting_pages(connection: Connection, job_id: UUID) -> list[WaitingPage]:
    """Some of the pages that a job waits for, running ones first."""
    rows = await connection.fetch(SQL["waiting_pages"], job_id)
    return [WaitingPage(**{**row, "state": PAGE_STATES[row["state"]]}) for row in rows]


async def keep_log_lines(connection: Connection, lines: Mapping[UUID, JobLog], *, most: int) -> None:
    """Add lines of logs, by the ids of their events, and forget what is older than the newest `most` of their jobs."""
    if not lines:
        return
    columns = [
        (line.job_id, line.timestamp, event_id, line.level.value, line.message, _json(line.fields))
        for event_id, line in lines.items()
    ]
    await connection.execute(SQL["add_log_lines"], *map(list, zip(*columns, strict=True)))
    await connection.execute(SQL["trim_logs"], list({line.job_id for line in lines.values()}), most)


async def log_tail(connection: Connection, job_id: UUID, *, limit: int) -> list[JobLog]:
    """The newest lines of a job's log, the oldest of them first."""
    rows = await connection.fetch(SQL["log_tail"], job_id, limit)
    return [JobLog(**{**row, "fields": from_json(row["fields"])}) for row in rows]


async def live_jobs(connection: Connection) -> list[Job]:
    """Every job that is not terminal."""
    return [_job(row) for row in await connection.fetch(SQL["live_jobs"])]


async def unannounced_jobs(connection: Connection) -> list[Job]:
    """The terminal jobs whose last state may not have reached the broker."""
    return [_job(row) for row in await connection.fetch(SQL["unannounced_jobs"])]


async def mark_announced(connection: Connection, job_ids: Collection[UUID]) -> None:
    """Remember that the terminal states of these jobs have reached the broker."""
    await connection.execute(SQL["mark_announced"], list(job_ids))


async def mark_deleted(connection: Connection, job_id: UUID, *, at: datetime) -> int:
    """Make a locked job one that is listed nowhere; returns its new revision."""
    revision: int = await connection.fetchval(SQL["mark_deleted"], job_id, at)
    return revision


async def ended_jobs(connection: Connection, *, before: datetime, limit: int) -> list[UUID]:
    """The jobs that ended before a time, those that ended first."""
    return [row["job_id"] for row in await connection.fetch(SQL["ended_jobs"], before, limit)]


async def is_retried(connection: Connection, job_id: UUID) -> bool:
    """Whether a live job retries this one, or one that retried it, and so on."""
    retried: bool = await connection.fetchval(SQL["is_retried"], job_id)
    return retried


async def lock_remains(connection: Connection) -> UUID | None:
    """Lock the deleted job whose turn it is to lose some of its rows; None when there is none."""
    job_id: UUID | None = await connection.fetchval(SQL["lock_remains"])
    return job_id


async def delete_rows(connection: Connection, job_id: UUID, *, limit: int) -> int:
    """Delete up to `limit` rows of a job in each table that has some; returns how many it were."""
    queries = ("delete_pages", "delete_documents", "delete_log_lines")
    done = [await connection.execute(SQL[query], job_id, limit) for query in queries]
    return sum(int(status.rpartition(" ")[2]) for status in done)


async def mark_gone(connection: Connection, job_id: UUID) -> None:
    """Remember that nothing is left of a deleted job but its row."""
    await connection.execute(SQL["mark_gone"], job_id)


def _json(value: Any) -> str:
    return to_json(value).decode()


def _job(row: asyncpg.Record) -> Job:
    return Job(
        job_id=row["job_id"],
        created_at=row["created_at"],
        name=row["name"],
        seeds=_seeds(row["seeds"]),
        options=_options(row["options"]),
        status=JobStatus(row["status"]),
        start_confirmed=row["start_confirmed"],
        revision=row["revision"],
        document_count=row["document_count"],
        pages=PageCounts(
            row["pending"], row["running"], row["completed"], row["failed"], row["skipped"], row["cancelled"]
        ),
        crawler_pages=row["crawler_pages"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        updated_at=row["updated_at"],
        error=row["error"],
        stalled_since=row["stalled_since"],
        change_revision=row["change_revision"],
        change_confirmed=row["change_confirmed"],
        retry_of=row["retry_of"],
        deleted_at=row["deleted_at"],
    )


# The same few jobs come with every batch.
@lru_cache(maxsize=256)
def _seeds(text: str) -> tuple[str, ...]:
    return tuple(from_json(text))


@lru_cache(maxsize=256)
def _options(text: str) -> CrawlOptions:
    return CrawlOptions.model_validate_json(text)
