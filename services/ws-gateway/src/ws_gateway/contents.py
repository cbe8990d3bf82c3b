"""The documents of a job with their content, as a stream: what an export reads."""

import asyncio
from collections.abc import AsyncGenerator

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from tallyho_contracts.documents import (
    Document,
    DocumentGet,
    DocumentsGet,
    DocumentsQuery,
    JobDocument,
    StoredDocument,
    StoredDocuments,
)
from tallyho_contracts.event import Count
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.requests import RequestRefused

from ws_gateway.http_api import ASK, STREAMED_PAGE, Ask, document_pages, job_id, query
from ws_gateway.json_lines import stream_lines

# A page's source can fill a message: each is asked for by itself, and so many are held at once.
SOURCES_AT_ONCE = 8


class ContentParameters(BaseModel):
    """The query of `GET /v1/jobs/{job_id}/contents`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: Count = Field(default=0, description="The last ordinal already seen.")
    html: bool = Field(default=False, description="With the source of each page, where it was kept.")


def routes() -> list[web.RouteDef]:
    """The path of contents."""
    return [web.get("/v1/jobs/{job_id}/contents", stream_contents)]


async def stream_contents(request: web.Request) -> web.StreamResponse:
    """Stream a job's documents with their content as JSON Lines, by ordinal."""
    parameters = query(request, ContentParameters)
    first = DocumentsQuery(job_id=job_id(request), after=parameters.after, limit=STREAMED_PAGE)
    batches = _with_sources if parameters.html else _batches
    return await stream_lines(request, batches(request.app[ASK], first), about=first.job_id)


async def _batches(ask: Ask, first: DocumentsQuery) -> AsyncGenerator[tuple[JobDocument, ...]]:
    """As many documents at once as the crawler gives: a message of moderate size."""
    async for page in document_pages(ask, first):
        waiting = page
        if not waiting:
            yield ()
        while waiting:
            reply: StoredDocuments = await ask(DocumentsGet(document_ids=tuple(one.document_id for one in waiting)))
            stored = {document.document_id: document for document in reply.documents}
            answered, waiting = waiting[: reply.answered], waiting[reply.answered :]
            yield tuple(JobDocument(document=one, stored=stored.get(one.document_id)) for one in answered)


async def _with_sources(ask: Ask, first: DocumentsQuery) -> AsyncGenerator[tuple[JobDocument, ...]]:
    """A few documents at once, with the sources of their pages."""
    async for page in document_pages(ask, first):
        if not page:
            yield ()
        for start in range(0, len(page), SOURCES_AT_ONCE):
            few = page[start : start + SOURCES_AT_ONCE]
            yield tuple(await asyncio.gather(*(_with_source(ask, document) for document in few)))


async def _with_source(ask: Ask, document: Document) -> JobDocument:
    try:
        stored: StoredDocument = await ask(DocumentGet(document_id=document.document_id, html=True))
    except RequestRefused as refusal:
        if refusal.refused.code is not ErrorCode.NOT_FOUND:
            raise
        return JobDocument(document=document)
    return JobDocument(document=document, stored=stored)
