"""The crawler's tables: one function per named query. The caller owns the transaction."""

from base64 import b64encode
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json
from tallyho_contracts.crawls import CrawlOptions, Render
from tallyho_contracts.documents import Change, StoredDocument
from tallyho_postgres import named_sql
from tallyho_postgres.pool import Connection

from crawler import urls
from crawler.frontier import (
    CrawlJob,
    DocumentContent,
    FoundPage,
    KeptDocument,
    KnownDocument,
    Lane,
    Postponed,
    QueuedPage,
    Step,
    Visit,
    is_spent,
    slot_of,
)

SQL = named_sql.load("crawler", "frontier.sql")

# Every query looks up rows by an index, in its order: a plan that reads and sorts whole tables looks cheap while they
# are small, and is then kept while they grow.
PLANNER = dict.fromkeys(
    ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_sort"), "off"
)

# Each can be large, and most of a long list may not fit into the reply.
DOCUMENTS_READ_AHEAD = 10

# A longer queue is measured by a sample of about as many pages: 40 are in a block.
COUNTED_PAGES, SAMPLED_BLOCKS = 20_000, 500


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
            QueuedPage(
                lane,
                row["depth"],
                row["seq"],
                row["page_id"],
                row["url"],
                row["redirects"],
                row["attempts"],
                row["is_list"],
            )
        )
    return list(pages.values())


async def known_documents(connection: Connection, document_ids: Collection[UUID]) -> dict[UUID, KnownDocument]:
    """Those of the documents that were saved before, by id."""
    rows = await connection.fetch(SQL["known_documents"], list(document_ids))
    return {row["document_id"]: KnownDocument(row["etag"], row["last_modified"], row["made_by"]) for row in rows}


async def kept_document(connection: Connection, document_id: UUID) -> KeptDocument | None:
    """What a document says again that is unchanged, if it is stored."""
    row = await connection.fetchrow(SQL["kept_document"], document_id)
    if row is None:
        return None
    links, nofollow = (tuple(from_json(row[name])) for name in ("links", "nofollow"))
    return KeptDocument(row["title"], row["content_hash"], links, nofollow, row["links_beyond"])


async def hold_documents(connection: Connection, document_ids: Collection[UUID]) -> set[UUID]:
    """Keep documents from being deleted until the transaction ends; returns those that exist."""
    rows = await connection.fetch(SQL["hold_documents"], list(document_ids)) if document_ids else []
    return {row["document_id"] for row in rows}


async def mark_documents_gone(connection: Connection, document_ids: Collection[UUID], *, at: datetime) -> None:
    """Note that the pages of documents are gone; those that were never saved are ignored."""
    if document_ids:
        await connection.execute(SQL["mark_documents_gone"], sorted(document_ids), at)


async def reserve_fetch(connection: Connection, origin: str, *, within: float) -> float | None:
    """Reserve the next request to an origin with a delay; returns the seconds to wait, None when it is too far off."""
    wait: float | None = await connection.fetchval(SQL["reserve_fetch"], origin, timedelta(seconds=within))
    return wait


async def reserve_job_fetch(
    connection: Connection, job_id: UUID, origin: str, *, delay: float, within: float
) -> float | None:
    """Reserve a job's next request to an origin; returns the seconds to wait, None when it is too far off."""
    seconds = timedelta(seconds=delay), timedelta(seconds=within)
    wait: float | None = await connection.fetchval(SQL["reserve_job_fetch"], job_id, origin, *seconds)
    return wait


async def hold_origin(
    connection: Connection, origin: str, *, at_least: float, at_most: float, counts_at_once: bool
) -> float:
    """Send nothing more to an origin that is too busy, longer each time in a row; returns for how many seconds."""
    arguments = origin, timedelta(seconds=at_least), int(counts_at_once), at_most
    seconds: float | None = await connection.fetchval(SQL["hold_origin"], *arguments)
    return max(0.0, seconds or 0.0)


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
            saved=row["saved"],
            closing=row["closing"],
            waits=row["waits"],
            retry_of=tuple(row["retry_of"]),
            retry_after=row["retry_after"],
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
    of_pages = [(visit.page, visit.document, urls.document_id(visit.page.url)) for visit in visits if visit.document]
    if not of_pages:
        return {}
    saved = {id_: (page, document) for page, document, id_ in of_pages if isinstance(document, DocumentContent)}
    kept = {id_ for _, _, id_ in of_pages if id_ not in saved}
    rows = [_saved(id_, page, document) for id_, (page, document) in saved.items()]
    changes = await connection.fetch(SQL["save_documents"], _json(rows), at) if rows else []
    if kept:
        await connection.execute(SQL["keep_documents"], sorted(kept), at)
    job_ids, document_ids = [page.lane.job_id for page, _, _ in of_pages], [id_ for _, _, id_ in of_pages]
    await connection.execute(SQL["add_job_documents"], job_ids, document_ids)
    unchanged = dict.fromkeys(kept, Change.UNCHANGED)
    return unchanged | {row["document_id"]: Change(row["change"]) for row in changes}


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


