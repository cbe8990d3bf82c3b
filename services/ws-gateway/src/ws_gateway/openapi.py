"""The OpenAPI 3.1 document, from the models that check the requests and make the replies."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from tallyho_contracts.documents import Document, DocumentList, JobDocument, SavedDocumentList, StoredDocument
from tallyho_contracts.jobs import Job, JobList, JobState, JobSummary
from tallyho_contracts.logs import JobLogTail
from tallyho_contracts.pages import PageList
from tallyho_contracts.urls import JobLedger, UrlList

from ws_gateway.access import Ticket
from ws_gateway.contents import ContentParameters
from ws_gateway.firecrawl import (
    ActiveCrawls,
    CrawlCancelled,
    CrawlCreated,
    CrawlErrors,
    CrawlPage,
    CrawlState,
    Failure,
)
from ws_gateway.firecrawl_options import CrawlRequest
from ws_gateway.inputs import (
    DocumentListParameters,
    DocumentParameters,
    EventParameters,
    JobListParameters,
    LogParameters,
    PageListParameters,
    SavedDocumentListParameters,
    SubmittedChange,
    SubmittedJob,
)
from ws_gateway.ledger import UrlListParameters
from ws_gateway.problems import MAX_BODY_BYTES, Problem

SCHEMAS = "#/components/schemas/"

Schema = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """One method of one path, and what it takes and returns."""

    method: str
    path: str
    name: str
    summary: str
    replies: dict[int, type[BaseModel]]
    problems: tuple[int, ...] = ()
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    idempotency_header: str | None = None
    error: type[BaseModel] = Problem
    empty: tuple[int, ...] = ()


_JOB = "/v1/jobs/{job_id}"
_CRAWL = "/v2/crawl/{job_id}"
OPERATIONS = (
    Operation(
        "post", "/v1/jobs", "submitJob", "Submit a crawl", {201: Job, 200: Job}, (400, 409, 413), body=SubmittedJob,
        idempotency_header="Idempotency-Key",
    ),
    Operation(
        "get", "/v1/jobs", "listJobs", "List jobs, the newest first", {200: JobList}, (404,), query=JobListParameters
    ),
    Operation("get", _JOB, "getJob", "A job's state and what was asked for", {200: Job}, (404,)),
    Operation("delete", _JOB, "deleteJob", "Delete a job that has ended, for ever", {200: Job}, (404, 409)),
    Operation(
        "get", f"{_JOB}/summary", "summarizeJob", "A job's pages by state and reason, and how its count rose",
        {200: JobSummary}, (404,),
    ),
    Operation(
        "get", f"{_JOB}/log", "readLog", "The newest lines of a job's log, of the 200 that are kept",
        {200: JobLogTail}, (404,), query=LogParameters,
    ),
    Operation(
        "patch", _JOB, "changeJob", "Change the limits of a live job", {202: Job}, (400, 404, 409, 413),
        body=SubmittedChange,
    ),
    Operation("post", f"{_JOB}/cancel", "cancelJob", "Cancel a job", {202: Job}, (404,)),
    Operation("post", f"{_JOB}/pause", "pauseJob", "Pause a job", {202: Job}, (404, 409)),
    Operation("post", f"{_JOB}/resume", "resumeJob", "Resume a paused job", {202: Job}, (404, 409)),
    Operation(
        "post", f"{_JOB}/retry", "retryJob", "Visit the failed pages of a job that has ended again, as a new job",
        {201: Job, 200: Job}, (404, 409), idempotency_header="Idempotency-Key",
    ),
    Operation(
        "get", f"{_JOB}/documents", "listDocuments", "List a job's documents by ordinal, or stream them as JSON Lines",
        {200: DocumentList}, (404, 429), query=DocumentListParameters,
    ),
    Operation(
        "get", f"{_JOB}/contents", "streamContents", "Stream a job's documents with their content as JSON Lines",
        {200: JobDocument}, (404, 429), query=ContentParameters,
    ),
    Operation(
        "get", f"{_JOB}/pages", "listPages", "List a job's pages", {200: PageList}, (404,), query=PageListParameters
    ),
    Operation(
        "get", f"{_JOB}/ledger", "countUrls", "Every URL that a job met, counted by state and reason", {200: JobLedger},
        (404,),
    ),
    Operation(
        "get", f"{_JOB}/urls", "listUrls", "List every URL that a job met: its pages, then those that are none",
        {200: UrlList}, (404,), query=UrlListParameters,
    ),
    Operation(
        "get", f"{_JOB}/saved-documents", "listSavedDocuments", "List the ids of what the crawler saved for a job",
        {200: SavedDocumentList}, (404,), query=SavedDocumentListParameters,
    ),
    Operation(
        "get", f"{_JOB}/events", "followJob", "A job's states as Server-Sent Events, until the last one",
        {200: JobState}, (404, 429), query=EventParameters, empty=(204,),
    ),
    Operation(
        "get", "/v1/documents/{document_id}", "getDocument", "A document with its content, as it was saved last",
        {200: StoredDocument}, (404,), query=DocumentParameters,
    ),
    Operation("post", "/v1/tickets", "createTicket", "A pass for one WebSocket or event stream", {201: Ticket}, (409,)),
    Operation(
        "post", "/v2/crawl", "startCrawl", "Start a crawl, in the words of Firecrawl's v2 API", {200: CrawlCreated},
        (409, 413, 503), body=CrawlRequest, idempotency_header="x-idempotency-key", error=Failure,
    ),
    Operation(
        "get", _CRAWL, "getCrawl", "A crawl and its documents; a WebSocket of its documents as they are saved",
        {200: CrawlState}, (404, 502), query=CrawlPage, error=Failure,
    ),
    Operation(
        "delete", _CRAWL, "cancelCrawl", "Cancel a crawl", {200: CrawlCancelled}, (404, 409, 502), error=Failure
    ),
    Operation(
        "get", f"{_CRAWL}/errors", "listCrawlErrors", "The pages of a crawl that failed, and those that robots forbid",
        {200: CrawlErrors}, (404, 502), error=Failure,
    ),
    Operation(
        "get", "/v2/crawl/active", "listActiveCrawls", "The newest crawls that have not ended", {200: ActiveCrawls},
        (502,), error=Failure,
    ),
)  # fmt: skip
# Any request may lack a key or a right, name a wrong field, meet our own fault, or wait for the tracker in vain.
_ALWAYS = {Problem: (401, 403, 422, 500, 503), Failure: (400, 401, 403, 500)}
_ABOUT = """\
Live states come over the WebSocket at `/v1/ws`, which `/v1/asyncapi.json` describes.

