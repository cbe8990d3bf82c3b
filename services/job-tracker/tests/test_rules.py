"""What a batch makes of a job, as a table; no database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from job_tracker.rules import Job, PageCounts, Tally, job_state, job_view, moved, nothing_saved, state_after, waits_for
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.jobs import JobStatus, WaitsFor

NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
NOW = NOON + timedelta(seconds=4)

PENDING, RUNNING, PAUSED = JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PAUSED
CANCELLING, CANCELLED = JobStatus.CANCELLING, JobStatus.CANCELLED
COMPLETED, FAILED = JobStatus.COMPLETED, JobStatus.FAILED


def a_job(
    status: JobStatus = RUNNING,
    *,
    confirmed: bool = True,
    documents: int = 0,
    max_failures: int | None = None,
    error: str | None = None,
    **pages: int,
) -> Job:
    return Job(
        job_id=UUID(int=1),
        created_at=NOON,
        name="",
        seeds=("https://example.com/",),
        options=CrawlOptions(max_failures=max_failures),
        status=status,
        start_confirmed=confirmed,
        revision=3,
        document_count=documents,
        pages=PageCounts(**pages),
        crawler_pages=0,
        started_at=None if status is PENDING else NOON,
        finished_at=NOON if status.is_terminal else None,
        updated_at=NOON,
        error=error,
    )


LAST_PAGE = Tally(documents=1, pages=PageCounts(running=-1, completed=1))
LAST_PAGE_FAILED = Tally(pages=PageCounts(running=-1, failed=1))
LAST_PAGE_CANCELLED = Tally(pages=PageCounts(running=-1, cancelled=1))
START = Tally(start_confirmed=True)


@pytest.mark.parametrize(
    ("before", "tally", "status"),
    [
        # The first event of a job makes it run; without pages, its start is its end.
        (a_job(PENDING, confirmed=False), Tally(pages=PageCounts(pending=1)), RUNNING),
        (a_job(PENDING, confirmed=False), Tally(pages=PageCounts(pending=1), start_confirmed=True), RUNNING),
        (a_job(PENDING, confirmed=False), START, FAILED),
        # A job is over when its start is confirmed and no known page is unfinished, and not before.
        (a_job(running=1), LAST_PAGE, COMPLETED),
        (a_job(running=1, pending=1), LAST_PAGE, RUNNING),
        (a_job(running=2), LAST_PAGE, RUNNING),
        (a_job(running=1, confirmed=False), LAST_PAGE, RUNNING),
        (a_job(confirmed=False, completed=1, documents=1), START, COMPLETED),
        (a_job(running=1), Tally(documents=1, pages=PageCounts(running=-1, completed=1, pending=2)), RUNNING),
        (a_job(running=1, completed=5, documents=5), LAST_PAGE_FAILED, COMPLETED),
        (a_job(running=1), LAST_PAGE_FAILED, FAILED),
        (a_job(running=1), Tally(pages=PageCounts(running=-1, skipped=1)), FAILED),
        # A paused job takes what is under way, and ends with its last page.
        (a_job(PAUSED, running=1, pending=1), LAST_PAGE, PAUSED),
        (a_job(PAUSED, running=1), LAST_PAGE, COMPLETED),
        (a_job(PAUSED, confirmed=False), Tally(pages=PageCounts(pending=1), start_confirmed=True), PAUSED),
        # A cancelled job ends as such, whatever its last pages brought.
        (a_job(CANCELLING, running=1, pending=1), LAST_PAGE, CANCELLING),
        (a_job(CANCELLING, running=1, documents=3, completed=3), LAST_PAGE, CANCELLED),
        (a_job(CANCELLING, running=1), LAST_PAGE_CANCELLED, CANCELLED),
        (a_job(CANCELLING, confirmed=False), START, CANCELLED),
        (a_job(CANCELLING, running=1, max_failures=0), LAST_PAGE_FAILED, CANCELLED),
        # Too many failures stop a job that is going on.
        (a_job(running=1, pending=1, max_failures=1), LAST_PAGE_FAILED, RUNNING),
        (a_job(running=1, pending=1, max_failures=0), LAST_PAGE_FAILED, CANCELLING),
        (a_job(PAUSED, running=1, pending=1, max_failures=0), LAST_PAGE_FAILED, CANCELLING),
        (a_job(PENDING, confirmed=False, max_failures=0), Tally(pages=PageCounts(failed=1)), CANCELLING),
        (a_job(running=1, max_failures=0, documents=9, completed=9), LAST_PAGE_FAILED, FAILED),
        (a_job(CANCELLING, running=1, failed=1, error="1 page failed", documents=9), LAST_PAGE, FAILED),
        # What is over stays over.
        (a_job(COMPLETED, completed=1, documents=1), Tally(pages=PageCounts(failed=1)), COMPLETED),
        (a_job(CANCELLED, cancelled=1), LAST_PAGE, CANCELLED),
        (a_job(FAILED, failed=1, max_failures=0), LAST_PAGE, FAILED),
        # A placeholder only counts.
        (replace(a_job(PENDING), created_at=None), LAST_PAGE, PENDING),
    ],
)
def test_status_after_a_batch(before: Job, tally: Tally, status: JobStatus) -> None:
    after = state_after(before, tally, NOW)

    assert after.status is status
    assert after.document_count == before.document_count + tally.documents
    assert after.pages == before.pages + tally.pages
    if before.status.is_terminal:
        assert after.finished_at == before.finished_at
    else:
        assert after.finished_at == (NOW if status.is_terminal else None)


def test_first_batch_starts_the_clock_of_a_job_and_later_ones_leave_it() -> None:
    first = state_after(a_job(PENDING, confirmed=False), START, NOW)
    later = state_after(first, LAST_PAGE, NOW + timedelta(hours=1))

    assert (first.started_at, later.started_at) == (NOW, NOW)
    assert later.updated_at == NOW + timedelta(hours=1)


def test_too_many_failures_are_told_in_words() -> None:
    after = state_after(a_job(running=1, pending=1, failed=2, max_failures=2), LAST_PAGE_FAILED, NOW)

    assert after.error == "more pages failed than max_failures = 2"


def test_a_start_that_was_confirmed_stays_so_and_the_crawlers_count_only_rises() -> None:
    before = replace(a_job(running=1), crawler_pages=9)

    after = state_after(before, Tally(pages=PageCounts(pending=1), crawler_pages=4), NOW)

    assert (after.start_confirmed, after.crawler_pages) == (True, 9)


@pytest.mark.parametrize(
    "tally", [LAST_PAGE, START, Tally(documents=1), Tally(pages=PageCounts(pending=-1, running=1))]
)
def test_a_batch_that_changes_something_is_not_empty(tally: Tally) -> None:
    assert not tally.is_empty


def test_what_the_crawler_repeats_of_its_page_count_is_no_change() -> None:
    assert Tally(crawler_pages=7).is_empty


def test_pages_that_move_leave_their_state_and_new_ones_leave_none() -> None:
    assert moved([(None, 0, 5), (0, 1, 2), (1, 2, 1), (None, 3, 1)]) == PageCounts(
        pending=3, running=1, completed=1, failed=1
    )


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        ({}, "no document was saved: no seed could be crawled"),
        ({"http_404": 2, "robots": 1}, "no document was saved: 2 x http_404, 1 x robots"),
        ({None: 3}, "no document was saved: 3 x unknown"),
    ],
)
def test_reasons_of_a_job_that_saved_nothing(reasons: dict[str | None, int], words: str) -> None:
    assert nothing_saved(reasons) == words


def test_state_is_the_whole_job_with_the_words_of_the_old_system() -> None:
    job = a_job(documents=41, pending=66, running=1, completed=41, skipped=2)

    state = job_state(replace(job, updated_at=NOON + timedelta(seconds=8)))

    assert state.progress_text == "66 pending, 1 running, 41 completed, 0 failed"
    assert (state.total_children, state.skipped_children, state.cancelled_children) == (110, 2, 0)
    assert (state.document_count, state.documents_per_second) == (41, 5.12)
    assert state.timestamp == NOON + timedelta(seconds=8)


@pytest.mark.parametrize(
    "job", [a_job(PENDING), a_job(documents=5)], ids=["not started", "in the instant of its start"]
)
def test_rate_of_a_job_without_a_past_is_zero(job: Job) -> None:
    assert job_state(job).documents_per_second == 0


def test_rate_of_a_finished_job_is_that_of_its_whole_run() -> None:
    job = replace(a_job(COMPLETED, documents=10), finished_at=NOON + timedelta(seconds=5), updated_at=NOW)

    assert job_state(job).documents_per_second == 2


def test_silent_job_waits_for_what_is_not_known_yet() -> None:
    known, unknown = a_job(confirmed=False, pending=2, running=1), a_job(pending=2)

    assert waits_for(known, []) == WaitsFor(start_confirmed=False, known_pages=3, crawler_pages=None, pages=())
    assert waits_for(replace(unknown, crawler_pages=5), []).crawler_pages == 5


def test_view_of_a_job_adds_what_was_asked_for() -> None:
    job = a_job(max_failures=3)

    view = job_view(job)

    assert (view.seeds, view.options) == (job.seeds, job.options)
    assert view.model_dump(exclude={"seeds", "options", "waits_for"}) == job_state(job).model_dump()
