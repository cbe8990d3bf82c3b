"""The documents of a job with their content, as a stream: what an export reads."""

from collections.abc import AsyncIterator

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from tallyho_contracts.documents import DocumentsGet, DocumentsQuery, JobDocument, StoredDocuments
from tallyho_contracts.event import Count

from ws_gateway.http_api import ASK, STREAMED_PAGE, Ask, document_pages, job_id, query, stream_lines


class ContentParameters(BaseModel):
    """The query of `GET /v1/jobs/{job_id}/contents`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: Count = Field(default=0, description="The last ordinal already seen.")


def routes() -> list[web.RouteDef]:
    """The path of contents."""
    return [web.get("/v1/jobs/{job_id}/contents", stream_contents)]


async def stream_contents(request: web.Request) -> web.StreamResponse:
    """Stream a job's documents with their content as JSON Lines, by ordinal."""
    parameters = query(request, ContentParameters)
    first = DocumentsQuery(job_id=job_id(request), after=parameters.after, limit=STREAMED_PAGE)
    return await stream_lines(request, _batches(request.app[ASK], first), about=first.job_id)


async def _batches(ask: Ask, first: DocumentsQuery) -> AsyncIterator[tuple[JobDocument, ...]]:
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
