"""The crawler's tables: one function per named query. The caller owns the transaction."""

from base64 import b64encode
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json
from tallyho_contracts.crawls import CrawlOptions, Render
from tallyho_contracts.documents import Change, StoredDocument
from tallyho_postgres import named_sql
from tallyho_postgres.pool import Connection

from crawler import urls
from crawler.frontier import CrawlJob, FoundPage, Lane, Postponed, QueuedPage, Visit, slot_of

SQL = named_sql.load("crawler", "frontier.sql")

# What is stored of a document as it is.
_COLUMNS: tuple[str, ...] = (
    *("title", "content", "links", "content_hash", "status_code", "content_type", "etag", "last_modified"),
    *("description", "language", "metadata"),
)
# Each can be large, and most of a long list may not fit into the reply.
DOCUMENTS_READ_AHEAD = 10


async def register_worker(connection: Connection, worker_id: UUID, lease: timedelta) -> int:
    """Prolong the lease of a worker and of all it holds; returns how many other workers live."""
    others: int = await connection.fetchval(SQL["register_worker"], worker_id, lease)
    return others


async def remove_worker(connection: Connection, worker_id: UUID) -> None:
    """End the lease of a worker and of all it holds."""
    await connection.execute(SQL["remove_worker"], worker_id)


async def claim_lanes(
    connection: Connection, worker_id: UUID, *, lanes: int, lanes_per_origin: int, render: Render
) -> list[Lane]:
    """Lease the slots of up to `lanes` lanes with due pages, of the jobs that want their pages rendered so."""
    rows = await connection.fetch(SQL["claim_lanes"], worker_id, lanes, lanes_per_origin, render)
    return [
        Lane(
            row["job_id"],
            row["origin"],
            row["slot"],
            row["epoch"],
            CrawlOptions.model_validate_json(row["options"]),
        )
        for row in rows
    ]


async def pages_of_lanes(
    connection: Connection, lanes: Sequence[Lane], *, limit: int
) -> list[tuple[Lane, list[QueuedPage]]]:
    """Each leased lane with its first `limit` pages that are due."""
    pages = {(lane.job_id, lane.origin, lane.slot): (lane, list[QueuedPage]()) for lane in lanes}
    for row in await connection.fetch(SQL["pages_of_lanes"], *_lane_columns(lanes), limit):
        lane, queued = pages[row["job_id"], row["origin"], row["slot"]]
        queued.append(
            QueuedPage(lane, row["depth"], row["seq"], row["page_id"], row["url"], row["redirects"], row["attempts"])
        )
    return list(pages.values())


async def reserve_fetch(connection: Connection, origin: str, *, within: float) -> float | None:
    """Reserve the next request to an origin with a delay; returns the seconds to wait, None when it is too far off."""
    wait: float | None = await connection.fetchval(SQL["reserve_fetch"], origin, timedelta(seconds=within))
    return wait


async def hold_origin(connection: Connection, origin: str, seconds: float) -> None:
    """Send nothing more to an origin for some time."""
    await connection.execute(SQL["hold_origin"], origin, timedelta(seconds=seconds))


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


async def lock_jobs(connection: Connection, job_ids: Collection[UUID]) -> list[CrawlJob]:
    """Lock jobs in the order of their ids."""
    return [
        CrawlJob(
            job_id=row["job_id"],
            status=row["status"],
            options=CrawlOptions.model_validate_json(row["options"]),
            sites=frozenset(row["sites"]),
            admitted=row["admitted"],
            pages=row["pages"],
            level=row["level"],
        )
        for row in await connection.fetch(SQL["lock_jobs"], sorted(job_ids))
    ]


async def close_pages(connection: Connection, visits: Sequence[Visit]) -> list[Visit]:
    """Close the pages of visits; returns the visits whose page this transaction closed."""
    if not visits:
        return []
    rows = await connection.fetch(SQL["close_pages"], _json([_fenced(visit.page) for visit in visits]))
    closed = {(row["job_id"], row["page_id"], row["epoch"]) for row in rows}
    return [visit for visit in visits if (visit.page.lane.job_id, visit.page.page_id, visit.page.lane.epoch) in closed]


