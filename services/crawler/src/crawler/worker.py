"""The crawler's loops: claim lanes, visit their pages, and commit what came of it in groups.

Grouping is what makes the database nearly free: a lane's pages are committed together with whatever else is ready.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import ceil
from time import monotonic, time_ns
from uuid import UUID, uuid4

from opentelemetry.trace import use_span
from tallyho_contracts.pages import Outcome
from tallyho_postgres.errors import is_transient
from tallyho_process.traces import is_on, traceparent_of, tracer
from tallyho_process.waiting import first_of

from crawler import jobs, metrics, store
from crawler.commands import close_some
from crawler.deps import Deps
from crawler.frontier import Lane, Postponed, QueuedPage, Visit
from crawler.handlers import Work, claim, on_work
from crawler.listing import add_listed
from crawler.urls import redacted
from crawler.visit import FetchingBrokenError, Visitor

log = logging.getLogger(__name__)

PAGES_PER_LANE = 32
# A slot is given back after this long, for the sake of other jobs and replicas.
TENURE_SECONDS = 2.0
GROUP_SECONDS = 0.25
# Lanes end at different moments: one commit for some of them is cheaper than one for each, and so is all that follows.
GATHER_SECONDS = 0.06
IDLE_SECONDS = 0.5
RETRY_SECONDS = 1.0
# While so many visits wait to be committed, the database does not keep up, and no more are begun.
MOST_WAITING = 1_000
DRAIN_SECONDS = 8.0
LEAVE_SECONDS = 2.0
# Within a second after a job is paused or cancelled, no fetch of it begins.
LOOK_SECONDS = 0.25
CLOSE_SECONDS = 1.0


@dataclass
class Worker:
    """One crawler process at work, known to the others by `worker_id` while its lease lasts."""

    deps: Deps
    visitor: Visitor
    worker_id: UUID
    concurrency: int
    lease_seconds: float
    stop: asyncio.Event
    _is_traced: bool = field(default_factory=is_on)
    _others: int = 0
    _registered: UUID | None = None
    _broken: FetchingBrokenError | None = None
    _lanes: set[asyncio.Task[None]] = field(default_factory=set)
    _serving: Counter[UUID] = field(default_factory=Counter)
    _work: Work = field(default_factory=Work)
    # Work is to be committed soon; at once, since no more of it comes, or there is enough.
    _soon: asyncio.Event = field(default_factory=asyncio.Event)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _drained: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Work until `stop` is set; then finish the pages under way, within a bound, and leave the rest to others."""
        metrics.LANES.set_function(lambda: len(self._lanes))
        async with asyncio.TaskGroup() as loops:
            beating = loops.create_task(self._keep_alive())
            loops.create_task(self._commit_groups())
            watching = [loops.create_task(self._watch_halts()), loops.create_task(self._close_pages())]
            await self._claim_lanes()
            if self._lanes:
                await asyncio.wait(self._lanes, timeout=DRAIN_SECONDS)
            for lane in self._lanes:
                lane.cancel()
            await asyncio.gather(*self._lanes, return_exceptions=True)
            self._drained.set()
            for loop in (beating, *watching):
                loop.cancel()
        await self._leave()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self.lease_seconds / 3)
            try:
                await self._beat()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("the lease can't be prolonged now error=%s", error)

    async def _beat(self) -> None:
        worker_id = self.worker_id
        async with self.deps.pool.acquire() as connection:
            lease = timedelta(seconds=self.lease_seconds)
            self._others = await store.register_worker(connection, worker_id, lease, self.deps.render)
        self._registered = worker_id

    async def _leave(self) -> None:
        """Let others have at once what is left; where the database is away, they have it when the lease ends."""
        try:
            async with asyncio.timeout(LEAVE_SECONDS), self.deps.pool.acquire() as connection:
                await store.remove_worker(connection, self.worker_id)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("the lease ends by itself error=%s", error)

    async def _watch_halts(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with self.deps.pool.acquire() as connection:
                    self.visitor.halts.replace(await jobs.list_halted(connection, self._serving.keys()))
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("it can't be known now which jobs are halted error=%s", error)

    async def _close_pages(self) -> None:
        """Close the pages of jobs that are cancelled or have spent their budget: of each some, in turn."""
        while True:
            await first_of(self.deps.closing, self.stop, seconds=CLOSE_SECONDS)
            self.deps.closing.clear()
            try:
                async with self.deps.pool.acquire() as connection:
                    closing = await jobs.list_closing(connection)
                while closing:
                    closing = [job_id for job_id in closing if await close_some(self.deps, job_id)]
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("pages wait to be closed error=%s", error)

    async def _claim_lanes(self) -> None:
        while not self.stop.is_set():
            self.deps.due.clear()
            if self._broken:
                raise self._broken
            claimed: list[tuple[Lane, list[QueuedPage]]] = []
            pause = IDLE_SECONDS
            try:
                if self._registered != self.worker_id:
                    await self._beat()
                free = self.concurrency - len(self._lanes)
                if free and len(self._work.visits) < MOST_WAITING:
                    claimed = await claim(
                        self.deps,
                        self.worker_id,
                        lanes=free,
                        lanes_per_origin=ceil(self.deps.host_concurrency / (self._others + 1)),
                        pages_per_lane=PAGES_PER_LANE,
                    )
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("no pages can be claimed now error=%s", error)
                # The claim may be committed and only its answer lost: nobody knows of those slots. Under a new name
                # this worker goes on, and what the old name holds falls to all when its lease ends.
                self.worker_id = uuid4()
                pause = RETRY_SECONDS
            for lane, pages in claimed:
                task = asyncio.create_task(self._serve(lane, pages))
                self._lanes.add(task)
                task.add_done_callback(self._served)
            if not claimed:
                await first_of(self.deps.due, self.stop, seconds=pause)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._lanes.discard(task)
        if task.cancelled() or not (error := task.exception()):
            return
        if isinstance(error, FetchingBrokenError):
            self._broken = error
            self.deps.due.set()
        else:
            # A visit names every failure it knows; this one is a fault of ours.
            log.error("a lane was left because of a fault", exc_info=error)

    async def _serve(self, lane: Lane, pages: Sequence[QueuedPage]) -> None:
        until, claimed_ns = monotonic() + TENURE_SECONDS, time_ns()
        self._serving[lane.job_id] += 1
        try:
            for page in pages:
                if self.stop.is_set() or monotonic() > until or lane.job_id in self.visitor.halts:
                    break
                done = await self._traced_visit(page, claimed_ns)
                if done is None:
                    break
                self._note(done)
        finally:
            self._serving[lane.job_id] -= 1
            self._serving = +self._serving  # without those of which none is left
            self._work.served.append(lane)
            (self._soon if self._serving else self._ready).set()

    async def _traced_visit(self, page: QueuedPage, claimed_ns: int) -> Visit | Postponed | None:
        """Visit a page, as the first step of a trace that may be kept: it begins when the page was claimed."""
        if not self._is_traced:
            return await self._visit(page)
        attributes = {"job": str(page.lane.job_id), "page": str(page.page_id), "url": redacted(page.url)}
        span = tracer.start_span("crawl page", attributes=attributes, start_time=claimed_ns)
        with use_span(span, end_on_exit=True), tracer.start_as_current_span("visit page"):
            done = await self._visit(page)
        traceparent = traceparent_of(span)
        return replace(done, traceparent=traceparent) if traceparent and isinstance(done, Visit) else done

    async def _visit(self, page: QueuedPage) -> Visit | Postponed | None:
        try:
            with metrics.VISIT_SECONDS.time():
                done = await self.visitor.visit(page)
            return await add_listed(self.deps, done) if isinstance(done, Visit) and done.listed else done
        except FetchingBrokenError:
            raise
        except Exception as error:
            if is_transient(error):
                log.warning("a page is left for later job=%s page=%s error=%s", page.lane.job_id, page.page_id, error)
                return None
            log.exception("a page could not be visited job=%s page=%s", page.lane.job_id, page.page_id)
            return Visit(page, Outcome.FAILED, "internal_error")

    def _note(self, done: Visit | Postponed) -> None:
        if isinstance(done, Visit):
            self._work.add(done)
        else:
            self._work.postponed.append(done)
            metrics.POSTPONED.inc()
        if self._work.is_full:
            self._ready.set()

    async def _commit_groups(self) -> None:
        """Commit what is done: when a group is full or all lanes are served, soon after one is, or after 310 ms."""
        drained = False
        while not drained:
            await first_of(self._soon, self._ready, self._drained, seconds=GROUP_SECONDS)
            if self._serving:
                await first_of(self._ready, self._drained, seconds=GATHER_SECONDS)
            drained = self._drained.is_set()
            self._soon.clear()
            self._ready.clear()
            work, self._work = self._work, Work()
            if work.job_ids:
                await self._commit_each(work.parts())
                self.deps.due.set()

    async def _commit_each(self, parts: Iterable[Work]) -> bool:
        """Commit work in its order; False when some of it is left to others."""
        for part in parts:
            if not await self._commit(part):
                return False
        return True

    async def _commit(self, work: Work) -> bool:
        while True:
            try:
                with metrics.COMMIT_SECONDS.time():
                    await on_work(self.deps, work)
            except Exception as error:
                metrics.COMMIT_ERRORS.labels("transient" if is_transient(error) else "fault").inc()
                is_too_much = isinstance(error, TimeoutError) and not self._drained.is_set()
                if len(work.visits) > 1 and (is_too_much or not is_transient(error)):
                    return await self._commit_each(_halves(work))
                if is_transient(error):
                    log.warning("%d pages wait to be saved error=%r", len(work.visits), error)
                elif work.visits and work.visits[0].reason != "internal_error":
                    page = work.visits[0].page
                    log.exception("a page can't be saved job=%s page=%s", page.lane.job_id, page.page_id)
                    work.visits = [Visit(page, Outcome.FAILED, "internal_error")]
                    continue
                else:
                    raise
            else:
                return True
            await first_of(self._drained, seconds=RETRY_SECONDS)
            if self._drained.is_set():
                log.warning("%d pages are left to others", len(work.visits))
                return False


def _halves(work: Work) -> list[Work]:
    """Divide work in which one page can't be saved, or that can't be saved in time."""
    middle = len(work.visits) // 2
    return [Work(work.visits[:middle]), Work(work.visits[middle:], work.postponed, work.served)]
