"""Deleting jobs: gone at once, forgotten in chunks through kills, nothing of other jobs lost, never brought back."""

import asyncio
import os
import random
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from crawler import deletion as crawler_deletion
from crawler import documents, urls
from crawler.commands import on_commands
from crawler.frontier import DocumentContent, Lane, QueuedPage, Visit
from job_tracker import deletion, store
from made_up_web import SimulatedWorker, Web, WebPage, crawl_at_once, crawler_deps, start
from tallyho_contracts.crawls import CrawlDelete, CrawlOptions, CrawlStart
from tallyho_contracts.jobs import (
    Job,
    JobCreate,
    JobCreated,
    JobDelete,
    JobGet,
    JobList,
    JobRetry,
    JobsQuery,
    JobStatus,
)
from tallyho_contracts.pages import Outcome
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.requests import RequestRefused
from tallyho_messaging.wire import event_of
from tallyho_postgres.pool import Pool
from tracking import SEED, Tracker, claimed, finished, saved, started

# Every table that says which job a row belongs to, but the jobs themselves.
TABLES_OF_JOBS = """
SELECT table_name::text, column_name::text FROM information_schema.columns
WHERE table_schema = current_schema() AND column_name IN ('job_id', 'parent_job_id')
    AND table_name NOT IN ('jobs', 'job_states')
"""


@pytest.fixture
def tracker(tracker_pool: Pool) -> Tracker:
    return Tracker(tracker_pool)


async def rows_of(pool: Pool, job_id: UUID) -> int:
    """How many rows a job has in all tables of a service but its own."""
    tables = [tuple(row) for row in await pool.fetch(TABLES_OF_JOBS)]
    assert len(tables) > 2
    counts = [
        await pool.fetchval(f"SELECT count(*) FROM {name} WHERE {column} = $1", job_id) for name, column in tables
    ]
    return sum(counts)


async def ended_job(tracker: Tracker, *names: str) -> UUID:
    """A job whose pages all gave a document."""
    job_id = await tracker.create()
    await tracker.apply(started(job_id, *names))
    await tracker.apply(*(event for name in names for event in (saved(job_id, name), finished(job_id, name))))
    return job_id


async def code_of(tracker: Tracker, request: JobDelete | JobGet | JobCreate | JobRetry) -> ErrorCode:
    with pytest.raises(RequestRefused) as caught:
        await tracker.ask(request)
    return caught.value.refused.code


async def test_deleted_job_is_found_nowhere_and_those_who_watch_are_told(tracker: Tracker) -> None:
    job_id, other = await ended_job(tracker, "a", "b"), await ended_job(tracker, "a")
    deleted = await tracker.ask(JobDelete(job_id=job_id))
    listed = await tracker.ask(JobsQuery())

    assert isinstance(deleted, Job)
    assert isinstance(listed, JobList)
    assert (deleted.status, deleted.document_count) == (JobStatus.COMPLETED, 2)
    assert [job.job_id for job in listed.jobs] == [other]
    assert await code_of(tracker, JobGet(job_id=job_id)) is ErrorCode.NOT_FOUND
    assert await code_of(tracker, JobDelete(job_id=job_id)) is ErrorCode.NOT_FOUND
    last = tracker.progress.states[job_id][-1]
    assert last.deleted_at is not None
    assert last.revision == deleted.revision + 1
    [_, command] = await tracker.commands(job_id)
    assert command.data == CrawlDelete(job_id=job_id, revision=last.revision)


async def test_job_that_has_not_ended_can_not_be_deleted(tracker: Tracker) -> None:
    job_id = await tracker.create()

    assert await code_of(tracker, JobDelete(job_id=job_id)) is ErrorCode.CONFLICT
    assert (await tracker.job(job_id)).status is JobStatus.PENDING