async def retry_pages(connection: Connection, postponed: Sequence[Postponed]) -> None:
    """Put pages back to be fetched later."""
    if postponed:
        rows = [{**_fenced(retry.page), "delay": retry.delay} for retry in postponed]
        await connection.execute(SQL["retry_pages"], _json(rows))


async def save_documents(connection: Connection, visits: Sequence[Visit], *, at: datetime) -> dict[UUID, Change]:
    """Save the document of each visit that has one, and note it as its job's; returns what changed, by document id."""
    saved = [(visit.page, visit.document, urls.document_id(visit.page.url)) for visit in visits if visit.document]
    if not saved:
        return {}
    rows = {
        document_id: {
            "document_id": document_id,
            "url": page.url,
            "html": None if document.html is None else b64encode(document.html).decode(),
            **{name: getattr(document, name) for name in _COLUMNS},
        }
        for page, document, document_id in saved
    }
    changes = await connection.fetch(SQL["save_documents"], _json(list(rows.values())), at)
    await connection.execute(
        SQL["add_job_documents"],
        [page.lane.job_id for page, _, _ in saved],
        [document_id for _, _, document_id in saved],
    )
    return {row["document_id"]: Change(row["change"]) for row in changes}


async def list_job_documents(connection: Connection, job_id: UUID, *, after: UUID | None, limit: int) -> list[UUID]:
    """The documents saved for a job after document `after`, by id."""
    return [row["document_id"] for row in await connection.fetch(SQL["list_job_documents"], job_id, after, limit)]


async def get_documents(
    connection: Connection, document_ids: Sequence[UUID]
) -> AsyncGenerator[tuple[int, StoredDocument]]:
    """The stored ones of these documents in their order, each with its index, read as they are taken."""
    async for row in connection.cursor(SQL["get_documents"], document_ids, prefetch=DOCUMENTS_READ_AHEAD):
        fields = dict(row) | {"links": from_json(row["links"]), "metadata": from_json(row["metadata"])}
        yield fields.pop("place") - 1, StoredDocument.model_validate(fields)


async def get_html(connection: Connection, document_id: UUID) -> bytes | None:
    """The compressed source of a document; None where it was not kept."""
    html: bytes | None = await connection.fetchval(SQL["get_html"], document_id)
    return html


async def mark_seen(connection: Connection, found: Sequence[FoundPage]) -> set[UUID]:
    """Remember URLs as met in their job; returns the page ids of those that were new."""
    if not found:
        return set()
    columns = [page.job_id for page in found], [page.page_id for page in found]
    return {row["page_id"] for row in await connection.fetch(SQL["mark_seen"], *columns)}


async def take_waiting(connection: Connection, job_id: UUID, limit: int) -> list[FoundPage]:
    """Take the URLs of a job that have waited longest for a place in its budget."""
    rows = await connection.fetch(SQL["take_waiting"], job_id, limit)
    return [
        FoundPage(job_id, row["page_id"], row["url"], row["depth"], row["redirects"])
        for row in sorted(rows, key=lambda row: row["seq"])
    ]


async def add_waiting(connection: Connection, pages: Sequence[FoundPage]) -> None:
    """Let URLs wait for a place in their job's budget."""
    if pages:
        await connection.execute(SQL["add_waiting"], _json([_found(n, page) for n, page in enumerate(pages)]))


async def add_origins(
    connection: Connection, pages: Sequence[FoundPage], *, host_concurrency: int, host_delay: float
) -> None:
    """Make the origins of pages known, with their slots."""
    if pages:
        origins = [urls.origin(page.url) for page in pages]
        slots = [slot_of(page.page_id, host_concurrency) for page in pages]
        await connection.execute(SQL["add_origins"], origins, slots, timedelta(seconds=host_delay))


