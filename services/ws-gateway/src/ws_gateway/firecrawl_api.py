"""Firecrawl's v2 crawl API: its published client packages work with this gateway as with theirs."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from http import HTTPStatus
from uuid import UUID, uuid4

from aiohttp import web
from tallyho_contracts.jobs import Job, JobCancel, JobCreated, JobGet, JobList, JobsQuery, JobStatus
from tallyho_contracts.pages import Page, PageList, PagesQuery, PageState

from ws_gateway import firecrawl
from ws_gateway.deps import DEPS
from ws_gateway.firecrawl import CrawlCancelled, CrawlCreated, CrawlErrors, CrawlPage
from ws_gateway.firecrawl_documents import documents_after
from ws_gateway.firecrawl_options import CrawlRequest, refusals
from ws_gateway.firecrawl_watch import states, watch
from ws_gateway.http_api import ASK, Ask, body, idempotency_key, job_id, query
from ws_gateway.problems import Problem, ProblemError, invalid

PREFIX = "/v2/"
CANCEL_SECONDS = 10.0
MAX_ACTIVE = 100
# Of each kind: their clients get all of them at once.
MAX_ERRORS = 10_000
PROBLEM = "application/problem+json"


def routes() -> list[web.RouteDef]:
    """The API's paths."""
    crawl = "/v2/crawl/{job_id}"
    return [
        web.post("/v2/crawl", start_crawl),
        web.get("/v2/crawl/active", list_active),
        web.get(crawl, get_crawl),
        web.delete(crawl, cancel_crawl),
        web.get(f"{crawl}/errors", list_errors),
    ]


async def start_crawl(request: web.Request) -> web.Response:
    """Create a job from Firecrawl's options."""
    submitted = await body(request, CrawlRequest)
    if errors := refusals(submitted):
        raise invalid(*errors)
    key = idempotency_key(request, "x-idempotency-key")
    reply: JobCreated = await request.app[ASK](submitted.to_create(uuid4(), key))
    crawl_id = reply.job.job_id
    return _json(CrawlCreated(id=crawl_id, url=_address(request, crawl_id)))


async def get_crawl(request: web.Request) -> web.StreamResponse:
    """A crawl's state with some of its documents; as a WebSocket, all of them as they are saved."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await watch(request)
    page = query(request, CrawlPage)
    ask = request.app[ASK]
    job: Job = await ask(JobGet(job_id=job_id(request)))
    documents = await documents_after(ask, job, page.skip, page.limit, markdown=job.options.markdown)
    seen = page.skip + len(documents)
    # Of a live crawl also at the end of what there is, for there may be more by then; but never after an empty page,
    # or a client that follows it to the end would ask again and again.
    has_next = seen < job.document_count or (bool(documents) and not job.status.is_terminal)
    limit = f"&limit={page.limit}" if "limit" in page.model_fields_set else ""
    following = f"{_address(request, job.job_id)}?skip={seen}{limit}" if has_next else None
    return _json(firecrawl.state_of_crawl(job, documents, following))


async def cancel_crawl(request: web.Request) -> web.Response:
    """Cancel a crawl, and wait until nothing of it can change any more."""
    ask, crawl_id = request.app[ASK], job_id(request)
    job: Job = await ask(JobCancel(job_id=crawl_id))
    if job.status is not JobStatus.CANCELLED and job.status.is_terminal:
        raise ProblemError(HTTPStatus.CONFLICT, "conflict", f"The crawl is {job.status} already.")
    with suppress(TimeoutError):  # it will be cancelled: nothing else can become of it
        async with asyncio.timeout(CANCEL_SECONDS), aclosing(states(request.app[DEPS], ask, crawl_id)) as changes:
            async for _ in changes:
                pass
    return _json(CrawlCancelled())


async def list_errors(request: web.Request) -> web.Response:
    """The pages of a crawl that failed, and those that a robots.txt forbids."""
    ask, crawl_id = request.app[ASK], job_id(request)
    failed = [firecrawl.crawl_error(page) for page in await _pages(ask, crawl_id, PageState.FAILED)]
    skipped = await _pages(ask, crawl_id, PageState.SKIPPED, reason="robots")
    forbidden = [page.url for page in skipped if page.url]
    return _json(CrawlErrors(errors=tuple(failed), robots_blocked=tuple(forbidden)))


async def list_active(request: web.Request) -> web.Response:
    """The newest crawls that have not ended."""
    ask = request.app[ASK]
    live: JobList = await ask(JobsQuery(live=True, limit=MAX_ACTIVE))
    jobs: list[Job] = [await ask(JobGet(job_id=state.job_id)) for state in live.jobs]
    return _json(firecrawl.ActiveCrawls(crawls=tuple(map(firecrawl.active_crawl, jobs))))


async def _pages(ask: Ask, crawl_id: UUID, state: PageState, reason: str | None = None) -> list[Page]:
    pages: list[Page] = []
    after: UUID | None = None
    while True:
        limit = min(1000, MAX_ERRORS - len(pages))
        query = PagesQuery(job_id=crawl_id, state=state, reason=reason, after=after, limit=limit)
        reply: PageList = await ask(query)
        pages += reply.pages
        after = reply.next
        if after is None or len(pages) >= MAX_ERRORS:
            return pages


def _address(request: web.Request, crawl_id: UUID) -> str:
    """Where a crawl is, as the client has to write it: a proxy in between may have taken off the encryption."""
    proxied = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    scheme = proxied if proxied in ("http", "https") else request.scheme
    return f"{scheme}://{request.host}/v2/crawl/{crawl_id}"


def _json(model: firecrawl.Shown, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=model.as_json(), content_type="application/json")


@web.middleware
async def answer_failures(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer with errors in Firecrawl's shape below `/v2/`."""
    response = await handler(request)
    if not (
        request.path.startswith(PREFIX) and isinstance(response, web.Response) and response.content_type == PROBLEM
    ):
        return response
    problem = Problem.model_validate_json(response.text or "")
    failure = _json(firecrawl.failure_of(problem), status=_status(problem.status, request.method))
    for name in ("Allow", "Retry-After", "WWW-Authenticate"):
        if name in response.headers:
            failure.headers[name] = response.headers[name]
    return failure


def _status(status: int, method: str) -> int:
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return HTTPStatus.BAD_REQUEST
    if status == HTTPStatus.SERVICE_UNAVAILABLE and method != "POST":
        return HTTPStatus.BAD_GATEWAY  # the one status on which their packages try again; a crawl must not start twice
    return status
