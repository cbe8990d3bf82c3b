"""The documents of a crawl with their content, from the tracker's list and the crawler's store."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from tallyho_contracts.documents import DocumentList, DocumentsGet, DocumentsQuery, StoredDocuments
from tallyho_contracts.jobs import JobState

from ws_gateway.firecrawl import CrawledDocument, crawled_document
from ws_gateway.http_api import Ask

# Of one page of results, about.
PAGE_BYTES = 10_000_000


async def documents_after(
    ask: Ask, state: JobState, after: int, limit: int, *, markdown: bool
) -> list[CrawledDocument]:
    """The next documents of a job by ordinal: at most `limit`, fewer if they are large, none that `state` lacks."""
    documents: list[CrawledDocument] = []
    size = 0
    limit = min(limit, state.document_count - after)
    if limit <= 0:
        return []
    async with aclosing(_documents(ask, state.job_id, after, limit, markdown=markdown)) as following:
        async for document in following:
            size += _size(document)
            if documents and size > PAGE_BYTES:
                break
            documents.append(document)
    return documents


async def _documents(
    ask: Ask, job_id: UUID, after: int, limit: int, *, markdown: bool
) -> AsyncGenerator[CrawledDocument]:
    listed: DocumentList = await ask(DocumentsQuery(job_id=job_id, after=after, limit=limit))
    waiting = listed.documents
    while waiting:
        reply: StoredDocuments = await ask(DocumentsGet(document_ids=tuple(one.document_id for one in waiting)))
        stored = {document.document_id: document for document in reply.documents}
        for one in waiting[: reply.answered]:
            yield crawled_document(one, stored.get(one.document_id), markdown=markdown)
        waiting = waiting[reply.answered :]


def _size(document: CrawledDocument) -> int:
    return len(document.markdown or "") + sum(map(len, document.links or ()))
