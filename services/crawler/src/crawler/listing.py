"""What a list of URLs brings to its job: the URLs wait in the frontier, and join the job some at a time."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tallyho_contracts.logs import LogLevel
from tallyho_postgres.pool import Connection

from crawler import ledger, store, urls
from crawler.deps import Deps
from crawler.frontier import BEYOND, BUDGET, MAX_REDIRECTS, CrawlJob, FoundPage, Step, Visit, is_fresh
from crawler.growth import Admission, join, sift
from crawler.scope import Scope
from crawler.sitemaps import MAX_ENTRIES, Entry

# A job's row is locked for as long as so many take.
ADDED_AT_ONCE = 1_000
# The largest number that the database knows; a budget may be it.
MOST = 2**63 - 1


async def add_listed(deps: Deps, visit: Visit) -> Visit:
    """Let what a list lists wait in the frontier; returns the visit, which can be closed now.

    In several transactions: a list may have 50,000 URLs. After a crash between them the list is read again, and what
    waits already is known. What waits joins the job with the pages that are closed from then on, this list first: so
    nothing needs to be told before it is.
    """
    skipped = Counter(visit.skipped)
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
                skipped[BEYOND] += len(visit.listed) - start
                break
            waiting, refused = await _add(deps, connection, job, _judged(visit, job, entries))
        deps.known_urls.add((job.job_id, page.url) for page in waiting)
        skipped.update(reason for _, reason in refused)
        if room is not None:
            skipped[BUDGET] += min(len(waiting), max(0, len(waiting) - room))
            room -= len(waiting)
    deps.say(
        visit.page.lane.job_id, LogLevel.INFO, f"list read: {len(visit.listed)} URLs", url=urls.redacted(visit.page.url)
    )
    return replace(visit, listed=(), skipped=+skipped)  # without zeros


async def _room(connection: Connection, job: CrawlJob) -> int | None:
    """How many more URLs than those that wait already can get a place in the budget; below 0, some of these won't."""
    if job.options.max_pages is None:
        return None
    free = job.options.max_pages - job.admitted
    limit = min(max(0, free + MAX_ENTRIES), MOST)
    return free - await store.count_waiting(connection, job.job_id, limit=limit)


async def _add(
    deps: Deps, connection: Connection, job: CrawlJob, judged: Sequence[tuple[FoundPage, str | None]]
) -> tuple[list[FoundPage], list[tuple[FoundPage, str]]]:
    """Let the new ones of the URLs that the rules let in wait, and note the others; returns both."""
    allowed = [page for page, refusal in judged if refusal is None]
    refused = [(page, refusal) for page, refusal in judged if refusal is not None]
    known = await ledger.known_urls(connection, [page for page, _ in judged])
    sifted = await sift(connection, job, [page for page in allowed if is_fresh(page, known)])
    news = [*((page, reason) for page, reason in refused if page.page_id not in known), *sifted.refused]
    admission = Admission([], sifted.fresh, job.retry_after)
    step = Step(job.sites, job.retry_after, admitted=0, pages=0, waits=bool(sifted.fresh))
    await join(deps, connection, job, admission, step, skipped=news)
    return sifted.fresh, [*refused, *sifted.refused]


def _judged(visit: Visit, job: CrawlJob, entries: Sequence[Entry]) -> list[tuple[FoundPage, str | None]]:
    """The URLs of entries, each once, with the reason why it is none for the job; None where it may be."""
    scope = Scope.of(job.options, job.sites)
    judged: dict[str, tuple[FoundPage, str | None]] = {}
    for found, entry in _found(visit, job, entries):
        refusal = _refusal(job, scope, found, entry)
        # Two entries can be one URL without what tracks: it may be visited if one of them may.
        if found.url not in judged or (refusal is None and judged[found.url][1] is not None):
            judged[found.url] = found, refusal
    return list(judged.values())


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