async def test_job_that_another_retries_can_not_be_deleted_before_that_one_has_ended(tracker: Tracker) -> None:
    first, second, third = await tracker.create(), uuid4(), uuid4()
    await tracker.apply(started(first, "a"), finished(first, "a", Outcome.FAILED))
    await tracker.ask(JobRetry(job_id=second, retry_of=first))
    while_retried = await code_of(tracker, JobDelete(job_id=first))
    await tracker.apply(started(second, "a"), finished(second, "a", Outcome.FAILED))
    await tracker.ask(JobRetry(job_id=third, retry_of=second))
    # The third knows what the first has met.
    both_retried = {await code_of(tracker, JobDelete(job_id=job_id)) for job_id in (first, second)}
    tracker.now += timedelta(days=2)
    await deletion.delete_old_jobs(tracker.deps, timedelta(days=1))
    listed = await tracker.ask(JobsQuery())
    await tracker.apply(started(third, "a"), finished(third, "a"))
    await tracker.ask(JobDelete(job_id=first))

    assert while_retried is ErrorCode.CONFLICT
    assert both_retried == {ErrorCode.CONFLICT}
    assert isinstance(listed, JobList)
    assert {job.job_id for job in listed.jobs} == {first, second, third}


async def test_job_that_must_stay_does_not_keep_those_that_ended_after_it(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "JOBS_AT_ONCE", 1)
    retried = await tracker.create()
    await tracker.apply(started(retried, "a"), finished(retried, "a", Outcome.FAILED))
    tracker.now += timedelta(seconds=1)
    other = await ended_job(tracker, "a")
    await tracker.ask(JobRetry(job_id=uuid4(), retry_of=retried))
    tracker.now += timedelta(days=2)
    await deletion.delete_old_jobs(tracker.deps, timedelta(days=1))

    assert await code_of(tracker, JobGet(job_id=other)) is ErrorCode.NOT_FOUND


async def test_job_that_is_deleted_just_now_can_not_be_retried(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.apply(started(job_id, "a"), finished(job_id, "a", Outcome.FAILED))
    async with asyncio.timeout(30):
        async with tracker.pool.acquire() as connection, connection.transaction():
            await store.lock_job(connection, job_id)
            retry = asyncio.create_task(code_of(tracker, JobRetry(job_id=uuid4(), retry_of=job_id)))
            while not await tracker.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)  # a lock's queue can't be awaited
            await store.mark_deleted(connection, job_id, at=tracker.now)
        code = await retry

    assert code is ErrorCode.NOT_FOUND


async def test_key_of_a_deleted_job_makes_another(tracker: Tracker) -> None:
    first, second = (JobCreate(job_id=uuid4(), idempotency_key="key", seeds=(SEED,)) for _ in range(2))
    await tracker.ask(first)
    await tracker.apply(started(first.job_id, "a"), finished(first.job_id, "a"))
    await tracker.ask(JobDelete(job_id=first.job_id))
    created = await tracker.ask(second)

    assert isinstance(created, JobCreated)
    assert (created.created, created.job.job_id) == (True, second.job_id)


async def test_list_of_jobs_goes_on_after_a_job_that_was_deleted_meanwhile(tracker: Tracker) -> None:
    jobs = [await ended_job(tracker, "a") for _ in range(5)]
    seen: list[UUID] = []
    before: UUID | None = None
    while len(seen) < len(jobs):
        listed = await tracker.ask(JobsQuery(before=before, limit=2))
        assert isinstance(listed, JobList)
        seen += [job.job_id for job in listed.jobs]
        for job in listed.jobs:
            await tracker.ask(JobDelete(job_id=job.job_id))
        before = seen[-1]

    assert seen == jobs[::-1]
    with pytest.raises(RequestRefused, match="there is no job"):
        await tracker.ask(JobsQuery(before=uuid4()))


async def test_tracker_forgets_a_job_in_chunks_and_of_no_other_job_anything(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "ROWS_AT_ONCE", 2)
    job_id, other = await ended_job(tracker, *"abcde"), await ended_job(tracker, *"abcde")
    await tracker.ask(JobDelete(job_id=job_id))
    chunks = 0
    while await deletion.delete_some_remains(tracker.deps):
        chunks += 1

    assert chunks == 4  # of two, two and one, and the one that finds nothing
    assert await rows_of(tracker.pool, job_id) == 0
    assert len(await tracker.documents(other)) == 5
    assert await rows_of(tracker.pool, other) == 10


