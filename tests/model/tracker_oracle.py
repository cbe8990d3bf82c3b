"""What a job must look like to whoever has been told a part of its crawl. Sets and rules; no batches, no counters."""

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from typing import Self
from uuid import UUID

from model.crawl_plans import Crawl
from tallyho_contracts.crawls import CrawlCancel, CrawlPause, CrawlResume, CrawlStart, CrawlStarted, CrawlStopped
from tallyho_contracts.documents import DocumentSaved
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import JobCancel, JobCreate, JobPause, JobResume, JobStatus
from tallyho_contracts.pages import PageFinished, PageStarted, PageState
from tallyho_contracts.replies import ErrorCode

LIVE = {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PAUSED}

# What a request makes of a job, of which jobs it does, and the command that the crawler is given.
STEPS: dict[type[Message], tuple[JobStatus, Set[JobStatus], type[Message]]] = {
    JobCancel: (JobStatus.CANCELLING, LIVE, CrawlCancel),
    JobPause: (JobStatus.PAUSED, LIVE, CrawlPause),
    JobResume: (JobStatus.RUNNING, {JobStatus.PAUSED}, CrawlResume),
}


def documents_named(events: Iterable[Message]) -> set[UUID]:
    """The documents that some event names."""
    return {
        event.document_id
        for event in events
        if isinstance(event, DocumentSaved | PageFinished) and event.document_id is not None
    }


def pages_named(events: Iterable[Message]) -> dict[UUID, PageState]:
    """The pages that some event names, each as far as any event says that it came."""
    found: set[UUID] = set()
    claimed: set[UUID] = set()
    closed: dict[UUID, PageState] = {}
    for event in events:
        match event:
            case CrawlStarted(pages=pages) | PageFinished(spawned=pages):
                found |= {page.page_id for page in pages}
            case PageStarted(page_ids=ids):
                claimed.update(ids)
            case CrawlStopped(page_ids=ids):
                closed |= dict.fromkeys(ids, PageState.CANCELLED)
        if isinstance(event, PageFinished):
            closed[event.job_id] = PageState(event.outcome)
    return dict.fromkeys(found, PageState.PENDING) | dict.fromkeys(claimed, PageState.RUNNING) | closed


@dataclass(frozen=True)
class Watched:
    """One job, as it must stand after some of its events and requests."""

    crawl: Crawl
    told: frozenset[int] = frozenset()
    status: JobStatus | None = None
    commands: tuple[type[Message], ...] = ()
    failed_too_often: bool = False

    @property
    def events(self) -> list[Message]:
        """What it was told, without repetition."""
        return [self.crawl.events[number] for number in sorted(self.told)]

    @property
    def is_over(self) -> bool:
        """Whether it was told the end of each page that the crawl ever had, and that there are no other seeds."""
        told = self.events
        ends = {
            page for page, state in pages_named(told).items() if state not in (PageState.PENDING, PageState.RUNNING)
        }
        return ends == set(self.crawl.pages) and any(isinstance(event, CrawlStarted) for event in told)

    def tell(self, numbers: Iterable[int]) -> Self:
        """Some events arrive, new or not."""
        return replace(self, told=self.told.union(numbers))._settled()

    def ask(self, request: type[Message]) -> tuple[Self, ErrorCode | None]:
        """A request arrives; returns the job after it and why it was refused, if it was."""
        if request is JobCreate:
            if self.status is not None:
                return self, None
            created = replace(self, status=JobStatus.PENDING, commands=(CrawlStart,))
            return created._settled(), None
        if self.status is None:
            return self, ErrorCode.NOT_FOUND
        wanted, possible, command = STEPS[request]
        if self.status is wanted or (request is JobCancel and self.status.is_terminal):
            return self, None
        if self.status not in possible:
            return self, ErrorCode.CONFLICT
        return replace(self, status=wanted, commands=(*self.commands, command)), None

    def _settled(self) -> Self:
        if self.status is None or self.status.is_terminal:
            return self
        job = self
        if job.status is JobStatus.PENDING and (pages_named(job.events) or documents_named(job.events) or job.is_over):
            job = replace(job, status=JobStatus.RUNNING)
        if job.status in (JobStatus.RUNNING, JobStatus.PAUSED) and job._has_too_many_failures:
            job = replace(job, failed_too_often=True)
            if not job.is_over:
                job = replace(job, status=JobStatus.CANCELLING, commands=(*job.commands, CrawlCancel))
        return replace(job, status=job._end) if job.is_over else job

    @property
    def _has_too_many_failures(self) -> bool:
        failed = [state for state in pages_named(self.events).values() if state is PageState.FAILED]
        limit = self.crawl.plan.max_failures
        return limit is not None and len(failed) > limit

    @property
    def _end(self) -> JobStatus:
        if self.failed_too_often:
            return JobStatus.FAILED
        if self.status is JobStatus.CANCELLING:
            return JobStatus.CANCELLED
        return JobStatus.COMPLETED if documents_named(self.events) else JobStatus.FAILED
