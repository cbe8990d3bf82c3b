"""What the crawler does with finished visits and with the tracker's commands, each in one transaction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import time_ns
from uuid import UUID

from tallyho_contracts.crawls import (
    CrawlCancel,
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

from crawler import host_budgets, metrics, store, urls
from crawler.deps import Deps
from crawler.events import crawl_event, document_saved, page_finished, pages_started, spawned_pages
from crawler.frontier import (
    TRAP,
    CrawlJob,
    Findings,
    FoundPage,
    KeptDocument,
    Lane,
    Postponed,
    QueuedPage,
    Visit,
    findings,
    places_given_back,
    room,
)
from crawler.listing import within_hosts

CANCELLED_AT_ONCE = 1_000
# Of those that wait; the event that names them must fit into a message.
ADMITTED_AT_ONCE = 1_000


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
    async with deps.pool.acquire() as connection, connection.transaction():
        jobs = await store.lock_jobs(connection, work.job_ids)
        visits, deleted = await _with_their_documents(connection, work.visits)
        closed = await store.close_pages(connection, visits)
        await store.retry_pages(connection, [*work.postponed, *deleted])
        changes = await store.save_documents(connection, closed, at=now)
        gone = [urls.document_id(visit.page.url) for visit in closed if visit.reason == "gone"]
        await store.mark_documents_gone(connection, gone, at=now)
        by_job = [(job, [visit for visit in closed if visit.page.lane.job_id == job.job_id]) for job in jobs]
        finds = [(job, visits, findings(job, visits, deps.known_urls)) for job, visits in by_job if visits]
        await _add_origins(deps, connection, [page for _, _, found in finds for page in found.found.values()])
        for job, visits, found in finds:
            spawned = await _grow(deps, connection, job, visits, found)
            known += [(job.job_id, url) for url in found.found]
            for visit in visits:
                change = changes.get(urls.document_id(visit.page.url), Change.UNCHANGED)
                events += document_saved(visit, change, now)
                events.append(
                    page_finished(
                        visit,
                        spawned=spawned.get(visit.page.page_id, []),
                        skipped_links=found.skipped_links.get(visit.page.page_id, Counter()),
                        job_pages=job.pages + sum(map(len, spawned.values())),
                        now=now,
                    )
                )
        await outbox.add(connection, events)
        await store.settle_lanes(connection, work.served)
    deps.known_urls.add(known)
    deps.relay.offer(events)
    metrics.closed(closed)
    for visit in closed:
        if visit.traceparent:
            record("save page", visit.traceparent, started_ns, job=str(visit.page.lane.job_id))
    _tell(deps, closed, work.postponed)
    for job, visits, found in finds:
        places = room(job, visits)
        if places and any(skipped["budget"] for skipped in found.skipped_links.values()):
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


async def _add_origins(deps: Deps, connection: Connection, pages: Sequence[FoundPage]) -> None:
    """Make the origins of found pages known: of all jobs at once, or two transactions could each want the other's."""
    await store.add_origins(connection, pages, host_concurrency=deps.host_concurrency, host_delay=deps.host_delay)


async def _grow(
    deps: Deps, connection: Connection, job: CrawlJob, visits: Sequence[Visit], found: Findings
) -> dict[UUID, list[FoundPage]]:
    """Admit new pages of a job as far as its budget allows; returns them by the page that spawned them."""
    candidates = list(found.found.values())
    new = await store.mark_seen(connection, candidates)
    fresh = [page for page in candidates if page.page_id in new]
    fresh, trapped = await within_hosts(connection, job, fresh)
    admitted, refused = await _admit(connection, job, visits, fresh)
    await store.enqueue_pages(connection, admitted, host_concurrency=deps.host_concurrency)
    await store.add_waiting(connection, refused)
    if job.level is not None:
        redirected = [page for page in candidates if page.redirects and page.page_id not in new]
        await store.lift_pages(connection, redirected, host_concurrency=deps.host_concurrency)
    places = room(job, visits)
    without_place = refused if places is not None and len(admitted) >= places else []
    for reason, pages in (("budget", without_place), (TRAP, trapped)):
        for page in pages:
            found.skipped_links[found.finder[page.page_id]][reason] += 1
    await store.advance_job(
        connection,
        job,
        admitted=len(admitted) - places_given_back(visits),
        pages=len(admitted),
        sites=found.sites,
    )
    spawned: dict[UUID, list[FoundPage]] = {}
    for page in admitted:
        # A page that waited was found by another visit; it joins the job with the visit that made room.
        spawned.setdefault(found.finder.get(page.page_id, visits[-1].page.page_id), []).append(page)
    return spawned


