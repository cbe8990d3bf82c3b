"""The frontier against its rules: two workers that lose their leases, and commands at any moment, on random webs."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from crawler import store
from crawler.commands import on_commands
from crawler.deps import Deps
from crawler.frontier import Lane, QueuedPage, Visit
from crawler.handlers import Work, claim, on_work
from frontier_checks import Ledgers, pass_time
from hypothesis import given
from made_up_web import Web, crawler_deps, depths, start, visit_to
from model.frontier_steps import (
    WORKERS,
    Claim,
    Command,
    Die,
    Finish,
    Leases,
    LoseLease,
    PassTime,
    Start,
    Step,
    Story,
    stories,
)
from model.profiles import examples
from tallyho_contracts.crawls import CrawlCancel, CrawlPause, CrawlResume
from tallyho_messaging.wire import event_of
from tallyho_postgres.pool import Pool

pytestmark = pytest.mark.timeout(0)  # what fails is made smaller first; the database has time limits of its own

TABLES = (
    "jobs",
    "seen",
    "queue",
    "waiting",
    "origins",
    "slots",
    "workers",
    "lanes",
    "documents",
    "job_documents",
    "failed_pages",
    "paces",
    "outbox",
)
EMPTY = "; ".join(f"DELETE FROM {table}" for table in TABLES)
RETRY_SECONDS = 5.0
# More than twelve pages in a row need, each with two retries.
MOST_ROUNDS = 50
# Longer than any example: a lease ends when a step says so.
LEASE = timedelta(hours=1)


@dataclass
class Worker:
    """A crawler process and the pages of the lanes that it has claimed."""

    deps: Deps
    web: Web
    worker_id: UUID = field(default_factory=uuid4)
    held: list[tuple[Lane, list[QueuedPage]]] = field(default_factory=list)

    async def claim(self, step: Claim) -> list[Lane]:
        """Claim lanes, as one that lives."""
        async with self.deps.pool.acquire() as connection:
            await store.register_worker(connection, self.worker_id, LEASE)
        claimed = await claim(
            self.deps,
            self.worker_id,
            lanes=step.lanes,
            lanes_per_origin=step.lanes_per_origin,
            pages_per_lane=step.pages_per_lane,
        )
        self.held += claimed
        return [lane for lane, _ in claimed]

    def finish(self, step: Finish) -> Work:
        """What came of the first pages of a lane that is held."""
        work = Work()
        if self.held:
            lane, pages = self.held[step.lane % len(self.held)]
            for page in pages[: step.pages]:
                done = visit_to(page, self.web, retry_delay=RETRY_SECONDS)
                if isinstance(done, Visit):
                    work.visits.append(done)
                else:
                    work.postponed.append(done)
            del pages[: step.pages]
            if step.give_back or not pages:
                work.served.append(lane)
                self.held = [held for held in self.held if held[0] is not lane]
        return work


@dataclass
class Job:
    """A crawl as its commands have it."""

    job_id: UUID
    status: str | None = None
    revision: int = 1
    is_started: bool = False

    def obey(self, command: Command, revision: int) -> None:
        """The newest command holds; a cancel holds for ever, however old it is."""
        wanted = {CrawlPause: "paused", CrawlResume: "running", CrawlCancel: "cancelled"}[command.type]
        is_newer = self.status is None or self.revision < revision
        if self.status != "cancelled" and (is_newer or wanted == "cancelled"):
            self.status, self.revision = wanted, revision


@dataclass
class Frontier:
    """The real frontier, its workers, and what is known of both without looking."""

    pool: Pool
    story: Story
    ledgers: Ledgers
    workers: list[Worker]
    jobs: list[Job]
    leases: Leases = field(default_factory=Leases)
    attempts: Counter[tuple[UUID, UUID]] = field(default_factory=Counter)

    async def do(self, step: Step) -> None:
        """Let a step happen, and see that the frontier is sound and told of exactly what happened."""
        match step:
            case Start(crawl=number):
                await self._start(number)
            case Command():
                await self._command(step)
            case Claim(workers=numbers):
                self.leases.living.update(self.workers[number].worker_id for number in numbers)
                claims = await asyncio.gather(*(self.workers[number].claim(step) for number in numbers))
                for number, lanes in zip(numbers, claims, strict=True):
                    self.leases.claimed(self.workers[number].worker_id, lanes)
            case Finish():
                await self._finish(step)
            case LoseLease(worker=number):
                await self._lose_lease(number)
            case Die(worker=number):
                await self._lose_lease(number)
                self.workers[number] = Worker(crawler_deps(self.pool), self.story.web)
            case PassTime():
                await pass_time(self.pool, RETRY_SECONDS)
        await self.ledgers.check()
        await self._check_rows()

    async def _check_rows(self) -> None:
        """Statuses, leases and attempts are those of the oracle."""
        statuses = {row["job_id"]: row["status"] for row in await self.pool.fetch("SELECT job_id, status FROM jobs")}
        slots = await self.pool.fetch("SELECT (origin, slot) AS slot, owner, epoch FROM slots")
        queue = await self.pool.fetch("SELECT job_id, page_id, attempts FROM queue")
        assert statuses == {job.job_id: job.status for job in self.jobs if job.status}
        assert {row["slot"]: row["owner"] for row in slots if row["owner"]} == self.leases.owners
        assert {row["slot"]: row["epoch"] for row in slots if row["epoch"]} == self.leases.epochs
        for row in queue:
            assert row["attempts"] == self.attempts[row["job_id"], row["page_id"]]

    async def _start(self, number: int) -> None:
        job, rules = self.jobs[number], self.story.crawls[number]
        limits = {"max_pages": rules.max_pages, "max_depth": rules.max_depth}
        await start(self.workers[number].deps, *rules.seeds, job_id=job.job_id, revision=1, **limits)
        job.status = job.status or "running"
        job.is_started = True
        self._note_running()

    async def _command(self, step: Command) -> None:
        job = self.jobs[step.crawl]
        revision = max(1, job.revision + step.newer)
        command = step.type(job_id=job.job_id, revision=revision)
        await on_commands(self.workers[0].deps, [event_of(command, source="job-tracker", subject=job.job_id)])
        job.obey(step, revision)
        self._note_running()

    def _note_running(self) -> None:
        self.leases.running = {job.job_id for job in self.jobs if job.is_started and job.status == "running"}

    async def _finish(self, step: Finish) -> None:
        """Of the visits, exactly those count whose worker's claim of the slot is the last, to pages still open."""
        done = [self.workers[number].finish(step) for number in step.workers]
        before = {job_id: ledger.closed for job_id, ledger in self.ledgers.of.items()}
        expected = {job_id: set(closed) for job_id, closed in before.items()}
        for visit in (visit for work in done for visit in work.visits):
            if self.leases.may_close(visit.page.lane):
                expected[visit.page.lane.job_id].add(visit.page.page_id)
        for page in (postponed.page for work in done for postponed in work.postponed):
            self.attempts[page.lane.job_id, page.page_id] += self.leases.may_close(page.lane)
        await asyncio.gather(
            *(on_work(self.workers[number].deps, work) for number, work in zip(step.workers, done, strict=True))
        )
        await self.ledgers.read()
        assert {job_id: ledger.closed for job_id, ledger in self.ledgers.of.items()} == expected
        for lane in (lane for work in done for lane in work.served):
            self.leases.given_back(lane)

    async def _lose_lease(self, number: int) -> None:
        self.leases.living.discard(self.workers[number].worker_id)
        ended = "UPDATE workers SET alive_until = now() - interval '1 second' WHERE worker_id = $1"
        await self.pool.execute(ended, self.workers[number].worker_id)

    async def recover(self) -> None:
        """Start and resume all. A new worker claims what is left; then come the late work of the others and its own."""
        for number in range(len(self.jobs)):
            await self.do(Start(number))
            await self.do(Command(number, CrawlResume, 1))
        for number in range(WORKERS):
            await self.do(LoseLease(number))
        self.workers.append(Worker(crawler_deps(self.pool), self.story.web))
        for _ in range(MOST_ROUNDS):
            await self.do(Claim((WORKERS,), 16, 8, 8))
            for number, worker in enumerate(self.workers):
                while worker.held:
                    await self.do(Finish((number,), 0, 8, give_back=True))
            if not any(ledger.open for ledger in self.ledgers.of.values()):
                break
            await self.do(PassTime())


