"""The tracker against an oracle: random crawls, told by a broker at its worst to two trackers at once."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, permutations
from uuid import UUID

import asyncpg
import pytest
from crawling import check_every_state
from hypothesis import given
from job_tracker.rules import PAGE_STATES
from model.profiles import examples
from model.stories import Action, Ask, Story, Tell, crawls_of, stories
from model.tracker_oracle import Watched, documents_named, pages_named
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import JobCreate, JobState, JobStatus
from tallyho_contracts.pages import PageState
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.requests import RequestRefused
from tallyho_postgres.pool import Pool
from tracking import SEED, Tracker, all_states

pytestmark = pytest.mark.timeout(0)  # what fails is made smaller first; the database has time limits of its own

EMPTY = "DELETE FROM jobs; DELETE FROM pages; DELETE FROM job_documents; DELETE FROM outbox"


@dataclass(frozen=True)
class Seen:
    """One job as the tables have it."""

    row: asyncpg.Record | None
    pages: dict[UUID, PageState]
    documents: list[asyncpg.Record]

    @property
    def status(self) -> JobStatus | None:
        """None before its creation."""
        return JobStatus(self.row["status"]) if self.row and self.row["created_at"] else None

    @property
    def counters(self) -> dict[PageState, int]:
        """How many pages are in each state, as the job's row has it."""
        return {state: self.row[state] if self.row else 0 for state in PageState}

    @property
    def revision(self) -> int:
        """0 before anything was heard of it."""
        return self.row["revision"] if self.row else 0


@dataclass
class Told:
    """Two trackers and the oracle, told the same story. `possible` is how each job may stand by now."""

    trackers: list[Tracker]
    possible: list[list[Watched]]
    revisions: Counter[UUID]

    async def play(self, round_: tuple[Action, ...]) -> None:
        """Let a round happen, and check all that can be seen then."""
        refusals = await asyncio.gather(
            *(self._do(tracker, action) for tracker, action in zip(self.trackers, round_, strict=False))
        )
        self.trackers.reverse()
        for number, before in enumerate(self.possible):
            after = list(dict.fromkeys(job for one in before for job in outcomes(one, number, round_, refusals)))
            seen = await self.look(before[0].crawl.job_id)
            self.possible[number] = [job for job in after if job.status is seen.status]
            assert self.possible[number], f"job {number} is {seen.status}, not {[job.status for job in after]}"
            check_tables(seen, self.possible[number][0])
            self._check_revision(seen, before[0].crawl.job_id, is_news=after != before)

    async def _do(self, tracker: Tracker, action: Action) -> ErrorCode | None:
        """Apply a batch, or put a request; returns why it was refused."""
        if isinstance(action, Tell):
            await tracker.apply(*(self.possible[crawl][0].crawl.events[event] for crawl, event in action.events))
            return None
        try:
            await tracker.ask(request(action, self.possible[action.crawl][0]))
        except RequestRefused as refusal:
            return refusal.refused.code
        return None

    async def look(self, job_id: UUID) -> Seen:
        """The job as it is stored."""
        pool = self.trackers[0].pool
        return Seen(
            await pool.fetchrow("SELECT * FROM jobs WHERE job_id = $1", job_id),
            {
                row["page_id"]: PAGE_STATES[row["state"]]
                for row in await pool.fetch("SELECT page_id, state FROM pages WHERE parent_job_id = $1", job_id)
            },
            await pool.fetch("SELECT * FROM job_documents WHERE parent_job_id = $1 ORDER BY ordinal", job_id),
        )

    def states(self, job_id: UUID) -> list[JobState]:
        """What both trackers announced of a job, as who drops older states would read it."""
        return all_states(self.trackers, job_id)

    def _check_revision(self, seen: Seen, job_id: UUID, *, is_news: bool) -> None:
        """It rises with every change and with nothing else, and the newest state was announced under it."""
        states = self.states(job_id)
        before, self.revisions[job_id] = self.revisions[job_id], seen.revision
        assert seen.revision >= before
        assert is_news or seen.revision == before
        assert bool(states) == (seen.status is not None)
        if not states:
            return
        newest = states[-1]
        assert (newest.revision, newest.status) == (seen.revision, seen.status)
        assert newest.document_count == len(seen.documents)
        assert newest.total_children == len(seen.pages)
        assert all(one.revision < other.revision for one, other in pairwise(states))
        assert not any(state.status.is_terminal for state in states[:-1])


def outcomes(
    job: Watched, number: int, round_: tuple[Action, ...], refusals: list[ErrorCode | None]
) -> Iterator[Watched]:
    """The job after a round whose actions took effect in some order, and had these answers."""
    for order in permutations(zip(round_, refusals, strict=True)):
        after = job
        expected = []
        for action, refusal in order:
            if isinstance(action, Tell):
                after = after.tell(event for crawl, event in action.events if crawl == number)
            elif action.crawl == number:
                after, answer = after.ask(action.request)
                expected.append(answer is refusal)
        if all(expected):
            yield after


def request(ask: Ask, job: Watched) -> Message:
    """The request as the gateway sends it."""
    job_id, plan = job.crawl.job_id, job.crawl.plan
    if ask.request is not JobCreate:
        return ask.request.model_validate({"job_id": job_id})
    options = {"max_pages": plan.max_pages, "max_failures": plan.max_failures}
    return JobCreate.model_validate({"job_id": job_id, "seeds": (SEED,), "options": options})


def check_tables(seen: Seen, job: Watched) -> None:
    """Pages, documents and counters are those of the oracle, and agree with one another."""
    count = seen.row["document_count"] if seen.row else 0
    named = Counter(pages_named(job.events).values())
    assert seen.pages == pages_named(job.events)
    assert seen.counters == {state: named[state] for state in PageState}
    assert {document["document_id"] for document in seen.documents} == documents_named(job.events)
    assert [document["ordinal"] for document in seen.documents] == list(range(1, count + 1))


async def check_end(told: Told, number: int) -> None:
    """All was told: the job stands as the crawl went, and the crawler was given each command once."""
    jobs = told.possible[number]
    crawl = jobs[0].crawl
    seen, states = await told.look(crawl.job_id), told.states(crawl.job_id)
    commands = sorted((await told.trackers[0].commands(crawl.job_id)), key=lambda event: event.data.revision)
    check_every_state(states)
    assert seen.pages == crawl.pages
    assert {document["document_id"]: document["title"] for document in seen.documents} == crawl.titles
    assert all(document["content_hash"] for document in seen.documents)
    assert seen.row is not None
    assert (seen.row["document_count"], seen.row["finished_at"]) == (len(crawl.documents), states[-1].finished_at)
    assert tuple(type(event.data) for event in commands) in [job.commands for job in jobs]
    assert len({event.data.revision for event in commands}) == len(commands)
    assert bool(states[-1].error) == (seen.status is JobStatus.FAILED)


@examples(80)
@given(story=stories())
async def test_jobs_end_as_their_crawls_went_however_they_are_told(pools: tuple[Pool, Pool], story: Story) -> None:
    await pools[0].execute(EMPTY)
    possible = [[Watched(crawl)] for crawl in crawls_of(story.plans)]
    told = Told([Tracker(pool) for pool in pools], possible, Counter())

    for round_ in story.rounds:
        await told.play(round_)

    for number in range(len(possible)):
        await check_end(told, number)
