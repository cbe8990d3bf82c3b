"""The crawler's events, in every order and number of copies: what the tracker makes of them."""

from datetime import timedelta
from uuid import uuid4

import pytest
from crawling import check_every_state
from job_tracker.handlers import on_events
from job_tracker.requests import list_pages
from tallyho_contracts.crawls import CrawlCancel, CrawlStart, CrawlStopped
from tallyho_contracts.jobs import JobCancel, JobPause, JobStatus
from tallyho_contracts.pages import Outcome, PagesQuery, PageState
from tallyho_messaging.wire import event_of
from tallyho_postgres.pool import Pool
from tracking import (
    NOON,
    Tracker,
    claimed,
    finished,
    saved,
    spawned,
    started,
)


@pytest.fixture
def tracker(tracker_pool: Pool) -> Tracker:
    return Tracker(tracker_pool)


async def test_redelivered_document_is_counted_once(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.apply(saved(job_id, "a"), saved(job_id, "a"))
    revision = (await tracker.job(job_id)).revision

    await tracker.apply(saved(job_id, "a"))

    job = await tracker.job(job_id)
    assert job.document_count == 1
    assert job.revision == revision
    assert [document.ordinal for document in await tracker.documents(job_id)] == [1]


async def test_document_is_counted_in_each_job_that_saved_it(tracker: Tracker) -> None:
    first, second = await tracker.create(), await tracker.create()

    await tracker.apply(saved(first, "a"), saved(second, "a"), saved(second, "b"))

    assert (await tracker.job(first)).document_count == 1
    assert (await tracker.job(second)).document_count == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["saved first", "finished first"])
@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
async def test_document_named_by_both_its_events_is_counted_once_and_described(
    tracker: Tracker, order: tuple[int, int], together: bool
) -> None:
    job_id = await tracker.create()
    pair = saved(job_id, "a", title="The title"), finished(job_id, "a")
    events = [pair[number] for number in order]

    for batch in [events] if together else [[event] for event in events]:
        await tracker.apply(*batch)

    [document] = await tracker.documents(job_id)
    assert (await tracker.job(job_id)).document_count == 1
    assert (document.ordinal, document.title, document.content_hash) == (1, "The title", "0" * 64)


async def test_page_finished_alone_makes_its_document_count(tracker: Tracker) -> None:
    job_id = await tracker.create()

    await tracker.apply(started(job_id, "a"), finished(job_id, "a"))

    job = await tracker.job(job_id)
    assert (job.status, job.document_count) == (JobStatus.COMPLETED, 1)


@pytest.mark.parametrize("hours", [(1, 2), (2, 1)], ids=["older first", "newer first"])
async def test_newest_save_describes_a_document(tracker: Tracker, hours: tuple[int, int]) -> None:
    job_id = await tracker.create()

    for hour in hours:
        await tracker.apply(saved(job_id, "a", title=f"At {hour}", at=NOON + timedelta(hours=hour)))

    assert [document.title for document in await tracker.documents(job_id)] == ["At 2"]


async def test_document_keeps_the_microsecond_at_which_it_was_saved(tracker: Tracker) -> None:
    job_id = await tracker.create()
    times = [NOON.replace(year=year, microsecond=part) for year in (1969, 2026, 2200) for part in (1, 333_333, 999_999)]

    await tracker.apply(*(saved(job_id, str(number), at=at) for number, at in enumerate(times)))

    assert [document.saved_at for document in await tracker.documents(job_id)] == times


async def test_job_is_not_over_before_its_seeds_are_confirmed(tracker: Tracker) -> None:
    job_id = await tracker.create()

    await tracker.apply(finished(job_id, "a"))
    before = await tracker.job(job_id)
    await tracker.apply(started(job_id, "a"))

    assert before.status is JobStatus.RUNNING
    assert (await tracker.job(job_id)).status is JobStatus.COMPLETED