def check_end(frontier: Frontier, number: int) -> None:
    """Each page that joined is closed, once; the documents are those within reach, each told of once."""
    web, rules, job = frontier.story.web, frontier.story.crawls[number], frontier.jobs[number]
    ledger = frontier.ledgers.of[job.job_id]
    found = depths(web, rules.seeds, rules.max_depth)
    assert ledger.starts == 1
    assert ledger.closed == set(ledger.known)
    assert ledger.closed <= set(ledger.announced) | ledger.cancelled
    if job.status == "cancelled":
        assert {page.url for page in ledger.known.values()} <= set(found)
        return
    assert not ledger.cancelled
    assert rules.allow(web, ledger.saved)
    if rules.max_pages is None:
        assert {page.url for page in ledger.finished.values()} == set(found)
    if rules.max_pages is None and rules.max_depth is not None:
        # Without a limit it does not matter how deep a page was found, and is not always the least.
        assert {page.url: page.depth for page in ledger.finished.values()} == found


@examples(40)
@given(story=stories())
async def test_every_page_is_closed_once_by_who_may_whoever_dies(crawler_pool: Pool, story: Story) -> None:
    await crawler_pool.execute(EMPTY)
    workers = [Worker(crawler_deps(crawler_pool), story.web) for _ in range(WORKERS)]
    jobs = [Job(UUID(int=number)) for number in range(1, len(story.crawls) + 1)]
    frontier = Frontier(crawler_pool, story, Ledgers(crawler_pool), workers, jobs)

    for step in story.steps:
        await frontier.do(step)
    await frontier.recover()

    for number in range(len(jobs)):
        check_end(frontier, number)
