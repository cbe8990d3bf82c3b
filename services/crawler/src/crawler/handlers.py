"""What the crawler does with finished visits and with the tracker's commands, each in one transaction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import time_ns
from uuid import UUID

from tallyho_contracts.crawls import (
    CrawlCancel,
    CrawlChange,
    CrawlChanged,
    CrawlDelete,
    CrawlPause,
    CrawlResume,
    CrawlStart,
    CrawlStarted,
    CrawlStopped,
    RejectedSeed,
    Render,
)
from tallyho_contracts.documents import Change
from tallyho_contracts.logs import LogLevel
from tallyho_contracts.pages import Outcome
from tallyho_messaging.wire import AnyEvent
from tallyho_postgres import outbox
from tallyho_postgres.outbox import OutboxEvent
from tallyho_postgres.pool import Connection
from tallyho_process.traces import record

from crawler import host_budgets, jobs, ledger, metrics, store, urls
from crawler.deps import Deps
from crawler.events import crawl_event, document_saved, page_closed, page_finished, pages_started, spawned_pages
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
    Step,
    Visit,
    room,
    within_budget,
)
from crawler.growth import add_origins, admit, grow, join

CLOSED_AT_ONCE = 1_000


@dataclass
class Work:
    """What a worker has done since it last said so."""

    visits: list[Visit] = field(default_factory=list)
    postponed: list[Postponed] = field(default_factory=list)
    served: list[Lane] = field(default_factory=list)

    @property
    def job_ids(self) -> set[UUID]:
        """The jobs that it concerns."""
        done: list[Visit | Postponed] = [*self.visits, *self.postponed]
        return {lane.job_id for lane in [*(one.page.lane for one in done), *self.served]}


async def claim(
    deps: Deps, worker_id: UUID, *, lanes: int, lanes_per_origin: int, pages_per_lane: int
) -> list[tuple[Lane, list[QueuedPage]]]:
    """Lease lanes with due pages, and tell that these pages are started."""
    async with deps.pool.acquire() as connection, connection.transaction():
        render: Render = "browser" if deps.renders else "none"
        leased = await store.claim_lanes(
            connection, worker_id, lanes=lanes, lanes_per_origin=lanes_per_origin, render=render
        )
        if not leased:
            return []
        claimed = await store.pages_of_lanes(connection, leased, limit=pages_per_lane)
        known = await store.known_documents(connection, [urls.document_id(page.url) for page in _pages(claimed)])
        events = pages_started(_pages(claimed), deps.now())
        await outbox.add(connection, events)
    deps.relay.offer(events)
    return [
        (lane, [replace(page, known=known.get(urls.document_id(page.url))) for page in pages])
        for lane, pages in claimed
    ]


def _pages(claimed: Sequence[tuple[Lane, list[QueuedPage]]]) -> list[QueuedPage]:
    return [page for _, pages in claimed for page in pages]


async def on_work(deps: Deps, work: Work) -> None:
    """Close the visited pages, save their documents, add what they found to the frontier, and tell of it all."""
    now, started_ns = deps.now(), time_ns()
    events: list[OutboxEvent] = []
    known: list[tuple[UUID, str]] = []
    skipped: list[tuple[UUID, str]] = []
    async with deps.pool.acquire() as connection, connection.transaction():
        locked = await store.lock_jobs(connection, work.job_ids)
        visits, deleted = await _with_their_documents(connection, work.visits)
        closed = await store.close_pages(connection, visits)
        await store.retry_pages(connection, [*work.postponed, *deleted])
        by_job = [
            (job, within_budget(job, [visit for visit in closed if visit.page.lane.job_id == job.job_id]))
            for job in locked
        ]
        closed = [visit for _, visits in by_job for visit in visits]
        changes = await store.save_documents(connection, closed, at=now)
        gone = [urls.document_id(visit.page.url) for visit in closed if visit.reason == "gone"]
        await store.mark_documents_gone(connection, gone, at=now)
        await jobs.note_failed(connection, closed)
        await ledger.note_beyond(connection, closed)
        finds = [
            (job, visits, findings(job, visits, deps.known_urls, deps.skipped_urls)) for job, visits in by_job if visits
        ]
        await add_origins(deps, connection, [page for _, _, found in finds for page in found.found.values()])
        for job, visits, found in finds:
            spawned = await grow(deps, connection, job, visits, found)
            known += [(job.job_id, url) for url in found.found]
            skipped += [(job.job_id, url) for url in found.skipped]
            for visit in visits:
                change = changes.get(urls.document_id(visit.page.url), Change.UNCHANGED)
                skipped_links = found.skipped_links.get(visit.page.page_id, Counter())
                if visit.beyond:
                    skipped_links[BEYOND] = visit.beyond
                events += document_saved(visit, change, now)
                events.append(
                    page_finished(
                        visit,
                        change,
                        spawned=spawned.get(visit.page.page_id, []),
                        skipped_links=skipped_links,
                        job_pages=job.pages + sum(map(len, spawned.values())),
                        now=now,
                    )
                )
        await outbox.add(connection, events)
        await store.settle_lanes(connection, work.served)
    deps.known_urls.add(known)
    deps.skipped_urls.add(skipped)
    deps.relay.offer(events)
    metrics.closed(closed)
    for visit in closed:
        if visit.traceparent:
            record("save page", visit.traceparent, started_ns, job=str(visit.page.lane.job_id))
    _tell(deps, closed, work.postponed)
    for job, visits, found in finds:
        places = room(job, visits)
        if places and any(skipped[BUDGET] for skipped in found.skipped_links.values()):
            deps.say(job.job_id, LogLevel.INFO, f"the budget of {job.options.max_pages} documents is spoken for")


async def _with_their_documents(connection: Connection, visits: Sequence[Visit]) -> tuple[list[Visit], list[Postponed]]:
    """Set apart the visits whose page was unchanged, but whose document has been deleted since: it is to be fetched."""
    kept = {
        visit.page.page_id: urls.document_id(visit.page.url)
        for visit in visits
        if isinstance(visit.document, KeptDocument)
    }
    held = await store.hold_documents(connection, kept.values())
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


async def on_commands(deps: Deps, events: Sequence[AnyEvent]) -> None:
    """Obey the tracker's commands, one at a time."""
    for event in events:
        match event.data:
            case CrawlStart() as start:
                await start_crawl(deps, start)
            case CrawlPause() as pause:
                await set_status(deps, pause.job_id, "paused", pause.revision)
            case CrawlResume() as resume:
                await set_status(deps, resume.job_id, "running", resume.revision)
            case CrawlChange() as change:
                await change_crawl(deps, change)
            case CrawlCancel() as cancel:
                await cancel_crawl(deps, cancel)
            case CrawlDelete() as delete:
                await delete_crawl(deps, delete)
            case _:
                raise TypeError(f"{event.type} is no command to the crawler")


