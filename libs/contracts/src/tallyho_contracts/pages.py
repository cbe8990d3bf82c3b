"""Pages: the child jobs of a crawl."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, Field

from tallyho_contracts.event import Count, Message, SmallCount, Text, Url


class Outcome(StrEnum):
    """How the work on a page ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class PageState(StrEnum):
    """A page's state; it only moves forward: pending, running, then one of the others for ever."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class SpawnedPage(Message):
    """A page that joined its job: the child a finished page spawned, or a seed."""

    page_id: UUID = Field(description="uuid5(parent_job_id, canonical url).")
    url: Url
    depth: SmallCount


class PageStarted(Message):
    """`page.started.v1`, crawler to job-tracker: a batch of pages was claimed."""

    parent_job_id: UUID
    page_ids: tuple[UUID, ...] = Field(min_length=1)


class PageFinished(Message):
    """`page.finished.v1`, crawler to job-tracker: a page is closed, for ever.

    It names everything that was committed with it, so that the tracker knows every page and document of the job once
    it has heard of every page, in whatever order the messages arrive.
    """

    job_id: UUID = Field(description="The page's id (the child job).")
    parent_job_id: UUID
    url: Url
    depth: SmallCount
    outcome: Outcome
    reason: Text | None = Field(
        default=None, max_length=200, description="Why it ended so; REASONS says what each means."
    )
    status_code: SmallCount | None = None
    document_id: UUID | None = None
    spawned: tuple[SpawnedPage, ...]
    skipped_links: dict[Text, Count] = Field(
        default={}, description="Links that were not followed, by reason; `beyond`: too many to look at them."
    )
    job_pages: Count | None = Field(default=None, description="How many pages the crawler had in this job by then.")
    timestamp: AwareDatetime


class Page(Message):
    """A page as the job tracker lists it."""

    page_id: UUID
    url: Url | None = Field(default=None, description="None until the event that names it has arrived.")
    depth: SmallCount | None = None
    state: PageState
    reason: Text | None = None
    status_code: SmallCount | None = None
    document_id: UUID | None = None
    finished_at: AwareDatetime | None = None


class PagesQuery(Message):
    """`job.pages.v1`, gateway to job-tracker: a keyset page of a job's pages, by page id."""

    job_id: UUID
    state: PageState | None = None
    reason: Text | None = Field(default=None, max_length=200, description="Only those that ended for this reason.")
    after: UUID | None = Field(default=None, description="The last page id already seen.")
    limit: int = Field(default=100, ge=1, le=1000)


class PageList(Message):
    """The reply to `job.pages.v1`."""

    pages: tuple[Page, ...]
    next: UUID | None = Field(default=None, description="Pass it as `after` for the next page; none at the end.")
