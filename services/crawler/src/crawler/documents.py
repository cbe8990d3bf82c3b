"""The documents and whose they are: one function per named query. The caller owns the transaction."""

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from pydantic_core import from_json, to_json
from tallyho_contracts.documents import Change, StoredDocument
from tallyho_postgres import named_sql
from tallyho_postgres.pool import Connection

from crawler import urls
from crawler.frontier import DocumentContent, KeptDocument, KnownDocument, QueuedPage, Visit

SQL = named_sql.load("crawler", "documents.sql")

# Each can be large, and most of a long list may not fit into the reply.
READ_AHEAD = 10


async def known_documents(connection: Connection, document_ids: Collection[UUID]) -> dict[UUID, KnownDocument]:
    """Those of the documents that were saved before, by id."""
    rows = await connection.fetch(SQL["known_documents"], list(document_ids))
    return {row["document_id"]: KnownDocument(row["etag"], row["last_modified"], row["made_by"]) for row in rows}


async def kept_document(connection: Connection, document_id: UUID) -> KeptDocument | None:
    """What a document says again that is unchanged, if it is stored."""
    row = await connection.fetchrow(SQL["kept_document"], document_id)
    if row is None:
        return None
    links, nofollow = (tuple(from_json(row[name])) for name in ("links", "nofollow"))
    return KeptDocument(row["title"], row["content_hash"], links, nofollow, row["links_beyond"])


async def hold_documents(connection: Connection, document_ids: Collection[UUID]) -> set[UUID]:
    """Keep documents from being deleted until the transaction ends; returns those that exist."""
    rows = await connection.fetch(SQL["hold_documents"], list(document_ids)) if document_ids else []
    return {row["document_id"] for row in rows}


async def mark_documents_gone(connection: Connection, document_ids: Collection[UUID], *, at: datetime) -> None:
    """Note that the pages of documents are gone; those that were never saved are ignored."""
    if document_ids:
        await connection.execute(SQL["mark_documents_gone"], sorted(document_ids), at)


async def save_documents(connection: Connection, visits: Sequence[Visit], *, at: datetime) -> dict[UUID, Change]:
    """Save the document of each visit that has one, and note it as its job's; returns what changed, by page id."""
    of_pages = [(visit.page, visit.document, urls.document_id(visit.page.url)) for visit in visits if visit.document]
    if not of_pages:
        return {}
    saved = {id_: (page, document) for page, document, id_ in of_pages if isinstance(document, DocumentContent)}
    kept = {id_ for _, _, id_ in of_pages if id_ not in saved}
    rows = [_saved(id_, page, document) for id_, (page, document) in saved.items()]
    changes = await connection.fetch(SQL["save_documents"], at, *map(list, zip(*rows, strict=True))) if rows else []
    if kept:
        await connection.execute(SQL["keep_documents"], sorted(kept), at)
    job_ids, document_ids = [page.lane.job_id for page, _, _ in of_pages], [id_ for _, _, id_ in of_pages]
    await connection.execute(SQL["add_job_documents"], job_ids, document_ids)
    return _by_page(of_pages, {row["document_id"]: Change(row["change"]) for row in changes})


def _by_page(
    of_pages: Iterable[tuple[QueuedPage, DocumentContent | KeptDocument, UUID]], changes: Mapping[UUID, Change]
) -> dict[UUID, Change]:
    """What each page changed; of pages of several jobs that brought one document, the first created or updated it."""
    by_page: dict[UUID, Change] = {}
    hashes: dict[UUID, str] = {}
    for page, document, id_ in of_pages:
        if isinstance(document, KeptDocument) or hashes.get(id_) == document.content_hash:
            by_page[page.page_id] = Change.UNCHANGED
        else:
            by_page[page.page_id] = Change.UPDATED if id_ in hashes else changes[id_]
        hashes[id_] = document.content_hash
    return by_page


async def list_job_documents(connection: Connection, job_id: UUID, *, after: UUID | None, limit: int) -> list[UUID]:
    """The documents saved for a job after document `after`, from the first if that is None, by id."""
    rows = await connection.fetch(SQL["list_job_documents"], job_id, after or UUID(int=0), limit)
    return [row["document_id"] for row in rows]


async def get_documents(
    connection: Connection, document_ids: Sequence[UUID]
) -> AsyncGenerator[tuple[int, StoredDocument]]:
    """The stored ones of these documents in their order, each with its index, read as they are taken."""
    async for row in connection.cursor(SQL["get_documents"], document_ids, prefetch=READ_AHEAD):
        fields = dict(row) | {"links": from_json(row["links"]), "metadata": from_json(row["metadata"])}
        yield fields.pop("place") - 1, StoredDocument.model_validate(fields)


async def get_html(connection: Connection, document_id: UUID) -> bytes | None:
    """The compressed source of a document; None where it was not kept."""
    html: bytes | None = await connection.fetchval(SQL["get_html"], document_id)
    return html


def _saved(document_id: UUID, page: QueuedPage, document: DocumentContent) -> tuple[object, ...]:
    """The columns of a document, as the query takes them."""
    return (
        document_id,
        page.url,
        document.title,
        document.content,
        to_json(document.links).decode(),
        to_json(document.nofollow).decode(),
        document.content_hash,
        document.status_code,
        document.content_type,
        document.etag,
        document.last_modified,
        document.description,
        document.language,
        to_json(document.metadata).decode(),
        document.html,
        document.made_by,
        document.links_beyond,
    )
