"""What the crawler does when it claims pages and when their visits are finished, each in one transaction."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import time_ns
from uuid import UUID

from tallyho_contracts.documents import Change
from tallyho_contracts.logs import LogLevel
from tallyho_contracts.pages import Outcome
from tallyho_postgres import outbox
from tallyho_postgres.outbox import OutboxEvent
from tallyho_postgres.pool import Connection
from tallyho_process.traces import record

from crawler import documents, jobs, ledger, metrics, store, urls
from crawler.deps import Deps
from crawler.events import document_saved, page_finished, pages_started
from crawler.findings import findings
from crawler.frontier import (
    BEYOND,
    BUDGET,
    CrawlJob,
    FoundPage,
    KeptDocument,
    Lane,
    Postponed,
    QueuedPage,
    Visit,
    room,
    within_budget,
)
from crawler.growth import Growth, add_origins, grow, plan_growth

# What one transaction takes, at least: with more, it holds up others, and may end at the time that a statement has.
GROUP_PAGES = 100
GROUP_LINKS = 20_000


@dataclass
class Work:
    """What a worker has done since it last said so. `links` are those of the visits that were added one by one."""

    visits: list[Visit] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)
    served: list[Lane] = field(default_factory=list)
    links: int = 0

    def add(self, visit: Visit) -> None:
        """Add a visit."""
        self.visits.append(visit)
        self.links += len(visit.found.urls)

    @property
    def job_ids(self) -> set[UUID]:
        """The jobs that it concerns."""
        done: list[Visit | Postponed] = [*self.visits, *self.postponed]
        return {lane.job_id for lane in [*(one.page.lane for one in done), *self.served]}

    @property
    def is_full(self) -> bool:
        """Whether it is as much as one transaction takes."""
        return len(self.visits) >= GROUP_PAGES or self.links >= GROUP_LINKS

    def parts(self) -> Iterator["Work"]:
        """Divide it among transactions; what is put back and given back is so with the last."""
        part = Work()
        for visit in self.visits:
            if part.is_full:
                yield part
                part = Work()
            part.add(visit)
        yield replace(part, postponed=self.postponed, served=self.served)


async def claim(
    deps: Deps, worker_id: UUID, *, lanes: int, lanes_per_origin: int, pages_per_lane: int
) -> list[tuple[Lane, list[QueuedPage]]]:
    """Lease lanes with due pages, and tell that these pages are started."""
    async with deps.pool.acquire() as connection, connection.transaction():
        leased = await store.claim_lanes(
            connection, worker_id, lanes=lanes, lanes_per_origin=lanes_per_origin, render=deps.render
        )
        if not leased:
            return []
        claimed = await store.pages_of_lanes(connection, leased, limit=pages_per_lane)
        ids = {page.page_id: urls.document_id(page.url) for page in _pages(claimed)}
        known = await documents.known_documents(connection, ids.values())
        events = pages_started(_pages(claimed), deps.now())
        await outbox.add(connection, events)
    deps.relay.offer(events)
    return [
        (lane, [replace(page, known=one) if (one := known.get(ids[page.page_id])) else page for page in pages])
        for lane, pages in claimed
    ]


def _pages(claimed: Sequence[tuple[Lane, list[QueuedPage]]]) -> list[QueuedPage]:
    return [page for _, pages in claimed for page in pages]


async def on_work(deps: Deps, work: Work) -> None:
    """Close the visited pages, save their documents, add what they found to the frontier, and tell of it all."""
    now, started_ns = deps.now(), time_ns()
    events: list[OutboxEvent] = []
    async with deps.pool.acquire() as connection, connection.transaction():
        by_job = await _close(connection, work)
        closed = [visit for _, visits in by_job for visit in visits]
        changes = await _save(connection, closed, now)
        growths = [
            await plan_growth(connection, job, visits, findings(job, visits, deps.known_urls, deps.skipped_urls))
            for job, visits in by_job
            if visits
        ]
        await add_origins(deps, connection, [page for growth in growths for page in growth.admission.joining])
        for growth in growths:
            events += _events(growth, await grow(deps, connection, growth), changes, now)
        await outbox.add(connection, events)
        await store.settle_lanes(connection, work.served)
    for growth in growths:
        deps.known_urls.add((growth.job.job_id, url) for url in growth.found.found)
        deps.skipped_urls.add((growth.job.job_id, url) for url in growth.found.skipped)
    deps.relay.offer(events)
    metrics.closed(closed)
    for visit in closed:
        if visit.traceparent:
            record("save page", visit.traceparent, started_ns, job=str(visit.page.lane.job_id))
    _tell(deps, closed, work.postponed)
    _tell_of_budgets(deps, growths)


async def _close(connection: Connection, work: Work) -> list[tuple[CrawlJob, list[Visit]]]:
    """Lock the jobs that work concerns, close its pages, and put the others back; returns the closed ones by job."""
    locked = await store.lock_jobs(connection, work.job_ids)
    visits, deleted = await _with_their_documents(connection, work.visits)
    closed = await store.close_pages(connection, visits)
    await store.retry_pages(connection, [*work.postponed, *deleted])
    return [
        (job, within_budget(job, [visit for visit in closed if visit.page.lane.job_id == job.job_id])) for job in locked
    ]


async def _save(connection: Connection, closed: Sequence[Visit], now: datetime) -> dict[UUID, Change]:
    """Save what closed visits brought, and note what they did not; returns what each page changed."""
    changes = await documents.save_documents(connection, closed, at=now)
    gone = [urls.document_id(visit.page.url) for visit in closed if visit.reason == "gone"]
    await documents.mark_documents_gone(connection, gone, at=now)
    await jobs.note_failed(connection, closed)
    await ledger.note_beyond(connection, closed)
    return changes


def _events(
    growth: Growth, spawned: Mapping[UUID, Sequence[FoundPage]], changes: Mapping[UUID, Change], now: datetime
) -> list[OutboxEvent]:
    events: list[OutboxEvent] = []
    job_pages = growth.job.pages + sum(map(len, spawned.values()))
    for visit in growth.visits:
        page_id = visit.page.page_id
        change = changes.get(page_id, Change.UNCHANGED)
        skipped_links = growth.found.skipped_links.get(page_id, Counter())
        if visit.beyond:
            skipped_links[BEYOND] = visit.beyond
        events += document_saved(visit, change, now)
        events.append(
            page_finished(
                visit,
                change,
                spawned=spawned.get(page_id, []),
                skipped_links=skipped_links,
                job_pages=job_pages,
                now=now,
            )
        )
    return events


async def _with_their_documents(connection: Connection, visits: Sequence[Visit]) -> tuple[list[Visit], list[Postponed]]:
    """Set apart the visits whose page was unchanged, but whose document has been deleted since: it is to be fetched."""
    kept = {
        visit.page.page_id: urls.document_id(visit.page.url)
        for visit in visits
        if isinstance(visit.document, KeptDocument)
    }
    held = await documents.hold_documents(connection, kept.values())
    deleted = {page_id for page_id, document_id in kept.items() if document_id not in held}
    return (
        [visit for visit in visits if visit.page.page_id not in deleted],
        [Postponed(visit.page, 0.0, "document_deleted") for visit in visits if visit.page.page_id in deleted],
    )


def _tell(deps: Deps, visits: Sequence[Visit], postponed: Sequence[Postponed]) -> None:
    """Tell people who watch what did not go well."""
    for visit in visits:
        job_id, url = visit.page.lane.job_id, urls.redacted(visit.page.url)
        if visit.reason == "robots":
            deps.say(job_id, LogLevel.INFO, "page not visited: robots.txt disallows it", url=url)
        elif visit.outcome is Outcome.FAILED:
            message = f"page failed: {visit.reason}"
            deps.say(job_id, LogLevel.WARNING, message, url=url, reason=visit.reason, status_code=visit.status_code)
    for one in postponed:
        message, seconds = f"page is tried again: {one.reason}", round(one.delay, 1)
        deps.say(
            one.page.lane.job_id,
            LogLevel.INFO,
            message,
            url=urls.redacted(one.page.url),
            reason=one.reason,
            seconds=seconds,
        )


def _tell_of_budgets(deps: Deps, growths: Sequence[Growth]) -> None:
    for growth in growths:
        is_short = any(skipped[BUDGET] for skipped in growth.found.skipped_links.values())
        if room(growth.job, growth.visits) and is_short:
            message = f"the budget of {growth.job.options.max_pages} documents, or of pages for them, is spoken for"
            deps.say(growth.job.job_id, LogLevel.INFO, message)
