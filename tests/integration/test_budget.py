"""max_pages N: exactly N documents, or all there are, whatever fails and however many work on it."""

import random
from collections import Counter
from uuid import UUID

import pytest
from crawler import frontier, ledger
from crawler.deps import Deps
from crawler.handlers import on_work
from frontier_checks import Ledgers, pass_time
from made_up_web import (
    SimulatedWorker,
    Web,
    WebPage,
    crawl_at_once,
    crawler_deps,
    good_pages,
    random_id,
    random_web,
    start,
)
from tallyho_postgres.pool import Pool

SITE = "http://site.test"
A, B, C, D, E = (f"{SITE}/{name}" for name in "abcde")


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


@pytest.fixture
def ledgers(crawler_pool: Pool) -> Ledgers:
    return Ledgers(crawler_pool)


@pytest.mark.parametrize("group", range(3))
async def test_budget_gives_exactly_as_many_documents_as_it_allows(deps: Deps, ledgers: Ledgers, group: int) -> None:
    for number in range(10):
        rng = random.Random(10 * group + number)
        web = random_web(rng, pages=30, hosts=[f"{host}.web-{number}.test" for host in range(3)], trouble=0.5)
        wanted: dict[UUID, int] = {}
        for _ in range(rng.choice((1, 2))):
            seeds, max_pages = rng.sample(sorted(web), k=rng.choice((1, 4))), rng.randint(1, 20)
            job_id = await start(deps, *seeds, job_id=random_id(rng), max_pages=max_pages)
            wanted[job_id] = min(max_pages, len(good_pages(web, seeds)))
        await crawl_at_once([random.Random(rng.random()) for _ in range(3)], deps.pool, web)
        await ledgers.check()

        assert {job_id: len(ledgers.of[job_id].saved) for job_id in wanted} == wanted


async def test_waiting_url_takes_the_place_of_a_page_that_gave_no_document(deps: Deps, ledgers: Ledgers) -> None:
    web: Web = {A: WebPage(links=(B, C, D)), B: WebPage(missing=True), C: WebPage(redirect_to=A), D: WebPage()}
    job_id = await start(deps, A, max_pages=2)
    worker = SimulatedWorker(deps, web)
    visited = []
    while pages := await worker.claim():
        visited.append([page.url for page in pages])
        await on_work(deps, worker.finish())
        await ledgers.check()
    spawned = {page.url: [child.url for child in page.spawned] for page in ledgers.of[job_id].finished.values()}

    assert visited == [[A], [B], [C], [D]]
    assert spawned == {A: [B], B: [C], C: [D], D: []}
    assert ledgers.of[job_id].saved == {A, D}


async def test_pages_that_give_no_document_do_not_go_on_without_end(
    deps: Deps, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontier, "MORE_PAGES", 3)
    dead = [f"{SITE}/{number}" for number in range(50)]
    web: Web = {A: WebPage(links=tuple(dead))} | {url: WebPage(missing=True) for url in dead}
    job_id = await start(deps, A, max_pages=2)
    await crawl_at_once([random.Random(number) for number in range(3)], deps.pool, web)
    await ledgers.check()
    async with deps.pool.acquire() as connection:
        counted = await ledger.count_skipped(connection, job_id)

    assert len(ledgers.of[job_id].finished) == 2 * frontier.PAGES_A_DOCUMENT + 3
    assert {(one.reason, one.urls) for one in counted} == {("budget", 50 - 22)}


async def test_links_without_a_place_are_counted_with_their_page(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A, max_pages=2)
    await SimulatedWorker(deps, {A: WebPage(links=(B, C, D)), B: WebPage(links=(C, E))}).crawl()
    await ledgers.check()
    skipped = {page.url: page.skipped_links for page in ledgers.of[job_id].finished.values()}

    assert skipped == {A: {"budget": 2}, B: {"budget": 1}}


async def test_seeds_beyond_the_budget_wait_too(deps: Deps, ledgers: Ledgers) -> None:
    web: Web = {A: WebPage(missing=True), B: WebPage(links=(E,)), C: WebPage(), D: WebPage()}
    job_id = await start(deps, A, B, C, D, max_pages=2)
    await ledgers.check()
    first = {page.url for page in ledgers.of[job_id].known.values()}
    await SimulatedWorker(deps, web).crawl()
    await ledgers.check()

    assert first == {A, B}
    assert ledgers.of[job_id].saved == {B, C}


async def test_page_that_is_to_be_tried_again_keeps_its_place(deps: Deps, ledgers: Ledgers) -> None:
    job_id = await start(deps, A, B, max_pages=1)
    worker = SimulatedWorker(deps, {A: WebPage(hiccups=1), B: WebPage()}, retry_delay=30.0)
    await worker.crawl()
    await ledgers.check()
    meanwhile = dict(ledgers.of[job_id].finished)
    await pass_time(deps.pool, 31)
    await worker.crawl()
    await ledgers.check()

    assert meanwhile == {}
    assert ledgers.of[job_id].saved == {A}


async def test_many_places_given_back_at_once_are_all_taken(deps: Deps, ledgers: Ledgers) -> None:
    seeds = [f"{SITE}/{number}" for number in range(40)]
    web: Web = {url: WebPage(missing=number < 20) for number, url in enumerate(seeds)}
    job_id = await start(deps, *seeds, max_pages=20)
    await SimulatedWorker(deps, web).crawl()
    await ledgers.check()

    assert ledgers.of[job_id].saved == set(seeds[20:])
    assert ledgers.of[job_id].reasons == Counter(http_404=20)


async def test_host_has_no_more_pages_in_a_job_than_its_budget_allows(deps: Deps, ledgers: Ledgers) -> None:
    other = "http://other.test"
    links = tuple(f"{SITE}/{number}" for number in range(5)) + tuple(f"{other}/{number}" for number in range(2))
    web = {A: WebPage(links=links)} | {url: WebPage(links=(B, f"{other}/more")) for url in links}
    web[f"{other}/more"] = WebPage()
    job_id = await start(deps, A, max_host_pages=3)
    await SimulatedWorker(deps, web).crawl()
    await ledgers.check()
    skipped = sum((Counter(page.skipped_links) for page in ledgers.of[job_id].finished.values()), Counter())

    # Three a host, the seed among them; each URL that found no place is skipped once, as a trap.
    assert ledgers.of[job_id].saved == {A, *links[:2], *links[5:], f"{other}/more"}
    assert skipped == {"trap": 4}