async def _admit(
    connection: Connection, job: CrawlJob, visits: Sequence[Visit], fresh: list[FoundPage]
) -> tuple[list[FoundPage], list[FoundPage]]:
    """Split found pages into those that get a place and those that must wait; who waits already comes first.

    Many that wait (a list was read) join the job some at a time: whatever is closed lets more in, until none waits.
    """
    places = room(job, visits)
    if job.status == "cancelled":
        return fresh, []
    most = ADMITTED_AT_ONCE if places is None else min(places, ADMITTED_AT_ONCE)
    waited = await store.take_waiting(connection, job.job_id, most) if most > 0 else []
    if len(waited) == ADMITTED_AT_ONCE:
        return waited, fresh
    if places is None:
        return [*waited, *fresh], []
    free = max(0, places - len(waited))
    return [*waited, *fresh[:free]], fresh[free:]


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
            case CrawlCancel() as cancel:
                await cancel_crawl(deps, cancel)
            case CrawlDelete() as delete:
                await delete_crawl(deps, delete)
            case _:
                raise TypeError(f"{event.type} is no command to the crawler")


async def start_crawl(deps: Deps, start: CrawlStart) -> None:
    """Store a job and its seeds, and confirm it with their pages; once, however often the command comes."""
    seeds, rejected = _seeds(start)
    async with deps.pool.acquire() as connection, connection.transaction():
        status = await store.start_job(
            connection,
            start.job_id,
            revision=start.revision,
            options=start.options,
            sites={urls.site(page.url) for page in seeds if not page.is_list},
        )
        if status is None:
            return
        [job] = await store.lock_jobs(connection, [start.job_id])
        pages = [] if status == "cancelled" else seeds
        if start.options.max_host_pages is not None:
            hosts = Counter(urls.site(page.url) for page in pages)
            await host_budgets.add_host_pages(connection, start.job_id, hosts)
        await store.mark_seen(connection, pages)
        admitted, refused = await _admit(connection, job, [], pages)
        await _add_origins(deps, connection, pages)
        await store.enqueue_pages(connection, admitted, host_concurrency=deps.host_concurrency)
        await store.add_waiting(connection, refused)
        await store.advance_job(connection, job, admitted=len(admitted), pages=len(admitted), sites=job.sites)
        started = CrawlStarted(parent_job_id=start.job_id, pages=spawned_pages(admitted), rejected=rejected)
        event = crawl_event(started, start.job_id, deps.now())
        await outbox.add(connection, [event])
    deps.relay.offer([event])
    for seed in rejected:
        deps.say(start.job_id, LogLevel.WARNING, f"seed rejected: {seed.reason}", url=urls.redacted(seed.url))


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
            pages[url] = FoundPage(start.job_id, urls.page_id(start.job_id, url), url, 0, is_list=is_list)
    return list(pages.values()), tuple(rejected)


async def set_status(deps: Deps, job_id: UUID, status: str, revision: int) -> None:
    """Pause or resume a job: its lanes are claimed only while it is running."""
    async with deps.pool.acquire() as connection:
        await store.set_status(connection, job_id, status, revision=revision)


async def cancel_crawl(deps: Deps, cancel: CrawlCancel) -> None:
    """Close all pages of a job, some at a time, and name them. A page under way is closed with the others: its visit
    will find it gone."""
    async with deps.pool.acquire() as connection:
        await store.set_status(connection, cancel.job_id, "cancelled", revision=cancel.revision)
    while await _cancel_some(deps, cancel.job_id) == CANCELLED_AT_ONCE:
        pass


async def delete_crawl(deps: Deps, delete: CrawlDelete) -> None:
    """Forget a job that has ended, in the background."""
    async with deps.pool.acquire() as connection:
        await store.delete_job(connection, delete.job_id, revision=delete.revision)


async def _cancel_some(deps: Deps, job_id: UUID) -> int:
    async with deps.pool.acquire() as connection, connection.transaction():
        await store.lock_jobs(connection, [job_id])
        await store.forget_waiting(connection, job_id)
        page_ids = await store.cancel_pages(connection, job_id, limit=CANCELLED_AT_ONCE)
        stopped = crawl_event(CrawlStopped(parent_job_id=job_id, page_ids=tuple(page_ids)), job_id, deps.now())
        await outbox.add(connection, [stopped])
    deps.relay.offer([stopped])
    return len(page_ids)