async def start_crawl(deps: Deps, start: CrawlStart) -> None:
    """Store a job and its seeds, and confirm it with their pages; once, however often the command comes.

    One that retries another starts with that one's failed pages instead, and knows what that one has met.
    """
    seeds, rejected = ([], ()) if start.retry_of else _seeds(start)
    unfit = [(page, "invalid") for page in {_as_page(start.job_id, seed.url) for seed in rejected}]
    async with deps.pool.acquire() as connection, connection.transaction():
        sites, retry_of = await _origin_of(connection, start, seeds)
        status = await jobs.start_job(
            connection, start.job_id, revision=start.revision, options=start.options, sites=sites, retry_of=retry_of
        )
        if status is None:
            return
        [job] = await store.lock_jobs(connection, [start.job_id])
        pages = [] if status == "cancelled" else seeds
        unfit += [(seed, "cancelled") for seed in seeds if not pages]
        if job.options.max_host_pages is not None:
            hosts = Counter(urls.site(page.url) for page in pages)
            await host_budgets.add_host_pages(connection, start.job_id, hosts)
        admission = await admit(connection, job, [], pages)
        await _prepare_origins(deps, connection, job, pages)
        number = len(admission.joining)
        step = Step(job.sites, admission.retry_after, admitted=number, pages=number, waits=bool(admission.waiting))
        await join(deps, connection, job, admission, step, skipped=unfit)
        started = CrawlStarted(parent_job_id=start.job_id, pages=spawned_pages(admission.joining), rejected=rejected)
        event = crawl_event(started, start.job_id, deps.now())
        await outbox.add(connection, [event])
    deps.relay.offer([event])
    for seed in rejected:
        deps.say(start.job_id, LogLevel.WARNING, f"seed rejected: {seed.reason}", url=urls.redacted(seed.url))


async def _origin_of(
    connection: Connection, start: CrawlStart, seeds: Sequence[FoundPage]
) -> tuple[set[str], list[UUID]]:
    """The sites of a job that starts, and the jobs that it retries, the nearest first."""
    if start.retry_of is None:
        return {urls.site(page.url) for page in seeds if not page.is_list}, []
    sites, before = await jobs.get_retried(connection, start.retry_of) or ([], [])
    return set(sites), [start.retry_of, *before]


