"""What a list of URLs brings to its job: the URLs wait in the frontier, and join the job some at a time."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tallyho_contracts.logs import LogLevel
from tallyho_postgres.pool import Connection

from crawler import host_budgets, store, urls
from crawler.deps import Deps
from crawler.frontier import MAX_REDIRECTS, TRAP, CrawlJob, FoundPage, Visit, within_host_budget
from crawler.scope import Scope
from crawler.sitemaps import MAX_ENTRIES, Entry

# A job's row is locked for as long as so many take.
ADDED_AT_ONCE = 1_000


async def add_listed(deps: Deps, visit: Visit) -> Visit:
    """Let what a list lists wait in the frontier; returns the visit, which can be closed now.

    In several transactions: a list may have 50,000 URLs. After a crash between them the list is read again, and what
    waits already is known. What waits joins the job with the pages that are closed from then on, this list first: so
    nothing needs to be told before it is.
    """
    skipped: Counter[str] = Counter()
    room: int | None = None
    for start in range(0, len(visit.listed), ADDED_AT_ONCE):
        entries = visit.listed[start : start + ADDED_AT_ONCE]
        async with deps.pool.acquire() as connection, connection.transaction():
            [job] = await store.lock_jobs(connection, [visit.page.lane.job_id])
            if job.status == "cancelled":
                break
            if start == 0:
                room = await _room(connection, job)
            if room is not None and room <= -MAX_ENTRIES:
                skipped["budget"] += len(visit.listed) - start
                break
            new, trapped = await _add(deps, connection, job, _pages(visit, job, entries, skipped))
            skipped[TRAP] += len(trapped)
        deps.known_urls.add((job.job_id, page.url) for page in new)
        if room is not None:
            skipped["budget"] += min(len(new), max(0, len(new) - room))
            room -= len(new)
    deps.say(
        visit.page.lane.job_id, LogLevel.INFO, f"list read: {len(visit.listed)} URLs", url=urls.redacted(visit.page.url)
    )
    return replace(visit, listed=(), skipped=+skipped)  # without zeros


async def _room(connection: Connection, job: CrawlJob) -> int | None:
    """How many more URLs than those that wait already can get a place in the budget; below 0, some of these won't."""
    if job.options.max_pages is None:
        return None
    free = job.options.max_pages - job.admitted
    return free - await store.count_waiting(connection, job.job_id, limit=free + MAX_ENTRIES)


async def _add(
    deps: Deps, connection: Connection, job: CrawlJob, pages: Sequence[FoundPage]
) -> tuple[list[FoundPage], list[FoundPage]]:
    """Let the new ones of these URLs wait; returns them, and those for which their hosts have no room."""
    await store.add_origins(connection, pages, host_concurrency=deps.host_concurrency, host_delay=deps.host_delay)
    new = await store.mark_seen(connection, pages)
    within, beyond = await within_hosts(connection, job, [page for page in pages if page.page_id in new])
    await store.add_waiting(connection, within)
    return within, beyond


def _pages(visit: Visit, job: CrawlJob, entries: Sequence[Entry], skipped: Counter[str]) -> list[FoundPage]:
    """The entries that may become pages, each once; the others are counted in `skipped`."""
    scope = Scope.of(job.options, job.sites)
    pages: dict[str, FoundPage] = {}
    for found, entry in _found(visit, job, entries):
        if refusal := _refusal(job, scope, found, entry):
            skipped[refusal] += 1
        else:
            pages.setdefault(found.url, found)
    return list(pages.values())


def _found(visit: Visit, job: CrawlJob, entries: Sequence[Entry]) -> Iterator[tuple[FoundPage, Entry]]:
    depth, nesting = visit.page.depth, visit.page.redirects
    for entry in entries:
        if entry.is_list:  # as deep as the list that names it; nested no deeper than redirects may be
            url, place = entry.url, (depth, nesting + 1, True)
        else:
            url, place = entry.url, (depth + 1, 0, False)
            url = urls.without_tracking(url) if job.options.drop_tracking else url
        yield FoundPage(job.job_id, urls.page_id(job.job_id, url), url, *place), entry


def _refusal(job: CrawlJob, scope: Scope, found: FoundPage, entry: Entry) -> str | None:
    since = job.options.modified_since
    if since is not None and entry.modified is not None and entry.modified < since:
        return "not_modified"
    if found.is_list:
        return "nested" if found.redirects > MAX_REDIRECTS else None
    return scope.refusal(found.url, found.depth)


async def within_hosts(
    connection: Connection, job: CrawlJob, fresh: list[FoundPage]
) -> tuple[list[FoundPage], list[FoundPage]]:
    """Split new pages of a locked job into those that their hosts have room for, which take it, and the others."""
    limit = job.options.max_host_pages
    if limit is None or not fresh:
        return fresh, []
    hosts = {urls.site(page.url) for page in fresh}
    within, beyond = within_host_budget(fresh, await host_budgets.host_pages(connection, job.job_id, hosts), limit)
    await host_budgets.add_host_pages(connection, job.job_id, Counter(urls.site(page.url) for page in within))
    return within, beyond
