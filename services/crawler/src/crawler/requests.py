"""The requests of the gateway to the crawler: what it saved for a job."""

from tallyho_contracts.documents import SavedDocumentList, SavedDocumentsQuery
from tallyho_contracts.event import Message
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_messaging.requests import RequestRefused
from tallyho_messaging.wire import AnyEvent
from tallyho_postgres.pool import Pool

from crawler import store


async def answer(pool: Pool, event: AnyEvent) -> Message:
    """Carry out a request and return its reply. Raises RequestRefused."""
    match event.data:
        case SavedDocumentsQuery() as query:
            return await list_saved_documents(pool, query)
        case _:
            refused = Refused(code=ErrorCode.INVALID, message=f"{event.type} is no request to the crawler")
            raise RequestRefused(refused)


async def list_saved_documents(pool: Pool, query: SavedDocumentsQuery) -> SavedDocumentList:
    """A keyset page of the documents saved for a job, by id."""
    async with pool.acquire() as connection:
        found = await store.list_job_documents(connection, query.job_id, after=query.after, limit=query.limit)
    return SavedDocumentList(document_ids=tuple(found), next=found[-1] if len(found) == query.limit else None)
