"""The ledger of a job over HTTP: the pages that the tracker knows, and the URLs that the crawler never made pages."""

from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from tallyho_contracts.jobs import JobSummary, JobSummaryQuery
from tallyho_contracts.pages import Page, PageList, PagesQuery, PageState
from tallyho_contracts.urls import (
    JobLedger,
    Reason,
    SkippedUrlList,
    SkippedUrlsQuery,
    UrlList,
    UrlsByReason,
    UrlsCount,
    UrlsCounted,
)

from ws_gateway.http_api import ASK, Ask, job_id, json_response, query
from ws_gateway.inputs import NoParameters

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# Where a listing goes on: after a page, or after a skipped URL, which are listed by their reason.
Cursor = Annotated[str, StringConstraints(pattern=rf"^(?:page|skipped(?:\.[a-z0-9_]+)?)\.{_UUID}$", max_length=300)]
FIRST_SKIPPED = f"skipped.{UUID(int=0)}"


class UrlListParameters(BaseModel):
    """The query of `GET /v1/jobs/{job_id}/urls`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: PageState | None = None
    reason: Reason | None = Field(default=None, description="Only those in their state for this reason.")
    after: Cursor | None = Field(default=None, description="What `next` of the page before says.")
    limit: int = Field(default=100, ge=1, le=1000)


def routes() -> list[web.RouteDef]:
    """The paths of the ledger."""
    return [
        web.get("/v1/jobs/{job_id}/ledger", count_urls),
        web.get("/v1/jobs/{job_id}/urls", list_urls),
    ]


async def count_urls(request: web.Request) -> web.Response:
    """Count every URL that a job met, by state and reason."""
    query(request, NoParameters)
    return json_response(await ledger_of(request.app[ASK], job_id(request)))


async def ledger_of(ask: Ask, job: UUID) -> JobLedger:
    """The ledger of a job, of both services. Raises RequestRefused."""
    # The crawler is ahead of the tracker while the job runs; at its end both speak of the same URLs.
    summary: JobSummary = await ask(JobSummaryQuery(job_id=job))
    counted: UrlsCounted = await ask(UrlsCount(job_id=job))
    pages = [UrlsByReason(state=row.state, reason=row.reason, urls=row.pages) for row in summary.pages]
    entries = (*pages, *counted.skipped)
    return JobLedger(job_id=job, urls_met=counted.urls_met, entries=entries, beyond=counted.beyond)


async def list_urls(request: web.Request) -> web.Response:
    """List every URL that a job met, optionally those in one state or for one reason."""
    parameters = query(request, UrlListParameters)
    return json_response(await urls_of(request.app[ASK], job_id(request), parameters))


async def urls_of(ask: Ask, job: UUID, wanted: UrlListParameters) -> UrlList:
    """The next URLs of a job. Raises RequestRefused."""
    source, reason, last = _read(wanted.after)
    found: list[Page] = []
    if source == "page":
        pages: PageList = await ask(
            PagesQuery(job_id=job, state=wanted.state, reason=wanted.reason, after=last, limit=wanted.limit)
        )
        if pages.next is not None:
            return UrlList(urls=pages.pages, next=f"page.{pages.next}")
        found, last = list(pages.pages), None
    if wanted.state not in (None, PageState.SKIPPED):
        return UrlList(urls=tuple(found))
    if len(found) == wanted.limit:
        return UrlList(urls=tuple(found), next=FIRST_SKIPPED)
    skipped: SkippedUrlList = await ask(
        SkippedUrlsQuery(
            job_id=job, reason=wanted.reason, after_reason=reason, after=last, limit=wanted.limit - len(found)
        )
    )
    end = skipped.urls[-1] if skipped.has_more else None
    return UrlList(urls=(*found, *skipped.urls), next=f"skipped.{end.reason}.{end.page_id}" if end else None)


def _read(cursor: str | None) -> tuple[Literal["page", "skipped"], str | None, UUID | None]:
    """What a cursor says: whose URLs come next, and after which reason and id."""
    if cursor is None:
        return "page", None, None
    source, *reason, last = cursor.split(".")
    if source == "page":
        return "page", None, UUID(last)
    return "skipped", reason[0] if reason else None, UUID(last) if reason else None
