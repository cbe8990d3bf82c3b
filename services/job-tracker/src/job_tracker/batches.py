"""A batch of events, reduced to the rows it speaks of: one per document and one per page, whatever came twice."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pydantic_core import to_json
from tallyho_contracts.crawls import CrawlChanged, CrawlStarted, CrawlStopped
from tallyho_contracts.documents import Change, DocumentSaved
from tallyho_contracts.event import Message
from tallyho_contracts.pages import PageFinished, PageStarted, PageState, SpawnedPage

from job_tracker.rules import PAGE_STATES

PENDING = PAGE_STATES.index(PageState.PENDING)
RUNNING = PAGE_STATES.index(PageState.RUNNING)
CANCELLED = PAGE_STATES.index(PageState.CANCELLED)

Key = tuple[UUID, UUID]
# A row of a table, by column; what is missing is null.
Row = dict[str, object]
# A document: page id, address, title, hash (none: not described yet), change, when it was saved (seconds since 1970).
# There are very many: a named tuple would take 0.4 µs longer to make, and a datetime 0.2 µs longer to send.
DocumentRow = tuple[UUID, str, str, str | None, Change | None, float]


@dataclass
class Batch:
    """The documents and pages of a batch by (parent job, own id), and what it says of the jobs themselves."""

    documents: dict[Key, DocumentRow] = field(default_factory=dict)
    pages: dict[Key, Row] = field(default_factory=dict)
    started: set[UUID] = field(default_factory=set)
    crawler_pages: dict[UUID, int] = field(default_factory=dict)
    changes_confirmed: dict[UUID, int] = field(default_factory=dict)
    job_ids: set[UUID] = field(default_factory=set)

    def without(self, job_ids: set[UUID]) -> "Batch":
        """What it says of all other jobs."""
        return Batch(
            documents={key: row for key, row in self.documents.items() if key[0] not in job_ids},
            pages={key: row for key, row in self.pages.items() if key[0] not in job_ids},
            started=self.started - job_ids,
            crawler_pages={job_id: pages for job_id, pages in self.crawler_pages.items() if job_id not in job_ids},
            changes_confirmed={job_id: to for job_id, to in self.changes_confirmed.items() if job_id not in job_ids},
            job_ids=self.job_ids - job_ids,
        )


def reduce_events(events: Sequence[Message]) -> Batch:
    """Reduce the data of events, in any order and any number of copies, to one `Batch`."""
    batch = Batch()
    for data in events:
        match data:
            case DocumentSaved():
                _document_saved(batch, data)
            case PageStarted():
                _pages(batch, data.parent_job_id, ((page_id, RUNNING, {}) for page_id in data.page_ids))
            case PageFinished():
                _page_finished(batch, data)
            case CrawlStarted():
                batch.started.add(data.parent_job_id)
                _spawned(batch, data.parent_job_id, data.pages)
            case CrawlChanged():
                known = batch.changes_confirmed.get(data.parent_job_id, 0)
                batch.changes_confirmed[data.parent_job_id] = max(known, data.revision)
                _spawned(batch, data.parent_job_id, data.pages)
            case CrawlStopped():
                ended: Row = {"reason": "cancelled"}
                _pages(batch, data.parent_job_id, ((page_id, CANCELLED, ended) for page_id in data.page_ids))
            case _:
                raise TypeError(f"{type(data).__name__} is no event of the crawler")
    return batch


def _document_saved(batch: Batch, saved: DocumentSaved) -> None:
    saved_at = saved.timestamp.timestamp()
    row = (saved.job_id, saved.source_url, saved.title, saved.content_hash, saved.change, saved_at)
    _document(batch, saved.parent_job_id, saved.document_id, row)


def _document(batch: Batch, parent_job_id: UUID, document_id: UUID, row: DocumentRow) -> None:
    batch.job_ids.add(parent_job_id)
    known = batch.documents.setdefault((parent_job_id, document_id), row)
    if known is not row and _tells_more(row, known):
        batch.documents[parent_job_id, document_id] = row


def is_described(document: DocumentRow) -> bool:
    """Whether more than the document's page is known."""
    _, _, _, content_hash, _, _ = document
    return bool(content_hash)


def _tells_more(row: DocumentRow, known: DocumentRow) -> bool:
    *_, saved_at = row
    *_, known_at = known
    return is_described(row) and (saved_at > known_at or not is_described(known))


def _page_finished(batch: Batch, finished: PageFinished) -> None:
    parent = finished.parent_job_id
    row: Row = {
        "url": finished.url,
        "depth": finished.depth,
        "reason": finished.reason,
        "status_code": finished.status_code,
        "document_id": finished.document_id,
        "skipped_links": to_json(finished.skipped_links).decode() if finished.skipped_links else None,
        "finished_at": finished.timestamp,
    }
    _pages(batch, parent, [(finished.job_id, PAGE_STATES.index(PageState(finished.outcome)), row)])
    _spawned(batch, parent, finished.spawned)
    if finished.job_pages is not None:
        batch.crawler_pages[parent] = max(finished.job_pages, batch.crawler_pages.get(parent, 0))
    if finished.document_id is not None:
        # The count must be final when the last page is: the document counts from here too, and is described later.
        named = (finished.job_id, finished.url, "", None, None, finished.timestamp.timestamp())
        _document(batch, parent, finished.document_id, named)


def _spawned(batch: Batch, parent: UUID, pages: Iterable[SpawnedPage]) -> None:
    _pages(batch, parent, ((page.page_id, PENDING, {"url": page.url, "depth": page.depth}) for page in pages))


def _pages(batch: Batch, parent: UUID, pages: Iterable[tuple[UUID, int, Row]]) -> None:
    """Merge each page into its row: the furthest state, and of every field the first that is known.

    Of two terminal states the first one stays.
    """
    batch.job_ids.add(parent)
    for page_id, state, fields in pages:
        row = batch.pages.setdefault((parent, page_id), {"state": PENDING})
        known = row["state"]
        if isinstance(known, int) and known < state and known <= RUNNING:
            row["state"] = state
        for name, value in fields.items():
            if row.get(name) is None:
                row[name] = value
