"""Jobs: the parent jobs that people submit and watch."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, Field

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.event import Count, Message, Text, Url
from tallyho_contracts.pages import PageState


class JobStatus(StrEnum):
    """The status of a job; the last three are terminal, and one of them is reached exactly once."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing of the job will ever change again."""
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class JobState(Message):
    """`job.progress.v1`, job-tracker to gateways, and the payload of `parent_job_progress` to clients.

    The full state of a job at one revision. A reader drops a state whose revision is not above the one it has.
    total_children = pending + running + completed + failed + skipped + cancelled, in every state.
    """

    job_id: UUID
    revision: Count
    name: Text = ""
    status: JobStatus
    progress_text: Text
    timestamp: AwareDatetime
    total_children: Count
    pending_children: Count
    running_children: Count
    completed_children: Count
    failed_children: Count
    skipped_children: Count
    cancelled_children: Count
    document_count: Count
    documents_per_second: float = Field(ge=0, allow_inf_nan=False, description="Since the job started, on average.")
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    error: Text | None = None
    retry_of: UUID | None = Field(default=None, description="The job whose failed pages this one visits again.")
    stalled_since: AwareDatetime | None = Field(
        default=None, description="The last change of a live job that has been silent for too long; none otherwise."
    )
    deleted_at: AwareDatetime | None = Field(
        default=None, description="When the job was deleted: this is the last that is heard of it. None in all others."
    )


class WaitingPage(Message):
    """A page that a silent job waits for."""

    page_id: UUID
    url: Url | None = Field(default=None, description="None until the event that names it has arrived.")
    state: PageState
    since: AwareDatetime | None = Field(default=None, description="When it came into this state.")


class WaitsFor(Message):
    """What a silent job waits for: its start, or the pages that are pending or running.

    When the crawler said that the job has more pages than are known, messages are missing: on their way, or lost.
    """

    start_confirmed: bool
    known_pages: Count = Field(description="Pages that the job tracker has heard of: total_children.")
    crawler_pages: Count | None = Field(
        default=None, description="Pages that the job had by what the crawler last said; none before it said so."
    )
    pages: tuple[WaitingPage, ...] = Field(
        max_length=20, description="Some of those pages, running ones first, those that wait longest first."
    )


class Job(JobState):
    """A job's state together with what was asked for, and while it is stalled, what it waits for."""

    seeds: tuple[Url, ...]
    options: CrawlOptions
    waits_for: WaitsFor | None = Field(default=None, description="Of a stalled job that was asked for by its id.")


class PagesByReason(Message):
    """How many pages of a job are in a state for one reason."""

    state: PageState
    reason: Text | None = Field(default=None, description="Why they ended so; none before their end.")
    pages: int = Field(ge=1, le=2**63 - 1)


class CountedAt(Message):
    """How far a job's document count had come when one of its documents was saved."""

    ordinal: int = Field(ge=1, le=2**63 - 1)
    saved_at: AwareDatetime


class JobSummary(Message):
    """The reply to `job.summary.v1`: why a job's pages ended as they did, and how its count rose."""

    pages: tuple[PagesByReason, ...] = Field(max_length=5000, description="All of them, the most frequent first.")
    documents: tuple[CountedAt, ...] = Field(
        max_length=100, description="Some of its documents, at equal steps from the first to the last."
    )


class JobCreate(Message):
    """`job.create.v1`, gateway to job-tracker. The same idempotency key and request give the same job."""

    job_id: UUID
    idempotency_key: Text | None = Field(default=None, min_length=1, max_length=255)
    name: Text = Field(default="", max_length=200)
    seeds: tuple[Url, ...] = Field(min_length=1, max_length=1000)
    options: CrawlOptions = CrawlOptions()


class JobCreated(Message):
    """The reply to `job.create.v1`. `created` is false when the idempotency key was known."""

    job: Job
    created: bool


class JobCommand(Message):
    """What a request about one job carries, gateway to job-tracker: `job.get.v1`, `job.cancel.v1` and others."""

    job_id: UUID


class JobGet(JobCommand):
    """`job.get.v1`; the reply is the job."""


class JobSummaryQuery(JobCommand):
    """`job.summary.v1`; the reply is the job's summary."""


class JobCancel(JobCommand):
    """`job.cancel.v1`; the reply is the job, cancelling or already terminal."""


class JobPause(JobCommand):
    """`job.pause.v1`; the reply is the job, or a conflict when it can't be paused any more."""


class JobResume(JobCommand):
    """`job.resume.v1`; the reply is the job, or a conflict when it is not paused."""


class ChangeableOption(StrEnum):
    """The options of a crawl that can change while it runs."""

    MAX_PAGES = "max_pages"
    MAX_FAILURES = "max_failures"
    DELAY = "delay"


class JobChange(JobCommand):
    """`job.change.v1`; the reply is the job, or a conflict at its end. `fields` says which of the options to change."""

    fields: tuple[ChangeableOption, ...] = Field(min_length=1)
    max_pages: int | None = Field(default=None, ge=1, le=2**63 - 1)
    max_failures: Count | None = None
    delay: float | None = Field(default=None, ge=0, le=3600, allow_inf_nan=False)


class JobRetry(JobCommand):
    """`job.retry.v1`, gateway to job-tracker: a new job that visits the failed pages of one that is at its end.

    The reply is that of `job.create.v1`, or a conflict.
    """

    retry_of: UUID
    idempotency_key: Text | None = Field(default=None, min_length=1, max_length=255)


class JobDelete(JobCommand):
    """`job.delete.v1`; the reply is the job as it was, or a conflict while it has not ended."""


class JobsQuery(Message):
    """`job.list.v1`, gateway to job-tracker: a keyset page of the jobs, the newest first."""

    live: bool = Field(default=False, description="Only jobs that are not terminal.")
    before: UUID | None = Field(default=None, description="The last job id already seen.")
    limit: int = Field(default=100, ge=1, le=1000)


class JobList(Message):
    """The reply to `job.list.v1`."""

    jobs: tuple[JobState, ...]
    next: UUID | None = Field(default=None, description="Pass it as `before` for the next page; none at the end.")