async def _prepare_origins(deps: Deps, connection: Connection, job: CrawlJob, pages: Sequence[FoundPage]) -> None:
    await add_origins(deps, connection, pages)
    if job.retry_of:
        await jobs.add_failed_origins(
            connection, job.retry_of[0], host_concurrency=deps.host_concurrency, host_delay=deps.host_delay
        )


async def change_crawl(deps: Deps, change: CrawlChange) -> None:
    """Let other rules hold for a job, and confirm it with the pages that join for a larger budget."""
    async with deps.pool.acquire() as connection, connection.transaction():
        if not await jobs.change_options(connection, change.job_id, change.options, revision=change.revision):
            return
        [job] = await store.lock_jobs(connection, [change.job_id])
        admission = await admit(connection, job, [], [])
        number = len(admission.joining)
        # Whether what is left is to be closed is decided anew: a larger budget goes on where a smaller one ended.
        open_again = replace(job, closing=job.status == "cancelled")
        step = Step(job.sites, admission.retry_after, admitted=number, pages=number)
        await join(deps, connection, open_again, admission, step)
        await jobs.renew_pace(connection, change.job_id)
        joined = spawned_pages(admission.joining)
        changed = CrawlChanged(parent_job_id=change.job_id, revision=change.revision, pages=joined)
        event = crawl_event(changed, change.job_id, deps.now())
        await outbox.add(connection, [event])
    deps.relay.offer([event])
    deps.closing.set()


def _seeds(start: CrawlStart) -> tuple[list[FoundPage], tuple[RejectedSeed, ...]]:
    pages: dict[str, FoundPage] = {}
    rejected: list[RejectedSeed] = []
    named = [(seed, False) for seed in start.seeds] + [(seed, True) for seed in start.options.url_lists]
    for seed, is_list in named:
        url = urls.canonical(seed)
        if url is not None and not is_list and start.options.drop_tracking:
            url = urls.without_tracking(url)
        if url is None:
            rejected.append(RejectedSeed(url=seed, reason="not an http(s) URL"))
        else:
            pages[url] = _as_page(start.job_id, url, is_list=is_list)
    return list(pages.values()), tuple(rejected)


def _as_page(job_id: UUID, url: str, *, is_list: bool = False) -> FoundPage:
    return FoundPage(job_id, urls.page_id(job_id, url), url, depth=0, is_list=is_list)


async def set_status(deps: Deps, job_id: UUID, status: str, revision: int) -> None:
    """Pause or resume a job: its lanes are claimed only while it is running."""
    async with deps.pool.acquire() as connection:
        await jobs.set_status(connection, job_id, status, revision=revision)


async def cancel_crawl(deps: Deps, cancel: CrawlCancel) -> None:
    """Close all pages of a job and name them: the first at once, the others by and by, so that no command has to wait.

    A page under way is closed with the others: its visit will find it gone.
    """
    async with deps.pool.acquire() as connection:
        await jobs.set_status(connection, cancel.job_id, "cancelled", revision=cancel.revision)
    await close_some(deps, cancel.job_id)
    deps.closing.set()


async def delete_crawl(deps: Deps, delete: CrawlDelete) -> None:
    """Forget a job that has ended, in the background."""
    async with deps.pool.acquire() as connection:
        await jobs.delete_job(connection, delete.job_id, revision=delete.revision)


async def close_some(deps: Deps, job_id: UUID) -> bool:
    """Close some of the pages left in the queue of a job that is being closed; whether more may be left."""
    now = deps.now()
    async with deps.pool.acquire() as connection, connection.transaction():
        locked = await store.lock_jobs(connection, [job_id])
        if not locked or not locked[0].closing:
            return False
        pages = await jobs.remove_pages(connection, job_id, limit=CLOSED_AT_ONCE)
        if locked[0].status == "cancelled":
            page_ids = tuple(page.page_id for page in pages)
            events = [crawl_event(CrawlStopped(parent_job_id=job_id, page_ids=page_ids), job_id, now)]
        else:
            events = [page_closed(page, BUDGET, now) for page in pages]
        more = len(pages) == CLOSED_AT_ONCE
        await jobs.note_closed(connection, job_id, len(pages), closing=more)
        if not more:
            await jobs.forget_lanes(connection, job_id)
        await outbox.add(connection, events)
    deps.relay.offer(events)
    return more
