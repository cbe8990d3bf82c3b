"""What must hold in the crawler's tables after every commit, and what its events must add up to."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from crawler import frontier
from tallyho_contracts.crawls import CrawlChanged, CrawlStarted, CrawlStopped
from tallyho_contracts.documents import DocumentSaved
from tallyho_contracts.pages import PageFinished, PageStarted, SpawnedPage
from tallyho_messaging.wire import AnyEvent, Malformed, decode
from tallyho_postgres.pool import Pool

# A row for each broken promise; `live` are the pages that can be fetched as soon as their job is running.
VIOLATIONS = """
WITH live AS (
    SELECT queue.* FROM queue JOIN jobs USING (job_id)
    WHERE status <> 'cancelled' AND NOT closing AND (level IS NULL OR depth <= level)
)
SELECT 'a page that can be fetched has no lane that will be due' AS violation, page_id::text AS what
FROM live LEFT JOIN lanes USING (job_id, origin, slot) LEFT JOIN paces USING (job_id, origin)
WHERE due_at IS NULL OR due_at > greatest(not_before, now(), next_fetch_at)
UNION ALL
SELECT 'a page has no lane', page_id::text
FROM queue JOIN jobs USING (job_id) LEFT JOIN lanes USING (job_id, origin, slot)
WHERE status <> 'cancelled' AND due_at IS NULL
UNION ALL
SELECT 'a lane has no origin or slot', lanes.origin || ' ' || lanes.slot
FROM lanes LEFT JOIN slots USING (origin, slot) LEFT JOIN origins USING (origin)
WHERE slots.slot IS NULL OR origins.delay IS NULL
UNION ALL
SELECT 'an empty lane is never dropped', lanes.origin || ' ' || lanes.slot
FROM lanes LEFT JOIN queue USING (job_id, origin, slot)
WHERE page_id IS NULL AND due_at > now()
UNION ALL
SELECT 'a job has pages but none at its level', job_id::text
FROM jobs
WHERE status <> 'cancelled' AND NOT closing AND level < (SELECT min(depth) FROM queue WHERE queue.job_id = jobs.job_id)
UNION ALL
SELECT 'a page is in the frontier twice', page_id::text
FROM (SELECT job_id, page_id FROM queue UNION ALL SELECT job_id, page_id FROM waiting) AS page
GROUP BY job_id, page_id HAVING count(*) > 1
UNION ALL
SELECT 'a page of the frontier was never seen', page_id::text
FROM (SELECT job_id, page_id FROM queue UNION ALL SELECT job_id, page_id FROM waiting) AS page
LEFT JOIN seen USING (job_id, page_id) WHERE seen.job_id IS NULL
UNION ALL
SELECT 'a job has more places taken than its budget has', job_id::text
FROM jobs WHERE admitted > (options ->> 'max_pages')::bigint AND options_revision = 0
UNION ALL
SELECT 'a job has saved more than its budget', job_id::text
FROM jobs WHERE saved > (options ->> 'max_pages')::bigint AND options_revision = 0
UNION ALL
SELECT 'a job counts other documents than it has', job_id::text
FROM jobs
WHERE NOT has_remains AND options <> '{}' AND saved <> (
    SELECT count(*) FROM job_documents WHERE job_documents.job_id = jobs.job_id
)
UNION ALL
SELECT 'a budget is spent, and pages are left that nobody closes', job_id::text
FROM jobs WHERE status <> 'cancelled' AND NOT closing AND saved >= (options ->> 'max_pages')::bigint
    AND job_id IN (SELECT job_id FROM queue)
UNION ALL
SELECT 'a URL waits although there is a place', job_id::text
FROM jobs
WHERE status <> 'cancelled' AND admitted < (options ->> 'max_pages')::bigint AND job_id IN (SELECT job_id FROM waiting)
    AND pages < $1::numeric * (options ->> 'max_pages')::bigint + $2
    -- Many join the job some at a time.
    AND (SELECT count(*) FROM queue WHERE queue.job_id = jobs.job_id) < 1000
UNION ALL
SELECT 'a URL waits and is not noted so, or the other way round', page_id::text
FROM (SELECT job_id, page_id, url FROM seen WHERE reason = 'budget') AS noted
FULL JOIN waiting USING (job_id, page_id) WHERE noted.url IS NULL OR waiting.seq IS NULL
UNION ALL
SELECT 'a URL was skipped and has no address', page_id::text FROM seen WHERE reason IS NOT NULL AND url IS NULL
UNION ALL
SELECT 'the pages of a job are not the URLs met without those skipped', job_id::text
FROM jobs
WHERE NOT has_remains AND started AND options <> '{}' AND pages <> (
    SELECT count(*) FROM seen WHERE seen.job_id = jobs.job_id AND reason IS NULL
)
UNION ALL
SELECT 'a place is neither a page to fetch nor a document', job_id::text
FROM jobs
WHERE status <> 'cancelled' AND admitted <>
    (SELECT count(*) FROM queue WHERE queue.job_id = jobs.job_id)
    + (SELECT count(*) FROM job_documents WHERE job_documents.job_id = jobs.job_id)
