"""Two trackers at once on the same jobs: nothing is lost, nothing waits for ever, every job ends."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from uuid import uuid4

import pytest
from crawling import check_every_state
from job_tracker import store
from tallyho_contracts.crawls import CrawlStopped
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import JobCancel, JobStatus
from tallyho_contracts.pages import Outcome
from tracking import Tracker, all_states, disturbed, finished, made_up_crawl, open_trackers, saved, spawned, started

JOBS = 8


@pytest.fixture
async def trackers(tracker_database_url: str) -> AsyncIterator[list[Tracker]]:
    async with open_trackers(tracker_database_url, 2) as trackers:
        yield trackers


async def apply_all(tracker: Tracker, batches: list[list[Message]]) -> None:
    for batch in batches:
        await tracker.apply(*batch)


async def test_two_trackers_on_the_same_jobs_lose_no_count(trackers: list[Tracker]) -> None:
    random = Random(1)
    crawls = [made_up_crawl(random, await trackers[0].create(), pages=25) for _ in range(JOBS)]
    batches = disturbed(random, [event for crawl in crawls for event in crawl.events])

    await asyncio.gather(apply_all(trackers[0], batches[::2]), apply_all(trackers[1], batches[1::2]))

    for crawl in crawls:
        job = await trackers[0].job(crawl.job_id)
        documents = await trackers[0].documents(crawl.job_id)
        check_every_state(all_states(trackers, crawl.job_id))
        assert job.status is JobStatus.COMPLETED
        assert job.document_count == crawl.count(Outcome.COMPLETED)
        assert job.failed_children == crawl.count(Outcome.FAILED)
        assert job.total_children == len(crawl.outcomes)
        assert [document.ordinal for document in documents] == list(range(1, job.document_count + 1))


async def test_same_events_at_two_trackers_at_once_count_once(trackers: list[Tracker]) -> None:
    random = Random(2)
    crawl = made_up_crawl(random, await trackers[0].create(), pages=40)
    batches = [crawl.events[start : start + 5] for start in range(0, len(crawl.events), 5)]

    await asyncio.gather(*(apply_all(tracker, batches) for tracker in trackers))

    job = await trackers[0].job(crawl.job_id)
    assert (job.status, job.document_count) == (JobStatus.COMPLETED, crawl.count(Outcome.COMPLETED))
    assert job.total_children == len(crawl.outcomes)


async def test_jobs_whose_last_two_pages_finish_at_once_all_complete(trackers: list[Tracker]) -> None:
    for _ in range(20):
        job_id = await trackers[0].create()
        await trackers[0].apply(started(job_id, "a", "b"))

        await asyncio.gather(
            trackers[0].apply(saved(job_id, "a"), finished(job_id, "a")),
            trackers[1].apply(saved(job_id, "b"), finished(job_id, "b")),
        )

        job = await trackers[0].job(job_id)
        assert (job.status, job.document_count, job.completed_children) == (JobStatus.COMPLETED, 2, 2)


async def test_jobs_of_a_batch_are_locked_in_the_order_of_their_ids(trackers: list[Tracker]) -> None:
    job_ids = sorted(uuid4() for _ in range(JOBS))
    for job_id in reversed(job_ids):  # the table has them the other way round
        await trackers[0].create(job_id)
    async with (
        asyncio.timeout(30),
        asyncio.TaskGroup() as batch,
        trackers[1].pool.acquire() as connection,
        connection.transaction(),
    ):
        await store.lock_jobs(connection, job_ids[:1])
        batch.create_task(trackers[0].apply(*(saved(job_id, "a") for job_id in job_ids)))
        while not await trackers[0].pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)  # a lock's queue can't be awaited
        # Who waits for the first holds none of the others.
        await connection.fetch("SELECT FROM jobs WHERE job_id = $1 FOR UPDATE NOWAIT", job_ids[-1])


async def test_batches_that_name_jobs_in_opposite_order_do_not_deadlock(trackers: list[Tracker]) -> None:
    job_ids = [await trackers[0].create() for _ in range(JOBS)]

    for round_ in range(15):
        names = [f"{round_}-{replica}" for replica in range(2)]
        await asyncio.gather(
            trackers[0].apply(*(saved(job_id, names[0]) for job_id in job_ids)),
            trackers[1].apply(*(saved(job_id, names[1]) for job_id in reversed(job_ids))),
        )

    assert [(await trackers[0].job(job_id)).document_count for job_id in job_ids] == [30] * JOBS


async def test_events_of_jobs_that_no_one_created_yet_are_counted_by_both(trackers: list[Tracker]) -> None:
    random = Random(3)
    for _ in range(10):
        crawls = [made_up_crawl(random, uuid4(), pages=6) for _ in range(3)]
        batches = disturbed(random, [event for crawl in crawls for event in crawl.events])

        await asyncio.gather(
            apply_all(trackers[0], batches[::2]),
            apply_all(trackers[1], batches[1::2]),
            *(trackers[number % 2].create(crawl.job_id) for number, crawl in enumerate(crawls)),
        )

        for crawl in crawls:
            job = await trackers[0].job(crawl.job_id)
            assert (job.status, job.document_count) == (JobStatus.COMPLETED, crawl.count(Outcome.COMPLETED))


async def test_batch_that_waits_for_a_job_that_is_just_being_added_holds_no_other(trackers: list[Tracker]) -> None:
    known, new = await trackers[0].create(), uuid4()
    async with (
        asyncio.timeout(20),
        asyncio.TaskGroup() as batch,
        trackers[1].pool.acquire() as connection,
        connection.transaction(),
    ):
        await store.lock_jobs(connection, [new])
        batch.create_task(trackers[0].apply(saved(new, "a"), saved(known, "a")))
        while not await trackers[0].pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)  # a lock's queue can't be awaited
        locked = await store.lock_jobs(connection, [new, known])

    assert set(locked) == {new, known}
    assert (await trackers[0].job(known)).document_count == 1


async def test_cancel_at_the_same_time_as_the_last_page_ends_the_job_once(trackers: list[Tracker]) -> None:
    for _ in range(10):
        job_id = await trackers[0].create()
        await trackers[0].apply(started(job_id, "a"))

        await asyncio.gather(trackers[0].apply(finished(job_id, "a")), trackers[1].ask(JobCancel(job_id=job_id)))
        await trackers[1].apply(CrawlStopped(parent_job_id=job_id, page_ids=(spawned(job_id, "a").page_id,)))

        check_every_state(all_states(trackers, job_id))
        assert (await trackers[0].job(job_id)).document_count == 1
