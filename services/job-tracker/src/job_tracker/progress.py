"""Progress to the gateways: of each job the newest state only, at most every 20 ms, a terminal state at once.

What could not be published stays until it can. A process that dies takes unpublished states with it: so a start
publishes every live job, and terminal states are marked once the broker has them, and published again until they are.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import monotonic
from typing import TypeVar
from uuid import UUID

from tallyho_contracts.jobs import JobState
from tallyho_messaging.publisher import PublishFailedError
from tallyho_postgres.errors import is_transient
from tallyho_postgres.pool import Connection, Pool
from tallyho_process.waiting import first_of

from job_tracker import metrics, store
from job_tracker.rules import Job, job_state

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.02
# A round of publishing is followed by a rest of so many times its length: counting comes first.
REST = 3.0
STATES_AT_ONCE = 100
RETRY_SECONDS = 1.0
SWEEP_SECONDS = 5.0

Publish = Callable[[Sequence[JobState]], Awaitable[None]]
T = TypeVar("T")


class Progress:
    """The newest state of each job that is still to be published."""

    def __init__(self, pool: Pool, publish: Publish) -> None:
        self._pool = pool
        self._publish = publish
        self._newest: dict[UUID, Job] = {}
        self._not_before: dict[UUID, float] = {}
        self._resting_until = 0.0
        self._wake = asyncio.Event()

    def announce(self, jobs: Iterable[Job]) -> None:
        """Publish the state of `jobs` soon; an older state of the same job that waits is dropped."""
        for job in jobs:
            waiting = self._newest.get(job.job_id)
            if job.created_at is not None and (waiting is None or waiting.revision < job.revision):
                self._newest[job.job_id] = job
                if job.status.is_terminal:
                    self._not_before.pop(job.job_id, None)
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set, then what is left once more."""
        live: list[Job] | None = None
        next_sweep = monotonic()
        while not stop.is_set():
            if monotonic() >= next_sweep:
                if live is None and (live := await self._database(store.live_jobs)):
                    self.announce(live)
                self.announce(await self._database(store.unannounced_jobs) or [])
                next_sweep = monotonic() + SWEEP_SECONDS
            await self._publish_due(monotonic())
            await first_of(self._wake, stop, seconds=self._next_due(next_sweep) - monotonic())
            self._wake.clear()
        await self._publish_due(float("inf"))

    async def _database(self, step: Callable[[Connection], Awaitable[T]]) -> T | None:
        """The result of `step`; None when the database is away, which the next sweep mends."""
        try:
            async with self._pool.acquire() as connection:
                return await step(connection)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("progress waits for the database error=%s", error)
            return None

    def _next_due(self, next_sweep: float) -> float:
        return min([next_sweep, *(self._due(job) for job in self._newest.values())])

    def _due(self, job: Job) -> float:
        not_before = self._not_before.get(job.job_id, 0.0)
        return not_before if job.status.is_terminal else max(not_before, self._resting_until)

    async def _publish_due(self, now: float) -> None:
        due = [job for job in self._newest.values() if self._due(job) <= now]
        for job in due:
            del self._newest[job.job_id]
        started = monotonic()
        messages = [due[start : start + STATES_AT_ONCE] for start in range(0, len(due), STATES_AT_ONCE)]
        results = await asyncio.gather(
            *(self._publish(list(map(job_state, jobs))) for jobs in messages), return_exceptions=True
        )
        self._resting_until = monotonic() + REST * (monotonic() - started)
        self._not_before = {job_id: due for job_id, due in self._not_before.items() if due > now}
        published: list[Job] = []
        for jobs, result in zip(messages, results, strict=True):
            if isinstance(result, PublishFailedError):
                log.warning("progress of %d jobs not published, later again error=%s", len(jobs), result)
                for job in jobs:
                    self._newest.setdefault(job.job_id, job)
                self._not_before |= dict.fromkeys((job.job_id for job in jobs), monotonic() + RETRY_SECONDS)
            elif result is not None:
                raise result
            else:
                published += jobs
                metrics.STATES.inc(len(jobs))
                self._not_before |= dict.fromkeys((job.job_id for job in jobs), monotonic() + INTERVAL_SECONDS)
        if terminal := [job.job_id for job in published if job.status.is_terminal]:
            await self._database(lambda connection: store.mark_announced(connection, terminal))
