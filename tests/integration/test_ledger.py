"""Every URL that a job met has one state and one reason, and none is counted twice or forgotten."""

import random
from collections import Counter
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from crawler import ledger as ledger_of_crawler
from crawler import store
from crawler.commands import cancel_crawl, start_crawl
from crawler.deps import Deps
from crawler.handlers import on_work
from crawler.requests import count_urls, list_skipped_urls
from frontier_checks import Ledgers
from made_up_web import SimulatedWorker, Web, WebPage, crawl_at_once, crawler_deps, random_id, random_web, start
from tallyho_contracts.crawls import CrawlCancel, CrawlStart
from tallyho_contracts.pages import PageState
from tallyho_contracts.urls import SkippedUrlsQuery, is_reason
from tallyho_postgres.pool import Pool

SITE = "http://site.test"
A, B, C, D, E = (f"{SITE}/{name}" for name in "abcde")
ELSEWHERE = "http://elsewhere.test/"
MANY_SKIPPED = """
INSERT INTO seen (job_id, page_id, reason, url, depth)
SELECT $1, gen_random_uuid(), CASE WHEN n % 10 = 0 THEN 'trap' ELSE 'budget' END, 'http://a/' || n, 1
FROM generate_series(1, 10000) AS n
"""
URLS_READ = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'seen'::regclass"


class Entry(NamedTuple):
    """What became of a URL."""

    state: PageState
    reason: str | None


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


async def ledger(deps: Deps, ledgers: Ledgers, job_id: UUID) -> dict[str, Entry]:
    """What became of each URL that a job met, by its events and by what the crawler says of the others."""
    await ledgers.check()
    known = ledgers.of[job_id]
    entries = {page.url: Entry(PageState(page.outcome), page.reason) for page in known.finished.values()}
    entries |= {known.known[page_id].url: Entry(PageState.CANCELLED, "cancelled") for page_id in known.cancelled}
    assert len(entries) == len(known.known)
    query = SkippedUrlsQuery(job_id=job_id, limit=7)
    while True:
        found = await list_skipped_urls(deps.pool, query)
        for url in found.urls:
            assert url.url not in entries, "a URL has two states"
            entries[url.url or ""] = Entry(url.state, url.reason)
        if not found.has_more:
            break
        last = found.urls[-1]
        query = query.model_copy(update={"after_reason": last.reason, "after": last.page_id})
    counted = await count_urls(deps.pool, job_id)
    skipped = Counter({row.reason: row.urls for row in counted.skipped})
    assert counted.urls_met == len(entries)
    assert skipped == Counter(
        entry.reason for url, entry in entries.items() if url not in {page.url for page in known.known.values()}
    )
    assert all(is_reason(*entry) for entry in entries.values()), entries
    return entries


def met(web: Web, seeds: list[str], entries: dict[str, Entry]) -> set[str]:
    """The URLs that a crawl with these results came across."""
    visited = [url for url, entry in entries.items() if entry.state is PageState.COMPLETED]
    redirected = [url for url, entry in entries.items() if entry.reason == "redirect"]
    links = {link for url in visited for link in web[url].links if link != url}
    return {*seeds, *links, *(web[url].redirect_to or "" for url in redirected)}


@pytest.mark.parametrize("group", range(3))
async def test_urls_met_are_those_with_a_state_whatever_the_rules_and_however_many_work(deps: Deps, group: int) -> None:
    ledgers = Ledgers(deps.pool)
    kinds: set[str | None] = set()
    for number in range(8):
        rng = random.Random(100 * group + number)
        hosts = [f"{host}.web-{group}-{number}.test" for host in range(3)]
        web = random_web(rng, pages=40, hosts=hosts)
        seeds = rng.sample(sorted(web), k=rng.choice((1, 3)))
        rules: dict[str, Any] = {
            "max_pages": (None, 2, 6)[number % 3],
            "max_depth": (None, 2, None, 1)[number % 4],
            "same_site": number % 2 == 0,
            "outlinks": rng.random() < 0.3,
            "exclude": ("/[0-9]*[37]$",) if number % 5 else (),
        }
        job_id = await start(deps, *seeds, job_id=random_id(rng), **rules)
        await crawl_at_once([random.Random(rng.random()) for _ in range(3)], deps.pool, web)
        entries = await ledger(deps, ledgers, job_id)
        kinds |= {entry.reason for entry in entries.values()}

        assert set(entries) == met(web, seeds, entries)
    assert kinds >= {"created", "http_404", "redirect", "budget", "depth", "off_site", "excluded"}