"""

LATER = """
WITH queued AS (UPDATE queue SET not_before = not_before - $1::interval),
    due AS (UPDATE lanes SET due_at = due_at - $1::interval, served_at = served_at - $1::interval),
    held AS (
        UPDATE origins
        SET next_fetch_at = next_fetch_at - $1::interval, robots_expires_at = robots_expires_at - $1::interval,
            busy_until = busy_until - $1::interval
    ),
    rested AS (UPDATE slots SET rests_until = rests_until - $1::interval)
UPDATE workers SET alive_until = alive_until - $1::interval
"""


async def check_frontier(pool: Pool) -> None:
    """Every page that can be fetched will be: nothing stalls, nothing is lost, nothing is there twice."""
    most = frontier.PAGES_A_DOCUMENT, frontier.MORE_PAGES
    broken = [tuple(row) for row in await pool.fetch(VIOLATIONS, *most)]

    assert not broken, broken


@dataclass
class Ledger:
    """One job as its events tell it, put together as whoever reads them would, in whatever order they come."""

    starts: int = 0
    changes: list[int] = field(default_factory=list)
    known: dict[UUID, SpawnedPage] = field(default_factory=dict)
    announced: list[UUID] = field(default_factory=list)
    finished: dict[UUID, PageFinished] = field(default_factory=dict)
    cancelled: set[UUID] = field(default_factory=set)
    documents: list[DocumentSaved] = field(default_factory=list)
    job_pages: int = 0

    def read(self, data: object) -> None:
        """Note what one event says; what no second event may say again is checked here."""
        match data:
            case CrawlStarted(pages=pages):
                self.starts += 1
                self._learn(pages)
            case CrawlChanged(pages=pages, revision=revision):
                self.changes.append(revision)
                self._learn(pages)
            case PageStarted(page_ids=page_ids):
                self.announced += page_ids
            case PageFinished() as page:
                assert page.job_id not in self.closed
                self.finished[page.job_id] = page
                self.job_pages = max(self.job_pages, page.job_pages or 0)
                self._learn(page.spawned)
            case CrawlStopped(page_ids=page_ids):
                assert self.closed.isdisjoint(page_ids)
                self.cancelled.update(page_ids)
            case DocumentSaved() as saved:
                self.documents.append(saved)
            case _:
                raise AssertionError(f"{data} is no event of a crawl")

    def _learn(self, pages: Iterable[SpawnedPage]) -> None:
        for page in pages:
            assert page.page_id not in self.known
            self.known[page.page_id] = page

    @property
    def closed(self) -> set[UUID]:
        """The pages of which nothing more will be heard."""
        return self.cancelled.union(self.finished)

    @property
    def open(self) -> set[UUID]:
        """The known pages of which more will be heard; when there are none, the job is done."""
        return set(self.known) - self.closed

    @property
    def saved(self) -> set[str]:
        """The URLs of the documents; each is told of once, by its own event and by that of its page."""
        urls = [saved.source_url for saved in self.documents]
        assert len(urls) == len(set(urls))
        assert set(urls) == {page.url for page in self.finished.values() if page.document_id}
        return set(urls)

    @property
    def reasons(self) -> Counter[str | None]:
        """How many pages ended without a document, by reason."""
        return Counter(page.reason for page in self.finished.values() if not page.document_id)


@dataclass
class Ledgers:
    """The ledgers of all jobs, written from the outbox of the crawler."""

    pool: Pool
    of: dict[UUID, Ledger] = field(default_factory=dict)

    async def read(self) -> None:
        """Take the events committed since the last time. They come in no particular order."""
        for row in await self.pool.fetch("DELETE FROM outbox RETURNING type, body"):
            for event in decode(row["body"], None, row["type"]):
                assert not isinstance(event, Malformed), event
                self.of.setdefault(event.data.parent_job_id, Ledger()).read(event.data)

    async def check(self) -> None:
        """The frontier is sound, and the events name as open exactly the pages that are in it."""
        await check_frontier(self.pool)
        await self.read()
        jobs = await self.pool.fetch(
            "SELECT job_id, pages, ARRAY(SELECT page_id FROM queue WHERE queue.job_id = jobs.job_id) AS queued"
            " FROM jobs WHERE started"
        )

        assert {row["job_id"]: set(row["queued"]) for row in jobs} == {
            row["job_id"]: self.of[row["job_id"]].open for row in jobs
        }
        assert {row["job_id"]: row["pages"] for row in jobs} == {
            row["job_id"]: len(self.of[row["job_id"]].known) for row in jobs
        }


async def events(pool: Pool) -> list[AnyEvent]:
    """The events in the outbox."""
    decoded = [decode(row["body"], None, row["type"])[0] for row in await pool.fetch("SELECT type, body FROM outbox")]
    return [event for event in decoded if not isinstance(event, Malformed)]


async def pass_time(pool: Pool, seconds: float) -> None:
    """Let the frontier's clock go on: all that is due at some time is due so much earlier."""
    await pool.execute(LATER, timedelta(seconds=seconds))
