"""The tracker on a real database without its broker: what it would publish is kept, and made-up crawls feed it."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from job_tracker import control, requests
from job_tracker.deps import Deps
from job_tracker.handlers import on_events
from job_tracker.progress import Progress
from job_tracker.rules import Job, job_state
from tallyho_contracts.crawls import CrawlOptions, CrawlStarted
from tallyho_contracts.documents import Change, Document, DocumentSaved, DocumentsQuery
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import Job as JobView
from tallyho_contracts.jobs import JobCreate, JobState
from tallyho_contracts.pages import Outcome, PageFinished, PageStarted, SpawnedPage
from tallyho_messaging.wire import AnyEvent, Malformed, decode, event_of
from tallyho_postgres.outbox import Relay
from tallyho_postgres.pool import Pool, open_pool

NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
SEED = "https://example.com/"


class KeptProgress(Progress):
    """Keeps every state that is announced, also those that a newer one would replace before they are published."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, _to_nobody)
        self.states: dict[UUID, list[JobState]] = defaultdict(list)

    def announce(self, jobs: Iterable[Job]) -> None:
        """Keep the states that gateways would get to see; the same one again is no other."""
        for job in jobs:
            if job.created_at is not None and job_state(job) not in self.states[job.job_id][-1:]:
                self.states[job.job_id].append(job_state(job))


def all_states(trackers: Sequence["Tracker"], job_id: UUID) -> list[JobState]:
    """What gateways would get to see of a job from all of these trackers: a revision is one state, whoever tells it."""
    by_revision: dict[int, JobState] = {}
    for tracker in trackers:
        for state in tracker.progress.states[job_id]:
            assert by_revision.setdefault(state.revision, state) == state
    return [by_revision[revision] for revision in sorted(by_revision)]


async def _to_nobody(_: object) -> None:
    """Publish nothing."""


class Tracker:
    """One replica: feed it events and requests, look at what it announces and commands."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.progress = KeptProgress(pool)
        self.now = NOON
        self.deps = Deps(pool, Relay(pool, _nowhere), self.progress, lambda: self.now)

    async def apply(self, *data: Message) -> None:
        """Handle these events as one batch."""
        await on_events(self.deps, [crawler_event(one) for one in data])

    async def ask(self, request: Message) -> Message:
        """Answer a request. Raises RequestRefused."""
        return await requests.answer(self.deps, event_of(request, source="ws-gateway", subject=uuid4()))

    async def create(self, job_id: UUID | None = None, **options: object) -> UUID:
        """Create a job with one seed; returns its id."""
        job_id = job_id or uuid4()
        self.now += timedelta(seconds=1)
        request = JobCreate(job_id=job_id, seeds=(SEED,), options=CrawlOptions.model_validate(options))
        await control.create_job(self.deps, request)
        return job_id

    async def job(self, job_id: UUID) -> JobView:
        """The job as it stands."""
        return await requests.get_job(self.deps, job_id)

    async def documents(self, job_id: UUID) -> list[Document]:
        """All its documents."""
        query = DocumentsQuery(job_id=job_id, limit=1000)
        return list((await requests.list_documents(self.deps, query)).documents)

    async def commands(self, job_id: UUID) -> list[AnyEvent]:
        """The commands about a job that its outbox holds, oldest first."""
        rows = await self.pool.fetch("SELECT type, body FROM outbox ORDER BY leased_until")
        events = [event for row in rows for event in decode(row["body"], None, row["type"])]
        return [event for event in events if not isinstance(event, Malformed) and event.subject == job_id]


async def _nowhere(*_: object) -> None:
    """Publish nothing."""


@asynccontextmanager
async def open_trackers(database_url: str, replicas: int) -> AsyncIterator[list[Tracker]]:
    """Replicas with a pool each, on one database."""
    if not replicas:
        yield []
        return
    async with open_pool(database_url, schema="job_tracker") as pool, open_trackers(database_url, replicas - 1) as more:
        yield [Tracker(pool), *more]


def crawler_event(data: Message) -> AnyEvent:
    """`data` as the crawler sends it."""
    return event_of(data, source="crawler", subject=data.parent_job_id)  # type: ignore[attr-defined]  # all of them have it


def spawned(job_id: UUID, name: str, depth: int = 0) -> SpawnedPage:
    """The page of `name` in a job."""
    url = f"{SEED}{name}"
    return SpawnedPage(page_id=uuid5(job_id, url), url=url, depth=depth)


def started(job_id: UUID, *names: str) -> CrawlStarted:
    """The seeds of a job are stored."""
    return CrawlStarted(parent_job_id=job_id, pages=tuple(spawned(job_id, name) for name in names))


def claimed(job_id: UUID, *names: str) -> PageStarted:
    """Pages are being fetched."""
    return PageStarted(parent_job_id=job_id, page_ids=tuple(spawned(job_id, name).page_id for name in names))


def finished(
    job_id: UUID,
    name: str,
    outcome: Outcome = Outcome.COMPLETED,
    *,
    found: Sequence[str] = (),
    reason: str | None = None,
    depth: int = 0,
) -> PageFinished:
    """A page is closed; a completed one gave a document."""
    page = spawned(job_id, name, depth)
    return PageFinished(
        job_id=page.page_id,
        parent_job_id=job_id,
        url=page.url,
        depth=depth,
        outcome=outcome,
        reason=reason,
        document_id=document_id(name) if outcome is Outcome.COMPLETED else None,
        spawned=tuple(spawned(job_id, one, depth + 1) for one in found),
        timestamp=NOON,
    )


def saved(job_id: UUID, name: str, *, title: str = "", at: datetime = NOON) -> DocumentSaved:
    """The document of a page is stored."""
    return DocumentSaved(
        job_id=spawned(job_id, name).page_id,
        parent_job_id=job_id,
        document_id=document_id(name),
        source_url=f"{SEED}{name}",
        title=title or f"Page {name}",
        content_hash="0" * 64,
        change=Change.CREATED,
        timestamp=at,
    )


def document_id(name: str) -> UUID:
    """The id of the document at a page's address."""
    return uuid5(NAMESPACE_URL, f"{SEED}{name}")


