"""One transaction for all that came of a page: its row, its document, its children and its events."""

from uuid import UUID

import asyncpg
import pytest
from crawler import urls
from crawler.deps import Deps
from crawler.frontier import Visit, slot_of
from crawler.handlers import Work, on_work
from frontier_checks import Ledgers, check_frontier, events
from made_up_web import SimulatedWorker, Web, WebPage, crawler_deps, document, good_pages, start
from tallyho_contracts.documents import Change, DocumentSaved
from tallyho_contracts.pages import Outcome, PageFinished, PageStarted
from tallyho_postgres.pool import Pool

SITE = "http://site.test"
A, B, C, GONE = (f"{SITE}/{name}" for name in ("a", "b", "c", "gone"))
WEB: Web = {A: WebPage(links=(B, GONE)), B: WebPage(links=(C,)), C: WebPage(), GONE: WebPage(missing=True)}
# All but `workers`, which a claim renews before it.
TABLES = (
    *("jobs", "seen", "queue", "waiting", "origins", "slots", "lanes", "documents", "job_documents", "outbox"),
    *("job_hosts", "failed_pages", "paces"),
)

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the % is full', TG_TABLE_NAME USING ERRCODE = 'disk_full'; END $$;
"""


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


async def contents(pool: Pool) -> dict[str, list[tuple[object, ...]]]:
    """All rows of the crawler's tables."""
    return {table: [tuple(row) for row in await pool.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")] for table in TABLES}


async def test_page_document_children_and_events_are_committed_together(deps: Deps) -> None:
    job_id = await start(deps, A)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    await on_work(deps, worker.finish())
    told = {type(event.data): event.data for event in await events(deps.pool)}
    queued = {row["url"] for row in await deps.pool.fetch("SELECT url FROM queue")}
    saved = await deps.pool.fetchrow("SELECT * FROM documents JOIN job_documents USING (document_id)")

    assert saved is not None
    assert (saved["url"], saved["job_id"], saved["document_id"]) == (A, job_id, urls.document_id(A))
    assert queued == {B, GONE}
    assert told[DocumentSaved].document_id == told[PageFinished].document_id == saved["document_id"]
    assert {page.url for page in told[PageFinished].spawned} == queued
    assert told[PageStarted].page_ids == (urls.page_id(job_id, A),)


@pytest.mark.parametrize(
    "table", ["documents", "job_documents", "seen", "queue", "lanes", "waiting", "outbox", "slots"]
)
async def test_error_in_the_middle_leaves_nothing(deps: Deps, crawler_owner: Pool, table: str) -> None:
    job_id = await start(deps, A, max_pages=2, max_host_pages=5)
    worker = SimulatedWorker(deps, WEB)
    await worker.claim()
    work = worker.finish()
    before = await contents(deps.pool)
    event = "UPDATE" if table == "slots" else "INSERT"
    await crawler_owner.execute(f"{REFUSE} CREATE TRIGGER refusing BEFORE {event} ON {table} EXECUTE FUNCTION refuse()")
    with pytest.raises(asyncpg.DiskFullError):
        await on_work(deps, work)
    after = await contents(deps.pool)

    assert after == before
    assert (job_id, B) not in deps.known_urls

    await crawler_owner.execute(f"DROP TRIGGER refusing ON {table}")
    await on_work(deps, work)
    await worker.crawl()
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert ledgers.of[job_id].saved == {A, B}


async def test_claim_that_fails_leaves_the_slots_free(deps: Deps, crawler_owner: Pool) -> None:
    await start(deps, A)
    before = await contents(deps.pool)
    await crawler_owner.execute(f"{REFUSE} CREATE TRIGGER refusing BEFORE INSERT ON outbox EXECUTE FUNCTION refuse()")
    with pytest.raises(asyncpg.DiskFullError):
        await SimulatedWorker(deps, WEB).claim()

    assert await contents(deps.pool) == before


async def test_start_that_fails_leaves_nothing_and_can_come_again(deps: Deps, crawler_owner: Pool) -> None:
    before = await contents(deps.pool)
    await crawler_owner.execute(f"{REFUSE} CREATE TRIGGER refusing BEFORE INSERT ON outbox EXECUTE FUNCTION refuse()")
    with pytest.raises(asyncpg.DiskFullError):
        await start(deps, A)

    assert await contents(deps.pool) == before
    await crawler_owner.execute("DROP TRIGGER refusing ON outbox")
    await start(deps, A)
    await check_frontier(deps.pool)


async def test_second_crawl_counts_its_own_documents_and_doubles_none(deps: Deps) -> None:
    await start(deps, A)
    await SimulatedWorker(deps, WEB).crawl()
    again = await start(deps, A)
    await SimulatedWorker(deps, WEB | {B: WebPage(links=(C, A, GONE))}).crawl()
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert ledgers.of[again].saved == good_pages(WEB, [A])
    assert {saved.change for saved in ledgers.of[again].documents} == {Change.UNCHANGED}
    assert await deps.pool.fetchval("SELECT count(*) FROM documents") == 3
    assert await deps.pool.fetchval("SELECT count(*) FROM job_documents") == 6


async def test_document_says_whether_it_was_created_updated_or_unchanged(deps: Deps) -> None:
    changes = []
    for text in ("one", "one", "two", "two", "one"):
        job_id = await start(deps, A)
        [page] = await SimulatedWorker(deps).claim()
        visit = Visit(page, Outcome.COMPLETED, document=document(A, text=text))
        await on_work(deps, Work([visit], served=[page.lane]))
        saved = [event.data for event in await events(deps.pool) if isinstance(event.data, DocumentSaved)]
        changes += [data.change for data in saved if data.parent_job_id == job_id]

    assert changes == [Change.CREATED, Change.UNCHANGED, Change.UPDATED, Change.UNCHANGED, Change.UPDATED]
    assert await deps.pool.fetchval("SELECT content FROM documents") == "one"


def _some_ids() -> list[str]:
    return [f"00000000-0000-4000-8000-{n:012}" for n in range(20)]


async def test_two_jobs_of_one_group_save_the_same_document(deps: Deps) -> None:
    # Of two jobs whose pages share a slot, only one is served at a time.
    by_slot = {slot_of(urls.page_id(job_id, A), deps.host_concurrency): job_id for job_id in map(UUID, _some_ids())}
    jobs = [await start(deps, A, job_id=job_id) for job_id in list(by_slot.values())[:2]]
    worker = SimulatedWorker(deps, {A: WebPage()})
    await worker.claim()
    await on_work(deps, worker.finish())
    ledgers = Ledgers(deps.pool)
    await ledgers.check()
    changes = [saved.change for job_id in jobs for saved in ledgers.of[job_id].documents]

    assert sorted(changes, key=str) == [Change.CREATED, Change.UNCHANGED]
    assert [ledgers.of[job_id].saved for job_id in jobs] == [{A}, {A}]
    assert await deps.pool.fetchval("SELECT count(*) FROM documents") == 1
