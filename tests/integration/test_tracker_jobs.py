"""The requests of the gateway: what each changes, in one transaction with its command, and what it refuses."""

import asyncio
from datetime import timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import asyncpg
import pytest
from job_tracker import control, requests, store
from tallyho_contracts.crawls import CrawlCancel, CrawlOptions, CrawlPause, CrawlResume, CrawlStart
from tallyho_contracts.documents import DocumentList, DocumentsQuery
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import (
    Job,
    JobCancel,
    JobCreate,
    JobCreated,
    JobGet,
    JobList,
    JobPause,
    JobResume,
    JobsQuery,
    JobStatus,
    JobSummary,
    JobSummaryQuery,
)
from tallyho_contracts.pages import Outcome, PageList, PagesQuery, PageState
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_messaging.requests import RequestRefused
from tallyho_postgres.pool import Pool
from tracking import NOON, SEED, Tracker, claimed, finished, open_trackers, saved, spawned, started

MANY_PAGES = """
INSERT INTO pages (parent_job_id, page_id, state, url, depth)
SELECT $1, gen_random_uuid(), 2, 'http://a/' || n, 1 FROM generate_series(1, 10000) AS n
"""
PAGES_READ = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'pages'::regclass"


@pytest.fixture
def tracker(tracker_pool: Pool) -> Tracker:
    return Tracker(tracker_pool)


def request(key: str | None = None, **fields: object) -> JobCreate:
    return JobCreate.model_validate({"job_id": uuid4(), "idempotency_key": key, "seeds": [SEED], **fields})


async def refusal(tracker: Tracker, message: Message) -> Refused:
    with pytest.raises(RequestRefused) as caught:
        await tracker.ask(message)
    return caught.value.refused


async def test_created_job_is_pending_can_be_read_and_starts_the_crawl(tracker: Tracker) -> None:
    asked = request(name="Examples", options=CrawlOptions(max_pages=7))

    created = await control.create_job(tracker.deps, asked)

    assert created.created
    assert created.job == await tracker.ask(JobGet(job_id=asked.job_id))
    assert (created.job.status, created.job.revision, created.job.document_count) == (JobStatus.PENDING, 1, 0)
    assert (created.job.name, created.job.seeds, created.job.options.max_pages) == ("Examples", (SEED,), 7)
    assert [command.data for command in await tracker.commands(asked.job_id)] == [
        CrawlStart(job_id=asked.job_id, revision=1, seeds=(SEED,), options=CrawlOptions(max_pages=7))
    ]


async def test_command_commits_with_its_job_or_not_at_all(tracker: Tracker, tracker_owner: Pool) -> None:
    kept, lost = await tracker.create(), request()
    await tracker_owner.execute("ALTER TABLE outbox RENAME TO unreachable")

    for message in (lost, JobPause(job_id=kept), JobCancel(job_id=kept)):
        with pytest.raises(asyncpg.UndefinedTableError):
            await tracker.ask(message)

    assert (await refusal(tracker, JobGet(job_id=lost.job_id))).code is ErrorCode.NOT_FOUND
    assert (await tracker.job(kept)).status is JobStatus.PENDING
    assert [state.revision for state in tracker.progress.states[kept]] == [1]
    assert tracker.progress.states[lost.job_id] == []


async def test_each_step_of_a_job_gives_the_crawler_one_command_of_its_revision(tracker: Tracker) -> None:
    job_id = await tracker.create()

    for step in (JobPause, JobPause, JobResume, JobResume, JobCancel, JobCancel):
        await tracker.ask(step(job_id=job_id))

    assert [command.data for command in await tracker.commands(job_id)] == [
        CrawlStart(job_id=job_id, revision=1, seeds=(SEED,), options=CrawlOptions()),
        CrawlPause(job_id=job_id, revision=2),
        CrawlResume(job_id=job_id, revision=3),
        CrawlCancel(job_id=job_id, revision=4),
    ]
    assert [state.status for state in tracker.progress.states[job_id]] == [
        JobStatus.PENDING,
        JobStatus.PAUSED,
        JobStatus.RUNNING,
        JobStatus.CANCELLING,
    ]


async def test_job_that_is_not_paused_can_not_be_resumed(tracker: Tracker) -> None:
    job_id = await tracker.create()

    refused = await refusal(tracker, JobResume(job_id=job_id))

    assert (refused.code, refused.field) == (ErrorCode.CONFLICT, "status")
    assert refused.message == "a job that is pending can't become running"