Where keys are configured, a request needs one with the scope `read` (GET, HEAD) or `write` (all others).
"""
_KEY = {"type": "http", "scheme": "bearer", "description": "An API key. Without configured keys none is needed."}


def document() -> Schema:
    """The document, complete."""
    schemas = _component_schemas()
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tallyho",
            "version": "1",
            "summary": "Submit a crawl. Watch an exact document count, live.",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "security": [{"key": []}, {}],
        "components": {"schemas": schemas, "securitySchemes": {"key": _KEY}},
    }


def _component_schemas() -> dict[str, Schema]:
    written: list[tuple[type[BaseModel], JsonSchemaMode]]
    written = [(model, "serialization") for model in (Problem, Failure, Document)]
    read: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    for operation in OPERATIONS:
        written += [(model, "serialization") for model in operation.replies.values()]
        read += [(model, "validation") for model in (operation.body, operation.query) if model]
    _, definitions = models_json_schema(
        [*dict.fromkeys(written), *dict.fromkeys(read)], ref_template=SCHEMAS + "{model}"
    )
    schemas: dict[str, Schema] = definitions["$defs"]
    return schemas


def _operation(operation: Operation, schemas: dict[str, Schema]) -> Schema:
    described: Schema = {"operationId": operation.name, "summary": operation.summary}
    if parameters := _parameters(operation, schemas):
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {
            "required": True,
            "description": f"At most {MAX_BODY_BYTES:,} bytes.",
            "content": {"application/json": _ref(operation.body)},
        }
    described["responses"] = {
        **{str(status): _reply(operation, status, model) for status, model in operation.replies.items()},
        **{str(status): {"description": HTTPStatus(status).phrase} for status in operation.empty},
        **{str(status): _problem(operation, status) for status in _statuses_of_problems(operation)},
    }
    return described


def _parameters(operation: Operation, schemas: dict[str, Schema]) -> list[Schema]:
    an_id = {"type": "string", "format": "uuid"}
    parameters: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": an_id}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.query:
        # A query is no component of its own: its properties become parameters.
        properties = schemas.pop(operation.query.__name__)["properties"]
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]
    if operation.name == "followJob":
        about = "The newest revision that the client has: the `id` of the last event."
        schema = {"type": "integer", "minimum": 0}
        parameters.append({"name": "Last-Event-ID", "in": "header", "description": about, "schema": schema})
    if operation.idempotency_header:
        key = {"type": "string", "minLength": 1, "maxLength": 255}
        about = "The same key and body again return the first job; another body is a conflict."
        header = {"name": operation.idempotency_header, "in": "header"}
        parameters.append({**header, "description": about, "schema": key})
    return parameters


def _reply(operation: Operation, status: int, model: type[BaseModel]) -> Schema:
    content = {"application/json": _ref(model)}
    if model is DocumentList:
        content["application/jsonl"] = _ref(Document)
    if model is JobDocument:
        content = {"application/jsonl": _ref(JobDocument)}
    if model is StoredDocument:
        content["text/html"] = {"schema": {"type": "string"}}
    if model is JobState:
        content = {"text/event-stream": _ref(JobState)}
    reply: Schema = {"description": HTTPStatus(status).phrase, "content": content}
    if operation.name in ("submitJob", "retryJob"):
        reply["headers"] = {"Location": {"description": "The job's path.", "schema": {"type": "string"}}}
    return reply


def _statuses_of_problems(operation: Operation) -> list[int]:
    return sorted({*operation.problems, *_ALWAYS[operation.error]})


def _problem(operation: Operation, status: int) -> Schema:
    media_type = "application/problem+json" if operation.error is Problem else "application/json"
    return {"description": HTTPStatus(status).phrase, "content": {media_type: _ref(operation.error)}}


def _ref(model: type[BaseModel]) -> Schema:
    return {"schema": {"$ref": SCHEMAS + model.__name__}}
