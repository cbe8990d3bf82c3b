"""The crawler's events, as rows of the outbox."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from tallyho_contracts.documents import Change, DocumentSaved
from tallyho_contracts.event import Message
from tallyho_contracts.pages import Outcome, PageFinished, PageStarted, SpawnedPage
from tallyho_contracts.registry import TYPE_OF
from tallyho_messaging.wire import event_of
from tallyho_postgres.outbox import OutboxEvent

from crawler import urls
from crawler.frontier import FoundPage, QueuedPage, Visit

SOURCE = "crawler"


def crawl_event(data: Message, job_id: UUID, now: datetime, traceparent: str | None = None) -> OutboxEvent:
    """`data` as an event about job `job_id`, addressed to the exchange of its type."""
    row = TYPE_OF[type(data)]
    event = event_of(data, source=SOURCE, subject=job_id, time=now, traceparent=traceparent)
    return OutboxEvent(event.id, row.exchange or "", row.name, row.name, event.model_dump_json().encode())


def pages_started(pages: Sequence[QueuedPage], now: datetime) -> list[OutboxEvent]:
    """`page.started`, one event a job."""
    by_job: dict[UUID, list[UUID]] = {}
    for page in pages:
        by_job.setdefault(page.lane.job_id, []).append(page.page_id)
    return [
        crawl_event(PageStarted(parent_job_id=job_id, page_ids=tuple(page_ids)), job_id, now)
        for job_id, page_ids in by_job.items()
    ]


def document_saved(visit: Visit, change: Change, now: datetime) -> list[OutboxEvent]:
    """`document.saved`, for a visit that brought a document."""
    if visit.document is None:
        return []
    page = visit.page
    data = DocumentSaved(
        job_id=page.page_id,
        parent_job_id=page.lane.job_id,
        document_id=urls.document_id(page.url),
        source_url=page.url,
        title=visit.document.title,
        content_hash=visit.document.content_hash,
        change=change,
        timestamp=now,
    )
    return [crawl_event(data, page.lane.job_id, now, visit.traceparent)]


def page_finished(
    visit: Visit,
    change: Change,
    *,
    spawned: Sequence[FoundPage],
    skipped_links: dict[str, int],
    job_pages: int,
    now: datetime,
) -> OutboxEvent:
    """`page.finished`: it names all that was committed with it."""
    page = visit.page
    data = PageFinished(
        job_id=page.page_id,
        parent_job_id=page.lane.job_id,
        url=page.url,
        depth=page.depth,
        outcome=visit.outcome,
        reason=change if visit.document else visit.reason,
        status_code=visit.status_code,
        document_id=urls.document_id(page.url) if visit.document else None,
        spawned=spawned_pages(spawned),
        skipped_links=skipped_links,
        job_pages=job_pages,
        timestamp=now,
    )
    return crawl_event(data, page.lane.job_id, now, visit.traceparent)


def page_closed(page: FoundPage, reason: str, now: datetime) -> OutboxEvent:
    """`page.finished`, for a page that is not visited any more."""
    data = PageFinished(
        job_id=page.page_id,
        parent_job_id=page.job_id,
        url=page.url,
        depth=page.depth,
        outcome=Outcome.SKIPPED,
        reason=reason,
        spawned=(),
        timestamp=now,
    )
    return crawl_event(data, page.job_id, now)


def spawned_pages(found: Sequence[FoundPage]) -> tuple[SpawnedPage, ...]:
    """Found pages as the contracts name them."""
    return tuple(SpawnedPage(page_id=page.page_id, url=page.url, depth=page.depth) for page in found)