async def enqueue_pages(connection: Connection, pages: Sequence[FoundPage], *, host_concurrency: int) -> None:
    """Add pages to the queue, in the lanes of their origins, which are known."""
    if pages:
        rows = [_placed(n, page, host_concurrency) for n, page in enumerate(pages)]
        await connection.execute(SQL["enqueue_pages"], _json(rows))


async def lift_pages(connection: Connection, pages: Sequence[FoundPage], *, host_concurrency: int) -> None:
    """Move queued pages that were found again at a lesser depth up to it."""
    if pages:
        rows = [_placed(n, page, host_concurrency) for n, page in enumerate(pages)]
        await connection.execute(SQL["lift_pages"], _json(rows))


async def advance_job(
    connection: Connection, job: CrawlJob, *, admitted: int, pages: int, sites: frozenset[str]
) -> None:
    """Add to a locked job's counters; go on to its next level when the present one is finished."""
    level = job.level
    if level is not None:
        level = max(level, await connection.fetchval(SQL["first_level"], job.job_id) or 0)
    await connection.execute(SQL["advance_job"], job.job_id, admitted, pages, sorted(sites), level)
    if level != job.level:
        await connection.execute(SQL["wake_lanes"], job.job_id)


async def settle_lanes(connection: Connection, lanes: Sequence[Lane]) -> None:
    """Give back the slots of served lanes, and say when each lane is due again. Their jobs are locked."""
    if lanes:
        await connection.execute(SQL["settle_lanes"], *_lane_columns(lanes))
        origins, slots = [lane.origin for lane in lanes], [lane.slot for lane in lanes]
        await connection.execute(SQL["release_slots"], origins, slots, [lane.epoch for lane in lanes])


async def start_job(
    connection: Connection, job_id: UUID, *, revision: int, options: CrawlOptions, sites: Iterable[str]
) -> str | None:
    """Store a job's rules, once; returns its status, or None when it was started before."""
    level = None if options.max_depth is None else 0
    status: str | None = await connection.fetchval(
        SQL["start_job"], job_id, revision, options.model_dump_json(), sorted(sites), level
    )
    return status


async def set_status(connection: Connection, job_id: UUID, status: str, *, revision: int) -> None:
    """Obey a command, unless a newer one was obeyed."""
    await connection.execute(SQL["set_status"], job_id, status, revision)


async def cancel_pages(connection: Connection, job_id: UUID, *, limit: int) -> list[UUID]:
    """Close up to `limit` pages of a locked, cancelled job; returns their ids."""
    return [row["page_id"] for row in await connection.fetch(SQL["cancel_pages"], job_id, limit)]


async def forget_waiting(connection: Connection, job_id: UUID) -> None:
    """Drop what a cancelled job has besides its pages."""
    await connection.execute(SQL["forget_waiting"], job_id)


def _lane_columns(lanes: Sequence[Lane]) -> tuple[list[UUID], list[str], list[int]]:
    return [lane.job_id for lane in lanes], [lane.origin for lane in lanes], [lane.slot for lane in lanes]


def _fenced(page: QueuedPage) -> Mapping[str, object]:
    lane = page.lane
    return {
        "job_id": lane.job_id,
        "origin": lane.origin,
        "slot": lane.slot,
        "depth": page.depth,
        "seq": page.seq,
        "epoch": lane.epoch,
    }


def _found(position: int, page: FoundPage) -> dict[str, Any]:
    return {
        "position": position,
        "job_id": page.job_id,
        "page_id": page.page_id,
        "url": page.url,
        "depth": page.depth,
        "redirects": page.redirects,
    }


def _placed(position: int, page: FoundPage, host_concurrency: int) -> dict[str, Any]:
    slot = slot_of(page.page_id, host_concurrency)
    return {**_found(position, page), "origin": urls.origin(page.url), "slot": slot}


def _json(value: object) -> str:
    return to_json(value).decode()


async def measure_frontier(connection: Connection) -> dict[str, int]:
    """How many pages are still to be fetched, by state."""
    return {row["state"]: row["pages"] for row in await connection.fetch(SQL["measure_frontier"])}
