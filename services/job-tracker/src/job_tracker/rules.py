"""The rules of a job, as pure functions: what a batch changes, when a job is done, and how its state reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.jobs import Job as JobView
from tallyho_contracts.jobs import JobState, JobStatus, WaitingPage, WaitsFor
from tallyho_contracts.logs import LogLevel
from tallyho_contracts.pages import PageState

# The order is that of the column `pages.state`: pending < running < terminal.
PAGE_STATES = tuple(PageState)


@dataclass(frozen=True, slots=True)
class PageCounts:
    """How many pages of a job are in each state; as a change, the numbers may be negative."""

    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0

    def __add__(self, other: "PageCounts") -> "PageCounts":
        return PageCounts(
            self.pending + other.pending,
            self.running + other.running,
            self.completed + other.completed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.cancelled + other.cancelled,
        )

    @property
    def total(self) -> int:
        """All pages that were discovered."""
        return self.pending + self.running + self.completed + self.failed + self.skipped + self.cancelled

    @property
    def unfinished(self) -> int:
        """The pages that something is still to be heard of."""
        return self.pending + self.running


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `jobs`. Without `created_at` it is the placeholder of a job whose creation has not arrived."""

    job_id: UUID
    created_at: datetime | None
    name: str
    seeds: tuple[str, ...]
    options: CrawlOptions
    status: JobStatus
    start_confirmed: bool
    revision: int
    document_count: int
    pages: PageCounts
    crawler_pages: int
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    error: str | None
    stalled_since: datetime | None = None
    change_revision: int = 0
    change_confirmed: int = 0
    retry_of: UUID | None = None
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """What one batch of events changed in one job."""

    documents: int = 0
    pages: PageCounts = PageCounts()
    start_confirmed: bool = False
    crawler_pages: int = 0
    change_confirmed: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the batch changed nothing: all its events were known."""
        return self == Tally(crawler_pages=self.crawler_pages)


def moved(changes: Sequence[tuple[int | None, int, int]]) -> PageCounts:
    """The change of the counts when `n` pages went from state `was` (None: not known) to state `now`."""
    numbers = [0] * len(PAGE_STATES)
    for was, now, n in changes:
        numbers[now] += n
        if was is not None:
            numbers[was] -= n
    return PageCounts(*numbers)


def state_after(job: Job, tally: Tally, now: datetime) -> Job:
    """The job after a batch: counters, status, start and finish. Its revision is the store's to raise."""
    after = replace(
        job,
        document_count=job.document_count + tally.documents,
        pages=job.pages + tally.pages,
        start_confirmed=job.start_confirmed or tally.start_confirmed,
        crawler_pages=max(job.crawler_pages, tally.crawler_pages),
        change_confirmed=max(job.change_confirmed, tally.change_confirmed),
        started_at=job.started_at or now,
        updated_at=now,
    )
    if job.created_at is None or job.status.is_terminal:
        return after
    if after.status is JobStatus.PENDING:
        after = replace(after, status=JobStatus.RUNNING)
    after = _stopped_if_too_many_failed(after)
    # Every finished page named the pages it spawned, and so did the start and every change. So once these are confirmed
    # and all known pages are terminal, no page is unknown.
    is_confirmed = after.start_confirmed and after.change_confirmed >= after.change_revision
    if is_confirmed and after.pages.unfinished == 0:
        after = replace(after, status=_terminal_status(after), finished_at=now)
    return after


def with_options(job: Job, options: CrawlOptions) -> Job:
    """The job under other rules: it may have failed too often by them."""
    return _stopped_if_too_many_failed(replace(job, options=options))


def _stopped_if_too_many_failed(job: Job) -> Job:
    if not has_too_many_failures(job):
        return job
    # Without their number: those under way may fail, too, and then it would be another.
    error = f"more pages failed than max_failures = {job.options.max_failures}"
    return replace(job, status=JobStatus.CANCELLING, error=error)


def has_too_many_failures(job: Job) -> bool:
    """Whether the job is still to be stopped because of its failed pages."""
    limit = job.options.max_failures
    going_on = job.status in (JobStatus.RUNNING, JobStatus.PAUSED)
    return going_on and limit is not None and job.pages.failed > limit


def _terminal_status(job: Job) -> JobStatus:
    if job.status is JobStatus.CANCELLING:
        return JobStatus.FAILED if job.error else JobStatus.CANCELLED
    return JobStatus.COMPLETED if job.document_count else JobStatus.FAILED


def nothing_saved(reasons: Mapping[str | None, int]) -> str:
    """Why a job that saved nothing failed, from the number of pages by reason."""
    if not reasons:
        return "no document was saved: no seed could be crawled"
    return "no document was saved: " + ", ".join(f"{n} x {reason or 'unknown'}" for reason, n in reasons.items())


def status_line(before: Job, after: Job) -> tuple[LogLevel, str] | None:
    """What people who watch are told of a job that has another status; nothing if it has not."""
    if before.status is after.status:
        return None
    result = f"{counted(after.document_count, 'document')}, {counted(after.pages.total, 'page')}"
    match after.status:
        case JobStatus.RUNNING:
            return LogLevel.INFO, "resumed" if before.status is JobStatus.PAUSED else "started"
        case JobStatus.COMPLETED | JobStatus.CANCELLED:
            return LogLevel.INFO, f"{after.status}: {result}"
        case JobStatus.FAILED:
            return LogLevel.ERROR, f"failed: {after.error or result}"
        case JobStatus.CANCELLING if after.error:
            return LogLevel.ERROR, f"cancelling: {after.error}"
        case _:
            return LogLevel.INFO, str(after.status)


def counted(number: int, what: str) -> str:
    """So many of them, in words."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def job_state(job: Job) -> JobState:
    """The full state of a job, as everyone sees it."""
    return JobState(**_state_fields(job))


def job_view(job: Job, waits_for: WaitsFor | None = None) -> JobView:
    """The full state together with what was asked for."""
    return JobView(**_state_fields(job), seeds=job.seeds, options=job.options, waits_for=waits_for)


def waits_for(job: Job, pages: Sequence[WaitingPage]) -> WaitsFor:
    """What a silent job waits for; `pages` are some of those that are not finished."""
    return WaitsFor(
        start_confirmed=job.start_confirmed,
        known_pages=job.pages.total,
        crawler_pages=job.crawler_pages or None,
        pages=tuple(pages),
    )


def _state_fields(job: Job) -> dict[str, Any]:
    pages = job.pages
    return {
        "job_id": job.job_id,
        "revision": job.revision,
        "name": job.name,
        "status": job.status,
        "progress_text": (
            f"{pages.pending} pending, {pages.running} running, {pages.completed} completed, {pages.failed} failed"
        ),
        "timestamp": job.updated_at,
        "total_children": pages.total,
        "pending_children": pages.pending,
        "running_children": pages.running,
        "completed_children": pages.completed,
        "failed_children": pages.failed,
        "skipped_children": pages.skipped,
        "cancelled_children": pages.cancelled,
        "document_count": job.document_count,
        "documents_per_second": _rate(job),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "error": job.error,
        "stalled_since": job.stalled_since,
        "retry_of": job.retry_of,
        "deleted_at": job.deleted_at,
    }


def _rate(job: Job) -> float:
    if job.started_at is None:
        return 0.0
    seconds = ((job.finished_at or job.updated_at) - job.started_at).total_seconds()
    return round(job.document_count / seconds, 2) if seconds > 0 else 0.0
