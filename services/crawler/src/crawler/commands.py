"""What the crawler does with the tracker's commands, each in one transaction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
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
)
from tallyho_contracts.logs import LogLevel
from tallyho_messaging.wire import AnyEvent
from tallyho_postgres import outbox
from tallyho_postgres.pool import Connection

from crawler import host_budgets, jobs, store, urls
from crawler.deps import Deps
from crawler.events import crawl_event, page_closed, spawned_pages
from crawler.frontier import BUDGET, FoundPage, Step
from crawler.growth import add_origins, admit, join

CLOSED_AT_ONCE = 1_000


async def on_commands(deps: Deps, events: Sequence[AnyEvent]) -> None:
    """Obey the tracker's commands, one at a time; what it may visit now, this process looks for at once."""
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
        deps.due.set()


async def start_crawl(deps: Deps, start: CrawlStart) -> None:
    """Store a job and its seeds, and confirm it with their pages; once, however often the command comes.

    One that retries another starts with that one's failed pages instead, and knows what that one has met.
    """
    seeds, rejected = ([], ()) if start.retry_of else _seeds(start)
    unfit = [(page, "invalid") for page in {_as_page(start.job_id, seed.url) for seed in rejected}]
    async with deps.pool.acquire() as connection, connection.transaction():
        sites, retry_of = await _origin_of(connection, start)
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
        await add_origins(deps, connection, admission.joining)
        number = len(admission.joining)
        step = Step(job.sites, admission.retry_after, admitted=number, pages=number, waits=bool(admission.waiting))
        await join(deps, connection, job, admission, step, skipped=unfit)
        started = CrawlStarted(parent_job_id=start.job_id, pages=spawned_pages(admission.joining), rejected=rejected)
        event = crawl_event(started, start.job_id, deps.now())
        await outbox.add(connection, [event])
    deps.relay.offer([event])
    for seed in rejected:
        deps.say(start.job_id, LogLevel.WARNING, f"seed rejected: {seed.reason}", url=urls.redacted(seed.url))


async def _origin_of(connection: Connection, start: CrawlStart) -> tuple[set[str], list[UUID]]:
    """The sites of a job that starts, and the jobs that it retries, the nearest first."""
    if start.retry_of is None:
        # A seed may be one of the job's lists, too.
        return {urls.site(url) for url in map(urls.canonical, start.seeds) if url}, []
    sites, before = await jobs.get_retried(connection, start.retry_of) or ([], [])
    return set(sites), [start.retry_of, *before]


async def change_crawl(deps: Deps, change: CrawlChange) -> None:
    """Let other rules hold for a job, and confirm it with the pages that join for a larger budget."""
    async with deps.pool.acquire() as connection, connection.transaction():
        before = await store.lock_jobs(connection, [change.job_id])
        if not await jobs.change_options(connection, change.job_id, change.options, revision=change.revision):
            return
        [job] = await store.lock_jobs(connection, [change.job_id])
        admission = await admit(connection, job, [], [])
        await add_origins(deps, connection, admission.joining)
        number = len(admission.joining)
        # Whether what is left is to be closed is decided anew: a larger budget goes on where a smaller one ended.
        open_again = replace(job, closing=job.status == "cancelled")
        step = Step(job.sites, admission.retry_after, admitted=number, pages=number)
        await join(deps, connection, open_again, admission, step)
        if before:
            longer = (change.options.delay or 0.0) - (before[0].options.delay or 0.0)
            await jobs.renew_pace(connection, change.job_id, longer=longer)
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
            if locked[0].status == "cancelled":
                await jobs.forget_hosts(connection, job_id)
        await outbox.add(connection, events)
    deps.relay.offer(events)
    return more