async def take_waiting(connection: Connection, job_id: UUID, limit: int) -> list[FoundPage]:
    """Take the URLs of a job that have waited longest for a place in its budget."""
    rows = await connection.fetch(SQL["take_waiting"], job_id, limit)
    return [
        FoundPage(job_id, row["page_id"], row["url"], row["depth"], row["redirects"], row["is_list"])
        for row in sorted(rows, key=lambda row: row["seq"])
    ]


async def count_waiting(connection: Connection, job_id: UUID, *, limit: int) -> int:
    """How many URLs of a job wait for a place, counted up to `limit`."""
    waiting: int = await connection.fetchval(SQL["count_waiting"], job_id, limit)
    return waiting


async def add_waiting(connection: Connection, pages: Sequence[FoundPage]) -> None:
    """Let URLs wait for a place in their job's budget; that they were met is noted apart."""
    if pages:
        rows = ((page.job_id, page.page_id, page.redirects, page.is_list) for page in pages)
        await connection.execute(SQL["add_waiting"], *map(list, zip(*rows, strict=True)))


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


async def advance_job(connection: Connection, job: CrawlJob, step: Step) -> None:
    """Add to a locked job's counters; go on to its next level when the present one is finished."""
    level = job.level
    if level is not None:
        level = max(level, await connection.fetchval(SQL["first_level"], job.job_id) or 0)
    await connection.execute(
        SQL["advance_job"],
        job.job_id,
        step.admitted,
        step.pages,
        step.saved,
        step.waits,
        job.closing or is_spent(job.options, job.saved + step.saved, job.admitted + step.admitted),
        sorted(step.sites),
        step.retry_after,
        level,
    )
    if level != job.level:
        await connection.execute(SQL["wake_lanes"], job.job_id)


async def settle_lanes(connection: Connection, lanes: Sequence[Lane]) -> None:
    """Give back the slots of served lanes, and say when each lane is due again. Their jobs are locked."""
    if lanes:
        await connection.execute(SQL["settle_lanes"], *_lane_columns(lanes))
        origins, slots = [lane.origin for lane in lanes], [lane.slot for lane in lanes]
        await connection.execute(SQL["release_slots"], origins, slots, [lane.epoch for lane in lanes])


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


def _placed(position: int, page: FoundPage, host_concurrency: int) -> dict[str, Any]:
    return {
        "position": position,
        "job_id": page.job_id,
        "page_id": page.page_id,
        "url": page.url,
        "depth": page.depth,
        "redirects": page.redirects,
        "is_list": page.is_list,
        "origin": urls.origin(page.url),
        "slot": slot_of(page.page_id, host_concurrency),
    }


def _saved(document_id: UUID, page: QueuedPage, document: DocumentContent) -> Mapping[str, object]:
    return {
        "document_id": document_id,
        "url": page.url,
        "title": document.title,
        "content": document.content,
        "links": document.links,
        "nofollow": document.nofollow,
        "content_hash": document.content_hash,
        "status_code": document.status_code,
        "content_type": document.content_type,
        "etag": document.etag,
        "last_modified": document.last_modified,
        "description": document.description,
        "language": document.language,
        "metadata": document.metadata,
        "html": None if document.html is None else b64encode(document.html).decode(),
        "made_by": document.made_by,
        "links_beyond": document.links_beyond,
    }


def _json(value: object) -> str:
    return to_json(value).decode()


async def measure_frontier(connection: Connection) -> dict[str, int]:
    """How many pages are still to be fetched, by state: counted while they are few, else estimated from a sample."""
    share: float = await connection.fetchval(SQL["frontier_sample"], COUNTED_PAGES, SAMPLED_BLOCKS)
    return {row["state"]: row["pages"] for row in await connection.fetch(SQL["measure_frontier"], share)}