async def test_job_that_is_being_cancelled_can_be_neither_paused_nor_resumed(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.ask(JobCancel(job_id=job_id))

    refused = [await refusal(tracker, step(job_id=job_id)) for step in (JobPause, JobResume)]

    assert [one.code for one in refused] == [ErrorCode.CONFLICT] * 2
    assert (await tracker.job(job_id)).status is JobStatus.CANCELLING


async def test_finished_job_can_be_cancelled_without_effect_but_not_paused(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.apply(started(job_id, "a"), finished(job_id, "a"))
    finished_job = await tracker.job(job_id)

    reply = await tracker.ask(JobCancel(job_id=job_id))
    refused = await refusal(tracker, JobPause(job_id=job_id))

    assert reply == finished_job
    assert refused.code is ErrorCode.CONFLICT
    assert [type(command.data) for command in await tracker.commands(job_id)] == [CrawlStart]


@pytest.mark.parametrize("kind", [JobGet, JobCancel, JobPause, JobResume, DocumentsQuery, PagesQuery])
async def test_unknown_job_is_not_found(tracker: Tracker, kind: type[JobGet]) -> None:
    placeholder = uuid4()
    await tracker.apply(saved(placeholder, "a"))

    refused = [await refusal(tracker, kind(job_id=job_id)) for job_id in (uuid4(), placeholder)]

    assert [(one.code, one.field) for one in refused] == [(ErrorCode.NOT_FOUND, "job_id")] * 2


async def test_same_idempotency_key_and_request_give_the_same_job(tracker: Tracker) -> None:
    first = await control.create_job(tracker.deps, request("key", name="one"))

    again = await control.create_job(tracker.deps, request("key", name="one"))

    assert again == JobCreated(job=first.job, created=False)
    assert len(await tracker.pool.fetch("SELECT FROM jobs")) == 1
    assert len(await tracker.pool.fetch("SELECT FROM outbox")) == 1


async def test_same_idempotency_key_with_another_request_is_a_conflict(tracker: Tracker) -> None:
    await tracker.ask(request("key", name="one"))

    refused = await refusal(tracker, request("key", name="two"))

    assert (refused.code, refused.field) == (ErrorCode.CONFLICT, "Idempotency-Key")
    assert len(await tracker.pool.fetch("SELECT FROM jobs")) == 1


async def test_requests_without_a_key_are_jobs_of_their_own(tracker: Tracker) -> None:
    for _ in range(2):
        await tracker.ask(request())

    assert len(await tracker.pool.fetch("SELECT FROM jobs")) == 2


@pytest.mark.parametrize("key", [None, "key"])
async def test_redelivered_request_is_answered_as_the_first_time(tracker: Tracker, key: str | None) -> None:
    asked = request(key)
    first = await control.create_job(tracker.deps, asked)

    again = await control.create_job(tracker.deps, asked)

    assert again == first
    assert len(await tracker.commands(asked.job_id)) == 1


async def test_another_request_for_the_id_of_a_job_is_a_conflict(tracker: Tracker) -> None:
    job_id = await tracker.create()

    refused = await refusal(tracker, request(job_id=job_id, name="another"))

    assert (refused.code, refused.field) == (ErrorCode.CONFLICT, "job_id")


async def test_concurrent_requests_with_one_key_create_one_job(tracker_database_url: str) -> None:
    async with open_trackers(tracker_database_url, 2) as trackers:
        replies = await asyncio.gather(
            *(control.create_job(trackers[number % 2].deps, request("key")) for number in range(10))
        )
        jobs = await trackers[0].pool.fetch("SELECT FROM jobs")
        commands = await trackers[0].pool.fetch("SELECT FROM outbox")

    assert len({reply.job.job_id for reply in replies}) == len(jobs) == len(commands) == 1
    assert [reply.created for reply in replies].count(True) == 1


async def test_pages_of_the_list_hold_every_job_once_newest_first(tracker: Tracker) -> None:
    created = [await tracker.create() for _ in range(4)]
    tied = [(await control.create_job(tracker.deps, request())).job.job_id for _ in range(4)]

    pages: list[JobList] = []
    before: UUID | None = None
    while not pages or before:
        pages.append(await requests.list_jobs(tracker.deps, JobsQuery(before=before, limit=3)))
        before = pages[-1].next

    listed = [job for page in pages for job in page.jobs]
    assert [len(page.jobs) for page in pages] == [3, 3, 2]
    assert {job.job_id for job in listed} == {*created, *tied}
    assert [job.job_id for job in listed[-3:]] == created[2::-1]
    assert all(newer.created_at >= older.created_at for newer, older in pairwise(listed))


async def test_jobs_are_listed_without_what_was_asked_for(tracker: Tracker, tracker_pool: Pool) -> None:
    await tracker.ask(request(options=CrawlOptions(max_pages=7)))
    async with tracker_pool.acquire() as connection:
        found = [
            *(await store.list_jobs(connection, live=False, before=None, limit=1)),
            *(await store.list_jobs(connection, live=True, before=None, limit=1)),
            *(await store.live_jobs(connection)),
        ]

    assert [(job.seeds, job.options) for job in found] == [((), CrawlOptions())] * 3


async def test_list_of_live_jobs_leaves_out_finished_ones(tracker: Tracker) -> None:
    live, over = await tracker.create(), await tracker.create()
    await tracker.apply(started(over, "a"), finished(over, "a"))

    listed = await tracker.ask(JobsQuery(live=True))

    assert isinstance(listed, JobList)
    assert [job.job_id for job in listed.jobs] == [live]
    assert listed.next is None


async def test_pages_of_documents_hold_each_ordinal_once(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.apply(*(saved(job_id, str(number)) for number in range(7)))

    pages: list[DocumentList] = []
    after: int | None = 0
    while after is not None:
        pages.append(await requests.list_documents(tracker.deps, DocumentsQuery(job_id=job_id, after=after, limit=3)))
        after = pages[-1].next

    assert [[document.ordinal for document in page.documents] for page in pages] == [[1, 2, 3], [4, 5, 6], [7]]


async def test_pages_are_listed_by_state_each_once(tracker: Tracker) -> None:
    job_id = await tracker.create()
    names = [str(number) for number in range(8)]
    await tracker.apply(
        started(job_id, *names),
        claimed(job_id, "0"),
        finished(job_id, "1", Outcome.FAILED, reason="timeout"),
    )

    pages: list[PageList] = []
    after: UUID | None = None
    while not pages or after:
        query = PagesQuery(job_id=job_id, state=PageState.PENDING, after=after, limit=4)
        pages.append(await requests.list_pages(tracker.deps, query))
        after = pages[-1].next
    everything = await requests.list_pages(tracker.deps, PagesQuery(job_id=job_id))

    pending = [page.page_id for one in pages for page in one.pages]
    states = {page.page_id: page.state for page in everything.pages}
    assert [len(page.pages) for page in pages] == [4, 2]
    assert pending == sorted(spawned(job_id, name).page_id for name in names[2:])
    assert states[spawned(job_id, "0").page_id] is PageState.RUNNING
    assert states[spawned(job_id, "1").page_id] is PageState.FAILED


@pytest.mark.parametrize("state", [None, PageState.COMPLETED])
async def test_page_of_a_long_list_of_pages_reads_no_others(tracker: Tracker, state: PageState | None) -> None:
    job_id = uuid4()
    async with tracker.pool.acquire() as connection, connection.transaction():
        await connection.execute(MANY_PAGES, job_id)
        # As it may be for good after queries for rare pages; by the index, as where there are statistics.
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_sort = off")
        before = await connection.fetchval(PAGES_READ)
        query = PagesQuery(job_id=job_id, state=state, after=UUID(int=2**127), limit=10)
        listed = await store.list_pages(connection, query)
        read = await connection.fetchval(PAGES_READ) - before

    assert len(listed) == 10
    assert read < 100


async def test_summary_counts_pages_by_reason_and_samples_how_the_count_rose(tracker: Tracker) -> None:
    job_id = await tracker.create()
    names = [str(number) for number in range(200)]
    await tracker.apply(
        started(job_id, *names, "gone", "slow", "slower"),
        *(saved(job_id, name, at=NOON + timedelta(seconds=int(name))) for name in names),
        *(finished(job_id, name) for name in names),
        finished(job_id, "gone", Outcome.FAILED, reason="http_404"),
        finished(job_id, "slow", Outcome.FAILED, reason="timeout"),
        finished(job_id, "slower", Outcome.FAILED, reason="timeout"),
    )

    summary = await requests.summarize_job(tracker.deps, job_id)

    assert [(row.state, row.reason, row.pages) for row in summary.pages] == [
        (PageState.COMPLETED, None, 200),
        (PageState.FAILED, "timeout", 2),
        (PageState.FAILED, "http_404", 1),
    ]
    ordinals = [sample.ordinal for sample in summary.documents]
    assert (ordinals[0], ordinals[-1], len(ordinals)) == (1, 200, requests.SUMMARY_STEPS + 1)
    times = {document.ordinal: document.saved_at for document in await tracker.documents(job_id)}
    assert all(sample.saved_at == times[sample.ordinal] for sample in summary.documents)


async def test_summary_of_a_job_without_pages_is_empty(tracker: Tracker) -> None:
    assert await requests.summarize_job(tracker.deps, await tracker.create()) == JobSummary(pages=(), documents=())
    assert (await refusal(tracker, JobSummaryQuery(job_id=uuid4()))).code is ErrorCode.NOT_FOUND


async def test_reply_to_another_kind_of_message_is_a_refusal(tracker: Tracker) -> None:
    refused = await refusal(tracker, CrawlCancel(job_id=uuid4(), revision=1))

    assert (refused.code, refused.message) == (ErrorCode.INVALID, "crawl.cancel.v1 is no request to the job tracker")


async def test_job_is_answered_whole_by_every_step(tracker: Tracker) -> None:
    job_id = await tracker.create()

    reply = await tracker.ask(JobPause(job_id=job_id))

    assert isinstance(reply, Job)
    assert reply == await tracker.job(job_id)