@dataclass
class MadeUpCrawl:
    """The events of one crawl in the order in which they were committed, and what must come of them."""

    job_id: UUID
    events: list[Message] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> int:
        """How many pages ended so."""
        return list(self.outcomes.values()).count(outcome)


def made_up_crawl(random: Random, job_id: UUID, pages: int) -> MadeUpCrawl:
    """A crawl of `pages` pages: some fail, some are skipped, at least one gives a document."""
    crawl = MadeUpCrawl(job_id)
    names = [str(number) for number in range(pages)]
    seeds = random.randint(1, min(3, pages))
    crawl.events.append(started(job_id, *names[:seeds]))
    queue, unseen = names[:seeds], names[seeds:]
    while queue:
        name = queue.pop(random.randrange(len(queue)))
        found, unseen = (unseen, []) if not queue else _some(random, unseen)
        outcome = random.choice([Outcome.COMPLETED] * 3 + [Outcome.FAILED, Outcome.SKIPPED])
        outcome = outcome if crawl.outcomes else Outcome.COMPLETED
        crawl.outcomes[name] = outcome
        queue += found
        crawl.events.append(claimed(job_id, name, *random.sample(queue, min(len(queue), random.randint(0, 2)))))
        if outcome is Outcome.COMPLETED:
            crawl.events.append(saved(job_id, name))
        crawl.events.append(finished(job_id, name, outcome, found=found, reason=None if found else "http_404"))
    return crawl


def _some(random: Random, names: list[str]) -> tuple[list[str], list[str]]:
    number = min(len(names), random.randint(0, 4))
    return names[:number], names[number:]


def disturbed(random: Random, events: Sequence[Message]) -> list[list[Message]]:
    """The events as a broker may deliver them: in any order, some more than once, in batches of any size."""
    stream = [*events, *random.sample(events, len(events) // 3)]
    random.shuffle(stream)
    batches: list[list[Message]] = []
    while stream:
        number = random.randint(1, 12)
        batches.append(stream[:number])
        stream = stream[number:]
    return batches