async def test_event_that_comes_late_does_not_bring_a_deleted_job_back(tracker: Tracker) -> None:
    job_id, other = await ended_job(tracker, "a"), await tracker.create()
    await tracker.ask(JobDelete(job_id=job_id))
    states = len(tracker.progress.states[job_id])
    # With events of another job in the same batch, which must count.
    await tracker.apply(
        started(job_id, "a", "b"), claimed(job_id, "b"), saved(job_id, "b"), finished(job_id, "b"),
        started(other, "a"), saved(other, "a"), finished(other, "a"),
    )  # fmt: skip
    again = JobCreate(job_id=job_id, seeds=(SEED,))

    assert await code_of(tracker, JobGet(job_id=job_id)) is ErrorCode.NOT_FOUND
    assert await code_of(tracker, again) is ErrorCode.CONFLICT
    assert len(tracker.progress.states[job_id]) == states
    assert (await tracker.job(other)).document_count == 1
    while await deletion.delete_some_remains(tracker.deps):
        pass
    assert await rows_of(tracker.pool, job_id) == 0


async def test_jobs_are_deleted_when_their_time_is_up_and_not_before(tracker: Tracker) -> None:
    old = await ended_job(tracker, "a")
    tracker.now += timedelta(days=30)
    recent, live = await ended_job(tracker, "a"), await tracker.create()
    tracker.now += timedelta(days=1)
    await deletion.delete_old_jobs(tracker.deps, timedelta(days=30))
    listed = await tracker.ask(JobsQuery())

    assert isinstance(listed, JobList)
    assert {job.job_id for job in listed.jobs} == {recent, live}
    assert tracker.progress.states[old][-1].deleted_at == tracker.now


SITE = "http://site.test"
SHARED, ONLY_HERE = [f"{SITE}/{n}" for n in range(8)], [f"{SITE}/only/{n}" for n in range(8)]
WEB: Web = {url: WebPage() for url in [*SHARED, *ONLY_HERE]}


async def delete_crawl(pool: Pool, job_id: UUID) -> None:
    """Give the command, as the tracker does."""
    delete = CrawlDelete(job_id=job_id, revision=9)
    await on_commands(crawler_deps(pool), [event_of(delete, source="job-tracker", subject=job_id)])


async def stored_urls(pool: Pool) -> set[str]:
    return {row["url"] for row in await pool.fetch("SELECT url FROM documents")}


async def test_documents_go_with_the_last_job_that_has_them(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawler_deletion, "DOCUMENTS_AT_ONCE", 3)
    monkeypatch.setattr(crawler_deletion, "URLS_AT_ONCE", 5)
    deps = crawler_deps(crawler_pool)
    first = await start(deps, *SHARED, *ONLY_HERE, max_pages=20)
    second = await start(deps, *SHARED)
    await crawl_at_once([random.Random(1)], crawler_pool, WEB)
    before = await rows_of(crawler_pool, second)
    await delete_crawl(crawler_pool, first)
    while await crawler_deletion.forget_some(crawler_pool):
        pass
    after_first = await stored_urls(crawler_pool), await rows_of(crawler_pool, second)
    await delete_crawl(crawler_pool, second)
    while await crawler_deletion.forget_some(crawler_pool):
        pass

    assert before >= 2 * len(SHARED)
    assert after_first == (set(SHARED), before)
    assert await rows_of(crawler_pool, first) + await rows_of(crawler_pool, second) == 0
    assert await stored_urls(crawler_pool) == set()


async def test_start_that_comes_after_the_deletion_starts_nothing(crawler_pool: Pool) -> None:
    deps, job_id = crawler_deps(crawler_pool), uuid4()
    await delete_crawl(crawler_pool, job_id)
    late = CrawlStart(job_id=job_id, revision=1, seeds=(SHARED[0],), options=CrawlOptions())
    await on_commands(deps, [event_of(late, source="job-tracker", subject=job_id)])
    worker = SimulatedWorker(deps, WEB)

    assert not await worker.claim()
    assert await crawler_pool.fetchval("SELECT count(*) FROM queue") == 0


SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "


def visit_of(job_id: UUID, url: str) -> Visit:
    lane = Lane(job_id, SITE, 0, 1, CrawlOptions())
    content = DocumentContent("Title", "text", (), "0" * 64, 200, "text/html", None, None)
    return Visit(QueuedPage(lane, 0, 1, urls.page_id(job_id, url), url, 0, 0), Outcome.COMPLETED, None, 200, content)


async def save(pool: Pool, job_id: UUID, wanted: Sequence[str], *, meanwhile: asyncio.Event | None = None) -> None:
    """Save documents for a job, and commit only once the event is set."""
    async with pool.acquire() as connection, connection.transaction():
        visits = [visit_of(job_id, url) for url in wanted]
        await documents.save_documents(connection, visits, at=datetime.now(UTC))
        if meanwhile:
            await meanwhile.wait()


async def test_document_that_another_job_saves_during_the_deletion_stays(crawler_pool: Pool) -> None:
    deleted, other, may_commit = uuid4(), uuid4(), asyncio.Event()
    await save(crawler_pool, deleted, SHARED)
    await delete_crawl(crawler_pool, deleted)
    async with asyncio.timeout(20), asyncio.TaskGroup() as both:
        both.create_task(save(crawler_pool, other, SHARED[:3], meanwhile=may_commit))
        while not await crawler_pool.fetchval(SESSIONS + "state = 'idle in transaction'"):
            await asyncio.sleep(0.01)
        both.create_task(crawler_deletion.forget_some(crawler_pool))
        while not await crawler_pool.fetchval(SESSIONS + "cardinality(pg_blocking_pids(pid)) > 0"):
            await asyncio.sleep(0.01)
        may_commit.set()

    assert await stored_urls(crawler_pool) == set(SHARED[:3])


MANY = 100_000
FILL = """
WITH job AS (
    INSERT INTO jobs (job_id, status, started, revision, has_remains) VALUES ($1, 'cancelled', true, 1, $2)
), seen AS (
    INSERT INTO seen SELECT $1, gen_random_uuid() FROM generate_series(1, $3::int)
)
INSERT INTO job_documents
SELECT $1, md5('document ' || n)::uuid FROM generate_series(1, $4::int) AS n
"""
DOCUMENTS = """
INSERT INTO documents
    (document_id, url, title, content, links, content_hash, status_code, content_type, created_at, saved_at)
SELECT md5('document ' || n)::uuid, 'http://site.test/' || n, '', '', '[]', '', 200, 'text/html', now(), now()
FROM generate_series(1, $1::int) AS n
"""


@asynccontextmanager
async def crawler_process(amqp_url: str, database_url: str) -> AsyncIterator[Process]:
    environment = os.environ | {"AMQP_URL": amqp_url, "DATABASE_URL": database_url}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "crawler", env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_deletion_survives_a_kill_in_the_middle(amqp_url: str, database_url: str, crawler_pool: Pool) -> None:
    deleted, other = uuid4(), uuid4()
    await crawler_pool.execute(DOCUMENTS, 6_000)
    await crawler_pool.execute(FILL, deleted, True, MANY, 6_000)
    await crawler_pool.execute(FILL, other, False, 1_000, 2_000)
    left = "SELECT count(*) FROM job_documents WHERE job_id = $1"
    async with asyncio.timeout(60):
        async with crawler_process(amqp_url, database_url) as process:
            while await crawler_pool.fetchval(left, deleted) == 6_000:
                await asyncio.sleep(0.005)
            process.kill()
            await process.wait()
        in_the_middle = await rows_of(crawler_pool, deleted)
        async with crawler_process(amqp_url, database_url):
            while await crawler_pool.fetchval("SELECT has_remains FROM jobs WHERE job_id = $1", deleted):
                await asyncio.sleep(0.02)

    assert 0 < in_the_middle < MANY + 6_000
    assert await rows_of(crawler_pool, deleted) == 0
    assert await rows_of(crawler_pool, other) == 3_000
    assert await crawler_pool.fetchval("SELECT count(*) FROM documents") == 2_000
