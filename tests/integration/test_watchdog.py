"""Jobs that fall silent: reported once a silence, by one tracker, with what they wait for."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from job_tracker.watchdog import report, watch
from tallyho_contracts.jobs import JobCancel, JobGet, JobPause, JobResume, JobState, JobStatus
from tallyho_contracts.pages import PageState
from tallyho_postgres.pool import Pool
from tracking import NOON, SEED, Tracker, claimed, finished, open_trackers, saved, spawned, started

SILENCE = timedelta(seconds=120)


@pytest.fixture
def tracker(tracker_pool: Pool) -> Tracker:
    return Tracker(tracker_pool)


@pytest.fixture
async def two_trackers(tracker_database_url: str) -> AsyncIterator[list[Tracker]]:
    async with open_trackers(tracker_database_url, 2) as trackers:
        yield trackers


async def look(tracker: Tracker, *, after: timedelta = SILENCE + timedelta(seconds=1)) -> None:
    """Let time pass, then let the watchdog look."""
    tracker.now += after
    await report(tracker.deps, SILENCE)


async def crawling(tracker: Tracker) -> UUID:
    """A job with one page running, one pending and one finished."""
    job_id = await tracker.create()
    await tracker.apply(started(job_id, "1"), finished(job_id, "1", found=["2", "3"]), claimed(job_id, "2"))
    return job_id


def states(tracker: Tracker, job_id: UUID) -> list[JobState]:
    return tracker.progress.states[job_id]


async def test_silent_job_says_since_when_and_what_it_waits_for(
    tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await crawling(tracker)
    before = await tracker.job(job_id)
    with caplog.at_level(logging.WARNING):
        await look(tracker)
    job = await tracker.job(job_id)

    assert (job.stalled_since, job.revision) == (before.timestamp, before.revision + 1)
    assert states(tracker, job_id)[-1].stalled_since == before.timestamp
    assert job.waits_for is not None
    assert job.waits_for.start_confirmed
    assert (job.waits_for.known_pages, job.waits_for.crawler_pages) == (3, None)
    assert [(page.url, page.state, page.since) for page in job.waits_for.pages] == [
        (f"{SEED}2", PageState.RUNNING, before.timestamp),
        (f"{SEED}3", PageState.PENDING, before.timestamp),
    ]
    assert f"job={job_id}" in caplog.text
    assert "pending=1 running=1 known_pages=3" in caplog.text


async def test_silence_changes_no_counter(tracker: Tracker) -> None:
    job_id = await crawling(tracker)
    before = await tracker.job(job_id)
    await look(tracker)
    after = await tracker.job(job_id)

    changed = {"revision", "timestamp", "stalled_since", "waits_for", "documents_per_second"}
    assert after.model_dump(exclude=changed) == before.model_dump(exclude=changed)


async def test_silence_is_reported_once(tracker: Tracker) -> None:
    job_id = await crawling(tracker)
    for _ in range(3):
        await look(tracker)

    assert [state.stalled_since is not None for state in states(tracker, job_id)] == [False, False, True]


async def test_job_that_changes_in_time_is_not_reported(tracker: Tracker) -> None:
    job_id = await crawling(tracker)
    await look(tracker, after=SILENCE)

    assert (await tracker.job(job_id)).stalled_since is None


async def test_next_event_ends_the_silence_and_the_next_silence_is_reported_again(tracker: Tracker) -> None:
    job_id = await crawling(tracker)
    await look(tracker)
    await tracker.apply(claimed(job_id, "3"))
    heard = await tracker.job(job_id)
    await look(tracker)
    silent = await tracker.job(job_id)

    assert (heard.stalled_since, heard.waits_for) == (None, None)
    assert silent.stalled_since == heard.timestamp
    assert [state.revision for state in states(tracker, job_id)] == [1, 2, 3, 4, 5]


async def test_lost_message_shows_as_a_difference_of_pages(tracker: Tracker) -> None:
    job_id = await tracker.create()
    last = finished(job_id, "1", found=["2"]).model_copy(update={"job_pages": 3})  # that of a third page is lost
    await tracker.apply(started(job_id, "1"), last)
    await look(tracker)
    waits_for = (await tracker.job(job_id)).waits_for

    assert waits_for is not None
    assert (waits_for.known_pages, waits_for.crawler_pages) == (2, 3)


async def test_job_whose_start_was_lost_waits_for_it(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await look(tracker)
    job = await tracker.job(job_id)

    assert (job.status, job.stalled_since) == (JobStatus.PENDING, job.created_at)
    assert job.waits_for is not None
    assert (job.waits_for.start_confirmed, job.waits_for.pages) == (False, ())


async def test_cancelling_job_is_reported_and_its_steps_end_the_silence(tracker: Tracker) -> None:
    job_id = await crawling(tracker)
    await look(tracker)
    await tracker.ask(JobCancel(job_id=job_id))
    cancelling = await tracker.job(job_id)
    await look(tracker)

    assert cancelling.stalled_since is None
    assert (await tracker.job(job_id)).stalled_since is not None


async def test_paused_job_is_not_silent_until_it_was_resumed(tracker: Tracker) -> None:
    job_id = await crawling(tracker)
    await tracker.ask(JobPause(job_id=job_id))
    await look(tracker)
    paused = await tracker.job(job_id)
    await tracker.ask(JobResume(job_id=job_id))
    await look(tracker, after=SILENCE)
    resumed = await tracker.job(job_id)
    await look(tracker)

    assert (paused.stalled_since, resumed.stalled_since) == (None, None)
    assert (await tracker.job(job_id)).stalled_since is not None


async def test_job_that_ended_is_never_silent(tracker: Tracker) -> None:
    job_id = await crawling(tracker)
    await look(tracker)
    await tracker.apply(finished(job_id, "2"), finished(job_id, "3"), saved(job_id, "2"))
    await look(tracker)
    job = await tracker.job(job_id)

    assert (job.status, job.stalled_since, job.waits_for) == (JobStatus.COMPLETED, None, None)


async def test_job_whose_creation_has_not_arrived_is_not_reported(tracker: Tracker) -> None:
    job_id = uuid4()
    await tracker.apply(started(job_id, "1"))
    await look(tracker)

    assert states(tracker, job_id) == []


async def test_twenty_pages_are_named_those_that_wait_longest_first(tracker: Tracker) -> None:
    job_id = await tracker.create()
    names = [str(number) for number in range(30)]
    await tracker.apply(started(job_id, *names))
    for name in reversed(names[:25]):
        tracker.now += timedelta(seconds=1)
        await tracker.apply(claimed(job_id, name))
    await look(tracker)
    waits_for = (await tracker.job(job_id)).waits_for

    assert waits_for is not None
    assert [page.url for page in waits_for.pages] == [spawned(job_id, name).url for name in reversed(names[5:25])]


async def test_two_trackers_report_a_silence_once(two_trackers: list[Tracker]) -> None:
    first, second = two_trackers
    jobs = [await crawling(first) for _ in range(20)]
    first.now = second.now = first.now + timedelta(hours=1)
    await asyncio.gather(*(report(each.deps, SILENCE) for each in [first, second] * 5))

    for job_id in jobs:
        reported = [one for tracker in (first, second) for one in states(tracker, job_id) if one.stalled_since]
        assert len(reported) == 1


async def test_event_and_report_at_the_same_time_keep_the_revisions_rising(two_trackers: list[Tracker]) -> None:
    first, second = two_trackers
    job_id = await crawling(first)
    for number in range(20):
        second.now = first.now + timedelta(hours=number + 1)
        await asyncio.gather(first.apply(started(job_id, f"more-{number}")), report(second.deps, SILENCE))
    everyone = sorted(one.revision for tracker in (first, second) for one in states(tracker, job_id))

    assert everyone == list(range(1, len(everyone) + 1))


async def test_watchdog_looks_again_and_again_until_it_is_stopped(tracker: Tracker) -> None:
    first, second = await crawling(tracker), None
    tracker.now = NOON + timedelta(hours=1)
    stop = asyncio.Event()
    async with asyncio.timeout(20), asyncio.TaskGroup() as watching:
        watching.create_task(watch(tracker.deps, 0.1, stop))
        while (await tracker.job(first)).stalled_since is None:
            pass
        second = await crawling(tracker)
        tracker.now += timedelta(hours=1)
        while (await tracker.job(second)).stalled_since is None:
            pass
        stop.set()

    assert isinstance(await tracker.ask(JobGet(job_id=second)), JobState)
