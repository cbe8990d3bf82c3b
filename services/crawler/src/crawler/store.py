"""The frontier's tables: one function per named query. The caller owns the transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic_core import to_json
from tallyho_contracts.crawls import CrawlOptions, Render
from tallyho_postgres import named_sql
from tallyho_postgres.pool import Connection

from crawler import urls
from crawler.frontier import (
    CrawlJob,
    FoundPage,
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
) | {"plan_cache_mode": "force_generic_plan"}  # so a second look at the parameters finds nothing better

# A longer queue is measured by a sample of about as many pages: 40 are in a block.
COUNTED_PAGES, SAMPLED_BLOCKS = 20_000, 500


async def register_worker(connection: Connection, worker_id: UUID, lease: timedelta, render: Render = "none") -> int:
    """Prolong the lease of a worker and of all it holds; returns how many others of its kind live."""
    others: int = await connection.fetchval(SQL["register_worker"], worker_id, lease, render)
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
        rows = [
            {**_fenced(retry.page), "attempts": retry.page.attempts + 1, "delay": retry.delay} for retry in postponed
        ]
        await connection.execute(SQL["retry_pages"], _json(rows))


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


def _json(value: object) -> str:
    return to_json(value).decode()


async def measure_frontier(connection: Connection) -> dict[str, int]:
    """How many pages are still to be fetched, by state: counted while they are few, else estimated from a sample."""
    share: float = await connection.fetchval(SQL["frontier_sample"], COUNTED_PAGES, SAMPLED_BLOCKS)
    return {row["state"]: row["pages"] for row in await connection.fetch(SQL["measure_frontier"], share)}