async def test_child_may_finish_before_its_parent_told_of_it(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.apply(started(job_id, "seed"))
    await tracker.apply(finished(job_id, "grandchild", depth=2), finished(job_id, "seed", found=["child"]))

    between = await tracker.job(job_id)
    await tracker.apply(finished(job_id, "child", found=["grandchild"], depth=1))

    assert (between.status, between.pending_children, between.completed_children) == (JobStatus.RUNNING, 1, 2)
    job = await tracker.job(job_id)
    assert (job.status, job.pending_children, job.completed_children) == (JobStatus.COMPLETED, 0, 3)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
async def test_page_that_finished_does_not_run_again(tracker: Tracker, together: bool) -> None:
    job_id = await tracker.create()
    events = [finished(job_id, "a", Outcome.FAILED, reason="timeout"), claimed(job_id, "a"), started(job_id, "a", "b")]

    for batch in [events] if together else [[event] for event in events]:
        await tracker.apply(*batch)

    job = await tracker.job(job_id)
    [page] = (await list_pages(tracker.deps, PagesQuery(job_id=job_id, state=PageState.FAILED))).pages
    assert (job.pending_children, job.running_children, job.failed_children) == (1, 0, 1)
    assert (page.url, page.reason, page.finished_at) == (spawned(job_id, "a").url, "timeout", NOON)


async def test_running_page_gets_its_address_from_the_event_that_found_it(tracker: Tracker) -> None:
    job_id = await tracker.create()

    await tracker.apply(claimed(job_id, "a"))
    unnamed = (await list_pages(tracker.deps, PagesQuery(job_id=job_id))).pages
    await tracker.apply(started(job_id, "a"))
    named = (await list_pages(tracker.deps, PagesQuery(job_id=job_id))).pages

    assert [(page.state, page.url) for page in unnamed] == [(PageState.RUNNING, None)]
    assert [(page.state, page.url) for page in named] == [(PageState.RUNNING, spawned(job_id, "a").url)]


async def test_second_end_of_a_page_changes_nothing(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.apply(started(job_id, "a", "b"), finished(job_id, "a"))

    await tracker.apply(finished(job_id, "a", Outcome.FAILED, reason="timeout"))
    await tracker.apply(CrawlStopped(parent_job_id=job_id, page_ids=(spawned(job_id, "a").page_id,)))

    job = await tracker.job(job_id)
    [page] = (await list_pages(tracker.deps, PagesQuery(job_id=job_id, state=PageState.COMPLETED))).pages
    assert (job.pending_children, job.completed_children, job.failed_children) == (1, 1, 0)
    assert (job.cancelled_children, page.reason) == (0, None)


async def test_state_of_a_batch_whose_answer_was_lost_is_announced_when_it_comes_again(tracker: Tracker) -> None:
    job_id = await tracker.create()
    batch = [started(job_id, "a"), saved(job_id, "a")]
    await tracker.apply(*batch)
    announced = tracker.progress.states.pop(job_id)
    await tracker.apply(*batch)

    assert tracker.progress.states[job_id] == announced[-1:]


async def test_nothing_is_announced_after_the_end(tracker: Tracker) -> None:
    job_id = await tracker.create()
    events = [started(job_id, "a"), claimed(job_id, "a"), saved(job_id, "a"), finished(job_id, "a")]
    await tracker.apply(*events)

    for event in reversed(events):
        await tracker.apply(event)

    states = tracker.progress.states[job_id]
    check_every_state(states)
    assert len([state for state in states if state.status.is_terminal]) == 1


async def test_cancelled_job_ends_once_when_its_pages_are_closed_and_counts_what_was_saved(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.apply(started(job_id, "a", "b", "c"), claimed(job_id, "a"), finished(job_id, "b"))

    await tracker.ask(JobCancel(job_id=job_id))
    cancelling = await tracker.job(job_id)
    await tracker.apply(saved(job_id, "a"), finished(job_id, "a", found=["d"]))
    closed = CrawlStopped(parent_job_id=job_id, page_ids=(spawned(job_id, "c").page_id, spawned(job_id, "d").page_id))
    still_cancelling = await tracker.job(job_id)
    await tracker.apply(closed)
    await tracker.apply(closed)

    job = await tracker.job(job_id)
    check_every_state(tracker.progress.states[job_id])
    assert (cancelling.status, still_cancelling.status) == (JobStatus.CANCELLING, JobStatus.CANCELLING)
    assert (job.status, job.document_count) == (JobStatus.CANCELLED, 2)
    assert (job.completed_children, job.cancelled_children, job.pending_children) == (2, 2, 0)


async def test_cancelled_page_may_be_named_before_it_was_found(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.apply(started(job_id, "a"))
    await tracker.ask(JobCancel(job_id=job_id))

    await tracker.apply(CrawlStopped(parent_job_id=job_id, page_ids=(spawned(job_id, "b").page_id,)))
    before = await tracker.job(job_id)
    await tracker.apply(finished(job_id, "a", found=["b"]))

    job = await tracker.job(job_id)
    assert (before.status, before.cancelled_children) == (JobStatus.CANCELLING, 1)
    assert (job.status, job.cancelled_children, job.pending_children) == (JobStatus.CANCELLED, 1, 0)


async def test_job_with_too_many_failures_is_stopped_and_fails(tracker: Tracker) -> None:
    job_id = await tracker.create(max_failures=1)
    await tracker.apply(started(job_id, "a", "b", "c", "d"), finished(job_id, "a"))

    await tracker.apply(finished(job_id, "b", Outcome.FAILED))
    tolerated = await tracker.job(job_id)
    await tracker.apply(finished(job_id, "c", Outcome.FAILED))
    stopping = await tracker.job(job_id)
    await tracker.apply(CrawlStopped(parent_job_id=job_id, page_ids=(spawned(job_id, "d").page_id,)))

    job = await tracker.job(job_id)
    cancels = [event for event in await tracker.commands(job_id) if isinstance(event.data, CrawlCancel)]
    check_every_state(tracker.progress.states[job_id])
    assert (tolerated.status, stopping.status) == (JobStatus.RUNNING, JobStatus.CANCELLING)
    assert [cancel.data.revision for cancel in cancels] == [stopping.revision]
    assert (job.status, job.error) == (JobStatus.FAILED, "more pages failed than max_failures = 1")
    assert job.document_count == 1


async def test_job_that_is_being_stopped_is_not_stopped_once_more(tracker: Tracker) -> None:
    job_id = await tracker.create(max_failures=0)
    await tracker.apply(started(job_id, "a", "b", "c"))
    for name in ("a", "b"):
        await tracker.apply(finished(job_id, name, Outcome.FAILED))

    assert [type(command.data) for command in await tracker.commands(job_id)] == [CrawlStart, CrawlCancel]


async def test_job_that_saved_nothing_fails_with_its_reasons(tracker: Tracker) -> None:
    job_id = await tracker.create()

    await tracker.apply(
        started(job_id, "a", "b", "c"),
        finished(job_id, "a", Outcome.FAILED, reason="http_404"),
        finished(job_id, "b", Outcome.SKIPPED, reason="robots"),
        finished(job_id, "c", Outcome.FAILED, reason="http_404"),
    )

    job = await tracker.job(job_id)
    assert (job.status, job.error) == (JobStatus.FAILED, "no document was saved: 2 x http_404, 1 x robots")


async def test_job_without_a_page_fails_and_says_so(tracker: Tracker) -> None:
    job_id = await tracker.create()

    await tracker.apply(started(job_id))

    job = await tracker.job(job_id)
    assert (job.status, job.error) == (JobStatus.FAILED, "no document was saved: no seed could be crawled")


async def test_job_whose_failure_came_before_its_creation_says_why_too(tracker: Tracker) -> None:
    job_id = uuid4()
    await tracker.apply(started(job_id, "a"), finished(job_id, "a", Outcome.FAILED, reason="http_404"))

    await tracker.create(job_id)

    job = await tracker.job(job_id)
    assert (job.status, job.error) == (JobStatus.FAILED, "no document was saved: 1 x http_404")


async def test_job_whose_events_came_before_its_creation_is_running(tracker: Tracker) -> None:
    job_id = uuid4()
    await tracker.apply(saved(job_id, "a"))

    await tracker.create(job_id)

    job = await tracker.job(job_id)
    assert (job.status, job.document_count) == (JobStatus.RUNNING, 1)


@pytest.mark.parametrize("seeds", [("a", "b"), ()], ids=["start confirmed", "start not confirmed"])
async def test_job_that_failed_too_often_before_its_creation_is_stopped(
    tracker: Tracker, seeds: tuple[str, ...]
) -> None:
    job_id = uuid4()
    confirmed = [started(job_id, *seeds)] if seeds else [claimed(job_id, "b")]
    await tracker.apply(*confirmed, finished(job_id, "a", Outcome.FAILED))

    await tracker.create(job_id, max_failures=0)

    job = await tracker.job(job_id)
    commands = {type(event.data): event.data.revision for event in await tracker.commands(job_id)}
    assert (job.status, job.error) == (JobStatus.CANCELLING, "more pages failed than max_failures = 0")
    assert commands[CrawlCancel] == job.revision > commands[CrawlStart]


async def test_paused_job_stays_paused_and_ends_with_its_last_page(tracker: Tracker) -> None:
    job_id = await tracker.create()
    await tracker.ask(JobPause(job_id=job_id))

    await tracker.apply(started(job_id, "a", "b"), finished(job_id, "a"))
    between = await tracker.job(job_id)
    await tracker.apply(finished(job_id, "b"))

    assert (between.status, between.document_count) == (JobStatus.PAUSED, 1)
    assert (await tracker.job(job_id)).status is JobStatus.COMPLETED


async def test_message_that_is_no_event_of_the_crawler_is_refused(tracker: Tracker) -> None:
    misplaced = event_of(JobCancel(job_id=uuid4()), source="ws-gateway", subject=uuid4())

    with pytest.raises(TypeError, match="JobCancel is no event of the crawler"):
        await on_events(tracker.deps, [misplaced])
