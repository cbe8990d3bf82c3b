"""The URLs that jobs have met, in the table `seen`: one function per named query. The caller owns the transaction."""

from collections import Counter
from collections.abc import Iterable, Sequence
from uuid import UUID

from tallyho_contracts.pages import Page, PageState
from tallyho_contracts.urls import SkippedUrlsQuery, UrlsByReason
from tallyho_postgres import named_sql
from tallyho_postgres.pool import Connection

from crawler.frontier import FoundPage, Visit

SQL = named_sql.load("crawler", "ledger.sql")


async def known_urls(connection: Connection, urls_met: Sequence[FoundPage]) -> dict[UUID, str | None]:
    """Those of these URLs that their job has met, by page id: why each is no page of it; None of a page."""
    if not urls_met:
        return {}
    columns = [url.job_id for url in urls_met], [url.page_id for url in urls_met]
    return {row["page_id"]: row["reason"] for row in await connection.fetch(SQL["known_urls"], *columns)}


async def note_urls(connection: Connection, met: Iterable[tuple[FoundPage, str | None]]) -> None:
    """Remember URLs as met in their job, each once, with the reason why it is no page of it; None of a page."""
    rows = [
        (url.job_id, url.page_id, reason, *((url.url, url.depth) if reason else (None, None))) for url, reason in met
    ]
    if rows:
        await connection.execute(SQL["note_urls"], *map(list, zip(*rows, strict=True)))


async def note_beyond(connection: Connection, visits: Iterable[Visit]) -> None:
    """Add to their locked jobs how many links and entries of closed pages were not looked at."""
    beyond: Counter[UUID] = Counter()
    for visit in visits:
        beyond[visit.page.lane.job_id] += visit.beyond
    if beyond := +beyond:
        await connection.execute(SQL["note_beyond"], list(beyond), list(beyond.values()))


async def count_urls(connection: Connection, job_id: UUID) -> tuple[int, int]:
    """How many URLs a job has met, and how many more links and entries it did not look at."""
    row = await connection.fetchrow(SQL["count_urls"], job_id)
    assert row is not None
    return row["met"], row["beyond"]


async def count_skipped(connection: Connection, job_id: UUID) -> list[UrlsByReason]:
    """How many URLs of a job are no pages, by reason."""
    rows = await connection.fetch(SQL["count_skipped"], job_id)
    return [UrlsByReason(state=PageState.SKIPPED, is_page=False, **row) for row in rows]


async def list_skipped(connection: Connection, query: SkippedUrlsQuery) -> list[Page]:
    """The URLs of a job that are no pages, by reason and id, from where the query goes on."""
    asked = query.job_id, query.after_reason or "", query.after or UUID(int=0), query.limit
    if query.reason is None:
        rows = await connection.fetch(SQL["list_skipped"], *asked)
    else:
        rows = await connection.fetch(SQL["list_skipped_for"], *asked, query.reason)
    return [Page(state=PageState.SKIPPED, **row) for row in rows]