async def test_url_that_a_rule_lets_in_later_is_a_page_and_not_skipped_any_more(deps: Deps) -> None:
    job_id = await start(deps, A, same_site=True, outlinks=True)
    web = {
        A: WebPage(links=(B, ELSEWHERE)),
        ELSEWHERE: WebPage(links=("http://far.test/",)),
        B: WebPage(links=(C,)),
        C: WebPage(links=("http://far.test/",)),
        "http://far.test/": WebPage(),
    }
    worker = SimulatedWorker(deps, web)
    states = []
    while await worker.claim():
        await on_work(deps, worker.finish())
        counted = await count_urls(deps.pool, job_id)
        states.append((counted.urls_met, {row.reason: row.urls for row in counted.skipped}))
    entries = await ledger(deps, Ledgers(deps.pool), job_id)

    assert states == [(3, {}), (5, {"off_site": 1}), (5, {}), (5, {})]
    assert set(entries.values()) == {Entry(PageState.COMPLETED, "created")}


async def test_url_without_a_place_is_skipped_for_the_budget_until_it_has_one(deps: Deps) -> None:
    job_id = await start(deps, A, B, C, D, max_pages=2)
    before = await count_urls(deps.pool, job_id)
    await SimulatedWorker(deps, {A: WebPage(missing=True), B: WebPage(), C: WebPage(), D: WebPage()}).crawl()
    entries = await ledger(deps, Ledgers(deps.pool), job_id)

    assert (before.urls_met, [(row.reason, row.urls) for row in before.skipped]) == (4, [("budget", 2)])
    assert entries[A] == (PageState.FAILED, "http_404")
    assert entries[C] == (PageState.COMPLETED, "created")
    assert entries[D] == (PageState.SKIPPED, "budget")


async def test_cancelled_job_accounts_for_every_url_too(deps: Deps) -> None:
    job_id = await start(deps, A, B, max_pages=3, exclude=["/e$"])
    worker = SimulatedWorker(deps, {A: WebPage(links=(C, D, E)), B: WebPage()})
    await worker.claim()
    work = worker.finish()
    work.visits = [visit for visit in work.visits if visit.page.url == A]
    await on_work(deps, work)
    await cancel_crawl(deps, CrawlCancel(job_id=job_id, revision=2))
    entries = await ledger(deps, Ledgers(deps.pool), job_id)

    assert Counter(entry.reason for entry in entries.values()) == Counter(created=1, cancelled=2, budget=1, excluded=1)


async def test_seeds_that_are_none_and_those_of_a_job_cancelled_before_it_started_are_accounted_for(deps: Deps) -> None:
    job_id = uuid4()
    await start_crawl(deps, CrawlStart(job_id=job_id, revision=1, seeds=(A, "mailto:a@b", "mailto:a@b")))
    await SimulatedWorker(deps, {A: WebPage()}).crawl()
    cancelled = uuid4()
    await cancel_crawl(deps, CrawlCancel(job_id=cancelled, revision=2))
    await start_crawl(deps, CrawlStart(job_id=cancelled, revision=1, seeds=(A, B)))
    ledgers = Ledgers(deps.pool)
    of_one = await ledger(deps, ledgers, job_id)
    of_other = await ledger(deps, ledgers, cancelled)

    assert of_one == {A: (PageState.COMPLETED, "created"), "mailto:a@b": (PageState.SKIPPED, "invalid")}
    assert of_other == {A: (PageState.SKIPPED, "cancelled"), B: (PageState.SKIPPED, "cancelled")}


async def test_page_says_what_its_document_was_when_it_was_saved(deps: Deps) -> None:
    first = await start(deps, A)
    await SimulatedWorker(deps, {A: WebPage()}).crawl()
    again = await start(deps, A)
    await SimulatedWorker(deps, {A: WebPage()}).crawl()
    ledgers = Ledgers(deps.pool)

    assert await ledger(deps, ledgers, first) == {A: (PageState.COMPLETED, "created")}
    assert await ledger(deps, ledgers, again) == {A: (PageState.COMPLETED, "unchanged")}


@pytest.mark.parametrize("reason", [None, "trap"])
async def test_page_of_a_long_list_of_skipped_urls_reads_no_others(deps: Deps, reason: str | None) -> None:
    job_id = uuid4()
    async with deps.pool.acquire() as connection, connection.transaction():
        for setting in store.PLANNER.items():
            await connection.execute("SELECT set_config($1, $2, true)", *setting)
        await connection.execute(MANY_SKIPPED, job_id)
        before = await connection.fetchval(URLS_READ)
        query = SkippedUrlsQuery(job_id=job_id, reason=reason, after_reason="trap", after=UUID(int=2**127), limit=10)
        listed = await ledger_of_crawler.list_skipped(connection, query)
        read = await connection.fetchval(URLS_READ) - before

    assert [page.reason for page in listed] == ["trap"] * 10
    assert read < 100
