"""The HTTP API: each handler checks what came, asks the job tracker or the crawler, and answers with the reply."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import UUID, uuid4

from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError
from tallyho_contracts.documents import (
    Document,
    DocumentGet,
    DocumentList,
    DocumentsQuery,
    SavedDocumentList,
    SavedDocumentsQuery,
    StoredDocument,
)
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import (
    Job,
    JobCancel,
    JobCreated,
    JobDelete,
    JobGet,
    JobList,
    JobPause,
    JobResume,
    JobRetry,
    JobsQuery,
    JobSummary,
    JobSummaryQuery,
)
from tallyho_contracts.logs import JobLogQuery, JobLogTail
from tallyho_contracts.pages import PageList, PagesQuery

from ws_gateway.inputs import (
    DocumentListParameters,
    DocumentParameters,
    DocumentPath,
    IdempotencyKey,
    JobListParameters,
    JobPath,
    LogParameters,
    NoParameters,
    PageListParameters,
    SavedDocumentListParameters,
    SubmittedChange,
    SubmittedJob,
)
from ws_gateway.json_lines import stream_lines, wants_json_lines
from ws_gateway.problems import FieldError, ProblemError, invalid, invalid_fields

log = logging.getLogger(__name__)

# A request to a service; the registry tells which reply a message gets, hence Any.
Ask = Callable[[Message], Awaitable[Any]]

ASK: web.AppKey[Ask] = web.AppKey("ask")
ALLOW_PRIVATE_ADDRESSES = web.AppKey("allow_private_addresses", bool)

STREAMED_PAGE = 1000

ModelT = TypeVar("ModelT", bound=BaseModel)


def routes() -> list[web.RouteDef]:
    """The API's paths."""
    job = "/v1/jobs/{job_id}"
    return [
        web.post("/v1/jobs", submit_job),
        web.get("/v1/jobs", list_jobs),
        web.get(job, get_job),
        web.patch(job, change_job),
        web.delete(job, delete_job),
        web.get(f"{job}/summary", summarize_job),
        web.get(f"{job}/log", read_log),
        web.post(f"{job}/cancel", cancel_job),
        web.post(f"{job}/pause", pause_job),
        web.post(f"{job}/resume", resume_job),
        web.post(f"{job}/retry", retry_job),
        web.get(f"{job}/documents", list_documents),
        web.get(f"{job}/pages", list_pages),
        web.get(f"{job}/saved-documents", list_saved_documents),
        web.get("/v1/documents/{document_id}", get_document),
    ]


async def submit_job(request: web.Request) -> web.Response:
    """Create a job; the same Idempotency-Key and body again give the job that was created first."""
    query(request, NoParameters)
    key = idempotency_key(request)
    submitted = await body(request, SubmittedJob)
    return _created(await request.app[ASK](submitted.to_create(uuid4(), key)))


async def list_jobs(request: web.Request) -> web.Response:
    """List the jobs, the newest first."""
    parameters = query(request, JobListParameters)
    reply: JobList = await request.app[ASK](JobsQuery(**parameters.model_dump()))
    return json_response(reply)


async def get_job(request: web.Request) -> web.Response:
    """Return a job's state together with what was asked for."""
    query(request, NoParameters)
    job: Job = await request.app[ASK](JobGet(job_id=job_id(request)))
    return json_response(job)


async def delete_job(request: web.Request) -> web.Response:
    """Delete a job that has ended, and return it as it was; its documents go in the background."""
    query(request, NoParameters)
    job: Job = await request.app[ASK](JobDelete(job_id=job_id(request)))
    return json_response(job)


async def summarize_job(request: web.Request) -> web.Response:
    """Return a job's pages by state and reason, and how its document count rose."""
    query(request, NoParameters)
    summary: JobSummary = await request.app[ASK](JobSummaryQuery(job_id=job_id(request)))
    return json_response(summary)


async def read_log(request: web.Request) -> web.Response:
    """Return the newest lines of a job's log, of those that are kept."""
    parameters = query(request, LogParameters)
    tail: JobLogTail = await request.app[ASK](JobLogQuery(job_id=job_id(request), limit=parameters.limit))
    return json_response(tail)


async def cancel_job(request: web.Request) -> web.Response:
    """Cancel a job; one that has ended stays as it is."""
    return await _command(request, JobCancel)


async def pause_job(request: web.Request) -> web.Response:
    """Pause a job: no more of its pages are fetched."""
    return await _command(request, JobPause)


async def resume_job(request: web.Request) -> web.Response:
    """Go on with a paused job."""
    return await _command(request, JobResume)


async def change_job(request: web.Request) -> web.Response:
    """Change the limits of a live job; what is not named stays as it is."""
    query(request, NoParameters)
    change = await body(request, SubmittedChange)
    job: Job = await request.app[ASK](change.to_change(job_id(request)))
    return json_response(job, status=202)


async def retry_job(request: web.Request) -> web.Response:
    """Create a job that visits the failed pages of one that has ended; the same Idempotency-Key gives the same job."""
    query(request, NoParameters)
    retry = JobRetry(job_id=uuid4(), retry_of=job_id(request), idempotency_key=idempotency_key(request))
    return _created(await request.app[ASK](retry))


