"""Changing and retrying jobs: a job ends once, and not before a change of its rules has reached the crawler."""

from collections.abc import AsyncIterator
from itertools import permutations
from uuid import UUID, uuid4

import pytest
from tallyho_contracts.crawls import CrawlCancel, CrawlChange, CrawlChanged, CrawlStart
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import ChangeableOption, Job, JobCancel, JobChange, JobCreated, JobRetry, JobStatus
from tallyho_contracts.pages import Outcome
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.requests import RequestRefused
from tracking import Tracker, finished, open_trackers, spawned, started


@pytest.fixture
async def tracker(tracker_database_url: str) -> AsyncIterator[Tracker]:
    async with open_trackers(tracker_database_url, 1) as [one]:
        yield one


async def change(tracker: Tracker, job_id: UUID, **limits: float | None) -> Job:
    """Change the limits of a job."""
    fields = tuple(ChangeableOption(name) for name in limits)
    reply = await tracker.ask(JobChange.model_validate({"job_id": job_id, "fields": fields, **limits}))
    assert isinstance(reply, Job)
    return reply


async def retry(tracker: Tracker, job_id: UUID, new: UUID, key: str | None = None) -> JobCreated:
    """Retry the failed pages of a job."""
    reply = await tracker.ask(JobRetry(job_id=new, retry_of=job_id, idempotency_key=key))
    assert isinstance(reply, JobCreated)
    return reply


def confirmed(job_id: UUID, revision: int, *names: str) -> CrawlChanged:
    return CrawlChanged(
        parent_job_id=job_id, revision=revision, pages=tuple(spawned(job_id, name, 1) for name in names)
    )


@pytest.mark.parametrize("order", list(permutations(range(4))))
async def test_job_is_not_complete_before_its_last_change_is_confirmed_whatever_the_order(
    tracker: Tracker, order: tuple[int, ...]
) -> None:
    job_id = await tracker.create(max_pages=1)
    await change(tracker, job_id, max_pages=2)
    last = (await change(tracker, job_id, max_pages=3)).revision
    events: list[Message] = [
        started(job_id, "a"),
        finished(job_id, "a"),
        confirmed(job_id, last, "b"),
        finished(job_id, "b", depth=1),
    ]
    for number in order:
        before = await tracker.job(job_id)
        await tracker.apply(events[number])
        await tracker.apply(events[number])

        assert not before.status.is_terminal
    after = await tracker.job(job_id)
    statuses = [state.status for state in tracker.progress.states[job_id]]

    assert (after.status, after.document_count, after.total_children) == (JobStatus.COMPLETED, 2, 2)
    assert sum(status.is_terminal for status in statuses) == 1


async def test_confirmation_of_an_older_change_is_not_enough(tracker: Tracker) -> None:
    job_id = await tracker.create()
    older = (await change(tracker, job_id, max_pages=2)).revision
    newer = (await change(tracker, job_id, max_pages=3)).revision
    await tracker.apply(started(job_id, "a"), finished(job_id, "a"), confirmed(job_id, older))
    between = await tracker.job(job_id)
    await tracker.apply(confirmed(job_id, newer))

    assert between.status is JobStatus.RUNNING
    assert (await tracker.job(job_id)).status is JobStatus.COMPLETED


async def test_change_names_what_it_changes_and_tells_the_crawler_all_rules(tracker: Tracker) -> None:
    job_id = await tracker.create(max_pages=10, max_failures=3, exclude=["x"])
    job = await change(tracker, job_id, max_failures=None, delay=1.5)
    again = await change(tracker, job_id, delay=1.5)
    commands = [event.data for event in await tracker.commands(job_id) if isinstance(event.data, CrawlChange)]

    assert (job.options.max_pages, job.options.max_failures, job.options.delay) == (10, None, 1.5)
    assert job.options == (await tracker.job(job_id)).options
    assert again.revision == job.revision
    assert [(command.options, command.revision) for command in commands] == [(job.options, job.revision)]


async def test_fewer_failures_than_there_were_stop_the_job(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.apply(started(job_id, "a", "b"), finished(job_id, "a", Outcome.FAILED, reason="http_404"))
    job = await change(tracker, job_id, max_failures=0)
    cancels = [event for event in await tracker.commands(job_id) if isinstance(event.data, CrawlCancel)]

    assert job.status is JobStatus.CANCELLING
    assert "max_failures = 0" in (job.error or "")
    assert len(cancels) == 1


async def test_job_at_its_end_or_cancelled_is_not_changed(tracker: Tracker) -> None:
    ended, cancelled = await tracker.create(), await tracker.create()
    await tracker.apply(started(ended, "a"), finished(ended, "a"))
    await tracker.ask(JobCancel(job_id=cancelled))

    for job_id, code in ((ended, ErrorCode.CONFLICT), (cancelled, ErrorCode.CONFLICT), (uuid4(), ErrorCode.NOT_FOUND)):
        with pytest.raises(RequestRefused) as refused:
            await change(tracker, job_id, max_pages=5)
        assert refused.value.refused.code is code


async def test_retry_is_a_job_of_its_own_and_the_first_stays_as_it_ended(tracker: Tracker) -> None:
    first = await tracker.create(max_pages=7)
    await tracker.apply(
        started(first, "a", "b"), finished(first, "a"), finished(first, "b", Outcome.FAILED, reason="timeout")
    )
    before = await tracker.job(first)
    second = (await retry(tracker, first, uuid4(), "key")).job
    same_key = await retry(tracker, first, uuid4(), "key")
    redelivered = await retry(tracker, first, second.job_id, "key")
    starts = [event.data for event in await tracker.commands(second.job_id) if isinstance(event.data, CrawlStart)]
    await tracker.apply(started(second.job_id, "b"), finished(second.job_id, "b"))
    again = await tracker.job(second.job_id)

    assert (second.retry_of, second.options, second.seeds, second.name) == (
        first,
        before.options,
        before.seeds,
        before.name,
    )
    assert not same_key.created
    assert same_key.job.job_id == redelivered.job.job_id == second.job_id
    assert [(start.retry_of, start.options) for start in starts] == [(first, before.options)]
    assert (again.status, again.document_count, again.retry_of) == (JobStatus.COMPLETED, 1, first)
    assert await tracker.job(first) == before
    assert sum(state.status.is_terminal for state in tracker.progress.states[first]) == 1


async def test_only_a_job_that_has_ended_with_failed_pages_is_retried(tracker: Tracker) -> None:
    live, clean = await tracker.create(), await tracker.create()
    await tracker.apply(started(live, "a", "b"), finished(live, "a", Outcome.FAILED, reason="timeout"))
    await tracker.apply(started(clean, "a"), finished(clean, "a"))

    for job_id, code in ((live, ErrorCode.CONFLICT), (clean, ErrorCode.CONFLICT), (uuid4(), ErrorCode.NOT_FOUND)):
        with pytest.raises(RequestRefused) as refused:
            await retry(tracker, job_id, uuid4())
        assert refused.value.refused.code is code
