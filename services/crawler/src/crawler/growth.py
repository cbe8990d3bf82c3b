"""How a job grows: which URLs join it, as far as its budget has room, and that every one that was met is noted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from tallyho_postgres.pool import Connection

from crawler import host_budgets, jobs, ledger, store, urls
from crawler.deps import Deps
from crawler.findings import Findings
from crawler.frontier import (
    BUDGET,
    KNOWN,
    TRAP,
    CrawlJob,
    FoundPage,
    Step,
    Visit,
    is_fresh,
    places_given_back,
    room,
    within_host_budget,
)

# One event names them all.
JOIN_AT_ONCE = 1_000


@dataclass(frozen=True)
class Admission:
    """Who joins a job, and who must wait for a place; `retry_after` is how far it is with the pages it visits again."""

    joining: list[FoundPage]
    waiting: list[FoundPage]
    retry_after: UUID | None


@dataclass(frozen=True)
class Sifted:
    """New URLs that may join their job, and those that may not, with the reason."""

    fresh: list[FoundPage]
    refused: list[tuple[FoundPage, str]]


@dataclass(frozen=True)
class Growth:
    """How a locked job is to grow by `visits`: of what they found, `known` was met before, `refused` may not join."""

    job: CrawlJob
    visits: Sequence[Visit]
    found: Findings
    known: Mapping[UUID, str | None]
    refused: list[tuple[FoundPage, str]]
    admission: Admission


async def add_origins(deps: Deps, connection: Connection, joining: Sequence[FoundPage]) -> None:
    """Make the origins of pages that join known, with their slots, once in a transaction.

    Of all jobs at once, or two transactions could each want the other's. Not before they join: in which slot a page is
    fetched depends on the process that lets it join.
    """
    await store.add_origins(connection, joining, host_concurrency=deps.host_concurrency, host_delay=deps.host_delay)


async def plan_growth(connection: Connection, job: CrawlJob, visits: Sequence[Visit], found: Findings) -> Growth:
    """Admit new pages of a job as far as its budget allows."""
    candidates = list(found.found.values())
    known = await ledger.known_urls(connection, [*candidates, *(url for url, _ in found.skipped.values())])
    sifted = await sift(connection, job, [page for page in candidates if is_fresh(page, known)])
    return Growth(job, visits, found, known, sifted.refused, await admit(connection, job, visits, sifted.fresh))


async def grow(deps: Deps, connection: Connection, growth: Growth) -> dict[UUID, list[FoundPage]]:
    """Let the admitted pages join their job, whose origins are known; returns them by the page that spawned them."""
    job, visits, found, admission = growth.job, growth.visits, growth.found, growth.admission
    skipped = [one for one in found.skipped.values() if one[0].page_id not in growth.known]
    skipped += growth.refused
    returned = places_given_back(visits)
    step = Step(
        found.sites,
        admission.retry_after,
        admitted=len(admission.joining) - returned,
        pages=len(admission.joining),
        saved=len(visits) - returned,
        waits=bool(admission.waiting),
    )
    lifted = [page for page in found.found.values() if page.redirects and not is_fresh(page, growth.known)]
    await join(deps, connection, job, admission, step, skipped=skipped, lifted=lifted)
    places = room(job, visits)
    without_place = admission.waiting if places is not None and len(admission.joining) >= places else []
    for page, reason in [*((page, BUDGET) for page in without_place), *growth.refused]:
        found.skipped_links[found.finder[page.page_id]][reason] += 1
    spawned: dict[UUID, list[FoundPage]] = {}
    for page in admission.joining:
        # A page that waited was found by another visit; it joins the job with the visit that made room.
        spawned.setdefault(found.finder.get(page.page_id, visits[-1].page.page_id), []).append(page)
    return spawned


async def sift(connection: Connection, job: CrawlJob, fresh: Sequence[FoundPage]) -> Sifted:
    """Part URLs that are new to a locked job from those of them that it is not to visit.

    Those it retries may have met some, and some hosts may have no room; where they have, it is taken.
    """
    met_before = await _met_before(connection, job, fresh)
    kept = [page for page in fresh if page.url not in met_before]
    refused = [(page, KNOWN) for page in fresh if page.url in met_before]
    limit = job.options.max_host_pages
    if limit is None or not kept:
        return Sifted(kept, refused)
    hosts = {urls.site(page.url) for page in kept}
    within, beyond = within_host_budget(kept, await host_budgets.host_pages(connection, job.job_id, hosts), limit)
    await host_budgets.add_host_pages(connection, job.job_id, Counter(urls.site(page.url) for page in within))
    return Sifted(within, [*refused, *((page, TRAP) for page in beyond)])


async def admit(connection: Connection, job: CrawlJob, visits: Sequence[Visit], fresh: list[FoundPage]) -> Admission:
    """Give the job's free places to the pages that it is to visit again, then to who waits, then to what is new.

    Many (a list was read) join the job some at a time: whatever is closed lets more in, until none waits.
    """
    if job.status == "cancelled":
        return Admission([], [], None)
    places = room(job, visits)
    limit = max(0, JOIN_AT_ONCE if places is None else min(places, JOIN_AT_ONCE))
    joining, retry_after = await _visited_again(connection, job, limit)
    if job.waits and len(joining) < limit:
        joining += await store.take_waiting(connection, job.job_id, limit - len(joining))
    # Where not all have joined who wait, what is new waits behind them.
    free = 0 if len(joining) == limit else None if places is None else places - len(joining)
    if free is None:
        return Admission([*joining, *fresh], [], retry_after)
    return Admission([*joining, *fresh[:free]], fresh[free:], retry_after)


async def join(
    deps: Deps,
    connection: Connection,
    job: CrawlJob,
    admission: Admission,
    step: Step,
    *,
    skipped: Iterable[tuple[FoundPage, str]] = (),
    lifted: Sequence[FoundPage] = (),
) -> None:
    """Put the pages that join a job into its queue, let the others wait, and note them all. Their origins are known."""
    met = [*((page, None) for page in admission.joining), *((page, BUDGET) for page in admission.waiting), *skipped]
    # A page that joins to be visited again may be found at the same time: then it is a page all the same.
    await ledger.note_urls(connection, {page.page_id: (page, reason) for page, reason in reversed(met)}.values())
    await store.enqueue_pages(connection, admission.joining, host_concurrency=deps.host_concurrency)
    await store.add_waiting(connection, admission.waiting)
    if job.level is not None:
        await store.lift_pages(connection, lifted, host_concurrency=deps.host_concurrency)
    await store.advance_job(connection, job, step)


async def _visited_again(connection: Connection, job: CrawlJob, limit: int) -> tuple[list[FoundPage], UUID | None]:
    """The next failed pages of the job that this one retries, and after which of them to go on; None at their end."""
    if job.retry_after is None or not limit:
        return [], job.retry_after
    failed = await jobs.list_failed(connection, job.retry_of[0], after=job.retry_after, limit=limit)
    pages = [replace(page, job_id=job.job_id, page_id=urls.page_id(job.job_id, page.url)) for page in failed]
    if job.options.max_host_pages is not None:
        await host_budgets.add_host_pages(connection, job.job_id, Counter(urls.site(page.url) for page in pages))
    return pages, failed[-1].page_id if len(failed) == limit else None


async def _met_before(connection: Connection, job: CrawlJob, fresh: Sequence[FoundPage]) -> set[str]:
    """Those of these URLs that the job which this one retries visited or had no room for, or the one that that one
    retried, and so on. What their rules refused may be found anew where a rule lets it in.
    """
    before = {
        urls.page_id(job_id, page.url): replace(page, job_id=job_id, page_id=urls.page_id(job_id, page.url))
        for job_id in job.retry_of
        for page in fresh
    }
    known = await ledger.known_urls(connection, list(before.values()))
    return {before[page_id].url for page_id, reason in known.items() if reason in (None, BUDGET, TRAP)}
