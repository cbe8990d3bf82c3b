"""A job that retries another: it visits the failed pages, goes on from there, and meets nothing twice."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from crawler import growth
from crawler.commands import start_crawl
from crawler.deps import Deps
from crawler.handlers import on_work
from frontier_checks import Ledgers
from made_up_web import SimulatedWorker, Web, WebPage, crawler_deps, start
from tallyho_contracts.crawls import CrawlOptions, CrawlStart
from tallyho_postgres.pool import Pool

SITE = "http://site.test"
A, B, C, D, E, F = (f"{SITE}/{name}" for name in "abcdef")
BROKEN: Web = {
    A: WebPage(links=(B, C, F)),
    B: WebPage(missing=True),
    C: WebPage(missing=True),
    F: WebPage(),
}
MENDED: Web = BROKEN | {B: WebPage(links=(A, D, C)), D: WebPage(links=(E, F)), E: WebPage()}


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


@pytest.fixture
def ledgers(crawler_pool: Pool) -> Ledgers:
    return Ledgers(crawler_pool)


async def retry(deps: Deps, job_id: UUID, **options: object) -> UUID:
    """Start a job that retries another, twice, as a redelivery does; returns its id."""
    new = uuid4()
    rules = CrawlOptions.model_validate({"same_site": False, **options})
    for _ in range(2):
        await start_crawl(deps, CrawlStart(job_id=new, revision=1, seeds=(A,), options=rules, retry_of=job_id))
    return new


async def test_failed_pages_are_visited_again_and_lead_only_to_what_was_never_met(deps: Deps, ledgers: Ledgers) -> None:
    first = await start(deps, A)
    await SimulatedWorker(deps, BROKEN).crawl()
    second = await retry(deps, first)
    await SimulatedWorker(deps, MENDED).crawl()
    third = await retry(deps, second)
    await SimulatedWorker(deps, MENDED | {C: WebPage(links=(A, B, D, E, F))}).crawl()
    await ledgers.check()

    assert ledgers.of[first].saved == {A, F}
    assert ledgers.of[second].saved == {B, D, E}
    assert ledgers.of[second].reasons == {"http_404": 1}
    assert ledgers.of[third].saved == {C}
    assert [ledgers.of[job_id].starts for job_id in (first, second, third)] == [1, 1, 1]
    skipped = await deps.pool.fetch("SELECT url FROM seen WHERE job_id = $1 AND reason = 'known'", second)
    assert {row["url"] for row in skipped} == {A, F}


async def test_what_a_rule_refused_before_is_visited_where_the_retry_finds_that_it_may_be(
    deps: Deps, ledgers: Ledgers
) -> None:
    first = await start(deps, A, max_depth=2)
    web: Web = {A: WebPage(links=(B, C)), B: WebPage(missing=True), C: WebPage(links=(D,)), D: WebPage(links=(E,))}
    await SimulatedWorker(deps, web).crawl()
    second = await retry(deps, first, max_depth=2)
    await SimulatedWorker(deps, web | {B: WebPage(links=(D, E)), E: WebPage()}).crawl()
    await ledgers.check()

    assert ledgers.of[first].saved == {A, C, D}  # E is too deep
    assert ledgers.of[second].saved == {B, E}


@pytest.mark.parametrize("rules", [{}, {"exclude": ["[bc]$"]}], ids=["known", "excluded"])
async def test_page_that_is_found_while_it_joins_to_be_visited_again_is_a_page(
    deps: Deps, ledgers: Ledgers, rules: dict[str, object]
) -> None:
    first = await start(deps, A)
    await SimulatedWorker(deps, BROKEN).crawl()
    second = await retry(deps, first, max_pages=1, **rules)
    worker = SimulatedWorker(deps, BROKEN)
    [page] = await worker.claim()
    # It gives its place to the very page that it leads to.
    other = {B: C, C: B}[page.url]
    worker.web = BROKEN | {page.url: WebPage(redirect_to=other), other: WebPage()}
    await on_work(deps, worker.finish())
    await worker.crawl()
    await ledgers.check()

    assert ledgers.of[second].saved == {other}
    assert await deps.pool.fetchval("SELECT count(*) FROM seen WHERE job_id = $1", second) == 2


async def test_retry_goes_level_by_level_where_depth_counts(deps: Deps, ledgers: Ledgers) -> None:
    first = await start(deps, A, max_depth=2)
    await SimulatedWorker(deps, BROKEN).crawl()
    second = await retry(deps, first, max_depth=2)
    await SimulatedWorker(deps, MENDED).crawl()
    await ledgers.check()

    assert ledgers.of[second].saved == {B, D}
    assert {page.url: page.depth for page in ledgers.of[second].finished.values()} == {B: 1, C: 1, D: 2}


async def test_many_failed_pages_join_some_at_a_time_and_all_in_the_end(
    deps: Deps, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "JOIN_AT_ONCE", 7)
    pages = [f"http://{number % 3}.test/{number}" for number in range(40)]
    first = await start(deps, *pages)
    await SimulatedWorker(deps, {url: WebPage(missing=True) for url in pages}).crawl()
    second = await retry(deps, first)
    await ledgers.check()
    at_first = len(ledgers.of[second].known)
    # Other slots of these origins than any job has used.
    other = replace(deps, host_concurrency=9)
    worker = SimulatedWorker(other, {url: WebPage() for url in pages})
    while await worker.claim():
        await on_work(other, worker.finish())
        await ledgers.check()

    assert at_first == 7
    assert ledgers.of[second].saved == set(pages)


async def test_what_is_new_waits_behind_the_failed_pages_that_have_not_joined(
    deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "JOIN_AT_ONCE", 1)
    first = await start(deps, A, B, C)
    await SimulatedWorker(deps, dict.fromkeys((A, B, C), WebPage(missing=True))).crawl()
    await retry(deps, first)
    worker = SimulatedWorker(deps, dict.fromkeys((A, B, C), WebPage(links=(E,))) | {E: WebPage()})
    order: list[str] = []
    while pages := await worker.claim():
        order += [page.url for page in pages]
        await on_work(deps, worker.finish())

    assert (set(order[:-1]), order[-1]) == ({A, B, C}, E)


async def test_retry_of_a_job_that_the_crawler_does_not_know_has_no_pages(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await retry(deps, uuid4())
    await ledgers.check()

    assert (ledgers.of[job_id].starts, ledgers.of[job_id].known) == (1, {})
