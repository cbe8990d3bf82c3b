"""Jobs and documents as Firecrawl's v2 crawl API shows them. Pure."""

from collections.abc import Iterable
from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from tallyho_contracts.documents import Document, StoredDocument
from tallyho_contracts.event import Count
from tallyho_contracts.jobs import Job, JobState, JobStatus
from tallyho_contracts.pages import Page

from ws_gateway.firecrawl_options import options_of
from ws_gateway.problems import FieldError, Problem

CrawlStatus = Literal["scraping", "completed", "failed", "cancelled"]

# A crawl is over only when nothing of it can change any more: not while it is still being cancelled.
_STATUS: dict[JobStatus, CrawlStatus] = {
    JobStatus.COMPLETED: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
}
# Theirs tells teams apart.
TEAM = "tallyho"


class Shown(BaseModel):
    """What all answers share."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    def as_json(self) -> bytes:
        """In Firecrawl's spelling, without what there is not."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class CrawlPage(Shown):
    """The query of `GET /v2/crawl/{job_id}`: which documents to return."""

    model_config = ConfigDict(extra="forbid")

    skip: Count = Field(default=0, description="How many documents were seen already.")
    limit: int = Field(default=100, ge=1, le=1000)


class DocumentMetadata(Shown):
    """What is known of a document besides its content."""

    title: str
    source_url: str = Field(alias="sourceURL")
    url: str
    status_code: int | None = None
    content_type: str | None = None
    document_id: UUID
    error: str | None = None


class CrawledDocument(Shown):
    """One document of a crawl."""

    markdown: str | None = None
    links: tuple[str, ...] | None = None
    warning: str | None = None
    metadata: DocumentMetadata


class CrawlCreated(Shown):
    """The answer to `POST /v2/crawl`."""

    success: Literal[True] = True
    id: UUID
    url: str = Field(description="Where its status is.")


class CrawlState(Shown):
    """A crawl and some of its documents."""

    success: Literal[True] = True
    status: CrawlStatus
    completed: Count = Field(description="Documents.")
    total: Count = Field(description="Documents and the pages still to be visited; of a completed crawl, `completed`.")
    credits_used: Count = Field(description="As many as documents; nothing is charged.")
    next: str | None = Field(default=None, description="Where the next documents are.")
    data: tuple[CrawledDocument, ...] = ()


class CrawlCancelled(Shown):
    """The answer to `DELETE /v2/crawl/{job_id}`."""

    success: Literal[True] = True
    status: Literal["cancelled"] = "cancelled"


class CrawlError(Shown):
    """A page that failed, and why."""

    id: UUID
    timestamp: AwareDatetime | None = None
    url: str
    code: str
    error: str


class CrawlErrors(Shown):
    """The pages of a crawl that failed, and those that a robots.txt forbids."""

    errors: tuple[CrawlError, ...]
    robots_blocked: tuple[str, ...]


class ActiveCrawl(Shown):
    """A crawl that has not ended."""

    id: UUID
    team_id: str = TEAM
    url: str
    options: dict[str, Any]


class ActiveCrawls(Shown):
    """The crawls that have not ended."""

    success: Literal[True] = True
    crawls: tuple[ActiveCrawl, ...]


class Failure(Shown):
    """Any answer that is an error."""

    success: Literal[False] = False
    error: str
    code: str
    details: tuple[FieldError, ...] | None = None


def state_of_crawl(job: JobState, data: Iterable[CrawledDocument] = (), next_url: str | None = None) -> CrawlState:
    """A job's state as that of a crawl."""
    # A document may be counted before its page is known to be done.
    wanted = max(job.document_count, job.total_children - job.failed_children - job.skipped_children)
    return CrawlState(
        status=_STATUS.get(job.status, "scraping"),
        completed=job.document_count,
        total=wanted,
        credits_used=job.document_count,
        next=next_url,
        data=tuple(data),
    )


def crawled_document(listed: Document, stored: StoredDocument | None, *, markdown: bool) -> CrawledDocument:
    """A document with its content, if the crawler has it."""
    metadata = {
        "title": listed.title,
        "source_url": listed.source_url,
        "url": listed.source_url,
        "document_id": listed.document_id,
    }
    if stored is None:
        error = "Its content is not stored."
        return CrawledDocument(metadata=DocumentMetadata.model_validate(metadata | {"error": error}))
    metadata |= {"title": stored.title, "status_code": stored.status_code, "content_type": stored.content_type}
    return CrawledDocument(
        markdown=stored.content if markdown else None,
        links=stored.links,
        warning="It is too large to be shown whole." if stored.truncated else None,
        metadata=DocumentMetadata.model_validate(metadata),
    )


def crawl_error(page: Page) -> CrawlError:
    """A failed page."""
    reason = page.reason or "unknown"
    return CrawlError(
        id=page.page_id,
        timestamp=page.finished_at,
        url=page.url or "",
        code=reason.upper(),
        error=f"The site answered {page.status_code}." if reason.startswith("http_") else reason.replace("_", " "),
    )


def active_crawl(job: Job) -> ActiveCrawl:
    """A live job."""
    return ActiveCrawl(id=job.job_id, url=job.seeds[0], options=options_of(job))


def failure_of(problem: Problem) -> Failure:
    """A problem of this API in the words of that one."""
    return Failure(error=problem.detail, code=problem.code.upper(), details=problem.errors or None)
