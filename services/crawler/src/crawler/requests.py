"""The requests of the gateway to the crawler: what it saved, for a job and of a page, and the URLs that a job met."""

import asyncio
import zlib
from contextlib import aclosing
from uuid import UUID

from tallyho_contracts.documents import (
    DocumentGet,
    DocumentsGet,
    SavedDocumentList,
    SavedDocumentsQuery,
    StoredDocument,
    StoredDocuments,
)
from tallyho_contracts.event import Message
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_contracts.urls import SkippedUrlList, SkippedUrlsQuery, UrlsCount, UrlsCounted
from tallyho_messaging.requests import RequestRefused
from tallyho_messaging.wire import AnyEvent
from tallyho_postgres.pool import Pool

from crawler import documents, ledger
from crawler.fitting import fitting, size_of

# Of documents in one reply; the last may take it beyond, as far as `fitting` allows.
BATCH_BYTES = 2 * 1024 * 1024


async def answer(pool: Pool, event: AnyEvent) -> Message:
    """Carry out a request and return its reply. Raises RequestRefused."""
    match event.data:
        case SavedDocumentsQuery() as query:
            return await list_saved_documents(pool, query)
        case DocumentGet() as one:
            return await get_document(pool, one)
        case DocumentsGet() as many:
            return await get_documents(pool, many)
        case UrlsCount(job_id=job_id):
            return await count_urls(pool, job_id)
        case SkippedUrlsQuery() as listed:
            return await list_skipped_urls(pool, listed)
        case _:
            refused = Refused(code=ErrorCode.INVALID, message=f"{event.type} is no request to the crawler")
            raise RequestRefused(refused)


async def list_saved_documents(pool: Pool, query: SavedDocumentsQuery) -> SavedDocumentList:
    """A keyset page of the documents saved for a job, by id."""
    async with pool.acquire() as connection:
        found = await documents.list_job_documents(connection, query.job_id, after=query.after, limit=query.limit)
    return SavedDocumentList(document_ids=tuple(found), next=found[-1] if len(found) == query.limit else None)


async def get_document(pool: Pool, asked: DocumentGet) -> StoredDocument:
    """One stored document. Raises RequestRefused when there is none."""
    found = await get_documents(pool, DocumentsGet(document_ids=(asked.document_id,)))
    if not found.documents:
        message = f"there is no document {asked.document_id}"
        raise RequestRefused(Refused(code=ErrorCode.NOT_FOUND, message=message, field="document_id"))
    document = found.documents[0]
    if not asked.html:
        return document
    async with pool.acquire() as connection:
        compressed = await documents.get_html(connection, asked.document_id)
    html = await asyncio.to_thread(_text, compressed) if compressed else None
    return fitting(document.model_copy(update={"html": html}))


def _text(compressed: bytes) -> str:
    return zlib.decompress(compressed).decode()


async def get_documents(pool: Pool, asked: DocumentsGet) -> StoredDocuments:
    """The first of the documents asked for, as many as make a message of moderate size; at least one that is stored."""
    fitted: list[StoredDocument] = []
    size = 0
    async with (
        pool.acquire() as connection,
        connection.transaction(readonly=True),
        aclosing(documents.get_documents(connection, asked.document_ids)) as stored,
    ):
        async for index, document in stored:
            size += size_of(document)
            if fitted and size > BATCH_BYTES:
                return StoredDocuments(documents=tuple(fitted), answered=index)
            fitted.append(fitting(document))
    return StoredDocuments(documents=tuple(fitted), answered=len(asked.document_ids))


async def count_urls(pool: Pool, job_id: UUID) -> UrlsCounted:
    """How many URLs a job met, and how many of them are no pages of it; both of the same moment."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        met, beyond = await ledger.count_urls(connection, job_id)
        skipped = await ledger.count_skipped(connection, job_id)
    return UrlsCounted(urls_met=met, beyond=beyond, skipped=tuple(skipped))


async def list_skipped_urls(pool: Pool, query: SkippedUrlsQuery) -> SkippedUrlList:
    """A keyset page of the URLs that are no pages of a job, by reason and id."""
    async with pool.acquire() as connection:
        found = await ledger.list_skipped(connection, query)
    return SkippedUrlList(urls=tuple(found), has_more=len(found) == query.limit)