def _created(reply: JobCreated) -> web.Response:
    location = {"Location": f"/v1/jobs/{reply.job.job_id}"}
    return json_response(reply.job, status=201 if reply.created else 200, headers=location)


async def _command(request: web.Request, command: type[JobCancel] | type[JobPause] | type[JobResume]) -> web.Response:
    query(request, NoParameters)
    job: Job = await request.app[ASK](command(job_id=job_id(request)))
    return json_response(job, status=202)


async def list_documents(request: web.Request) -> web.StreamResponse:
    """List a job's documents by ordinal, or stream them as JSON Lines."""
    parameters = query(request, DocumentListParameters)
    first = DocumentsQuery(job_id=job_id(request), after=parameters.after, limit=parameters.limit)
    if not wants_json_lines(request):
        reply: DocumentList = await request.app[ASK](first)
        return json_response(reply)
    limit = parameters.limit if "limit" in parameters.model_fields_set else None
    return await stream_lines(request, document_pages(request.app[ASK], first, limit), about=first.job_id)


async def list_pages(request: web.Request) -> web.Response:
    """List a job's pages, optionally those in one state."""
    parameters = query(request, PageListParameters)
    reply: PageList = await request.app[ASK](PagesQuery(job_id=job_id(request), **parameters.model_dump()))
    return json_response(reply)


async def list_saved_documents(request: web.Request) -> web.Response:
    """List what the crawler saved for a job, to compare it with what was counted."""
    parameters = query(request, SavedDocumentListParameters)
    known: Job = await request.app[ASK](JobGet(job_id=job_id(request)))
    asked = SavedDocumentsQuery(job_id=known.job_id, **parameters.model_dump())
    reply: SavedDocumentList = await request.app[ASK](asked)
    return json_response(reply)


async def get_document(request: web.Request) -> web.Response:
    """Return a document with its content, as the crawler saved it last; or the source of its page."""
    wants_html = query(request, DocumentParameters).format == "html"
    document: StoredDocument = await request.app[ASK](DocumentGet(document_id=document_id(request), html=wants_html))
    return _source(document) if wants_html else json_response(document)


def _source(document: StoredDocument) -> web.Response:
    if document.html is None:
        detail = "The source of this page was not kept: its last crawl did not have the option keep_html."
        raise ProblemError(HTTPStatus.NOT_FOUND, "html_not_kept", detail)
    # It is a stranger's page: in a browser it must not run as one of ours.
    headers = {"Content-Security-Policy": "sandbox; default-src 'none'", "Content-Disposition": "attachment"}
    return web.Response(text=document.html, content_type="text/html", charset="utf-8", headers=headers)


async def document_pages(
    ask: Ask, first: DocumentsQuery, limit: int | None = None
) -> AsyncGenerator[tuple[Document, ...]]:
    """The documents of a job by ordinal, some at a time; not more than `limit`."""
    after: int | None = first.after
    while after is not None:
        reply: DocumentList = await ask(DocumentsQuery(job_id=first.job_id, after=after, limit=limit or STREAMED_PAGE))
        yield reply.documents
        after = None if limit else reply.next


def json_response(model: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A model as the body."""
    content = model.model_dump_json().encode()
    return web.Response(status=status, body=content, headers=headers, content_type="application/json")


async def body(request: web.Request, model: type[ModelT]) -> ModelT:
    """Read the JSON body, or say which field is at fault."""
    content = await request.read()
    context = {"allow_private_addresses": request.app[ALLOW_PRIVATE_ADDRESSES]}
    try:
        return model.model_validate_json(content, strict=True, context=context)
    except ValidationError as error:
        if error.error_count() > 1 or error.errors()[0]["type"] != "json_invalid":
            raise invalid_fields(error) from None
        why = error.errors()[0]["msg"].removeprefix("Invalid JSON: ")
        fault = FieldError(field="body", message=f"is not JSON: {why}")
        raise ProblemError(HTTPStatus.BAD_REQUEST, "not_json", f"The body is not JSON: {why}", (fault,)) from None


def query(request: web.Request, model: type[ModelT]) -> ModelT:
    """Read the query parameters; a parameter given twice is refused like any other wrong value."""
    values = {name: request.query.getall(name) for name in request.query}
    try:
        return model.model_validate({name: many[0] if len(many) == 1 else many for name, many in values.items()})
    except ValidationError as error:
        raise invalid_fields(error) from None


def job_id(request: web.Request) -> UUID:
    """The job that the path names."""
    return _named(request, JobPath).job_id


def document_id(request: web.Request) -> UUID:
    """The document that the path names."""
    return _named(request, DocumentPath).document_id


def _named(request: web.Request, model: type[ModelT]) -> ModelT:
    try:
        return model.model_validate(dict(request.match_info))
    except ValidationError as error:
        raise invalid_fields(error) from None


def idempotency_key(request: web.Request, header: str = "Idempotency-Key") -> str | None:
    """The client's key for this request, if it gave one."""
    key = request.headers.get(header)
    if key is None:
        return None
    try:
        return TypeAdapter(IdempotencyKey).validate_python(key)
    except ValidationError:
        raise invalid(FieldError(field=header, message="must be 1 to 255 printable ASCII characters")) from None
