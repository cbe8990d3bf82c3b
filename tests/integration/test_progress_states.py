"""Which states of a job reach the gateways, and when."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from time import monotonic
from uuid import UUID, uuid4

import pytest
from job_tracker import progress as progress_module
from job_tracker import store
from job_tracker.commands import SOURCE
from job_tracker.progress import Progress
from job_tracker.rules import Job
from tallyho_contracts.jobs import JobPause, JobState, JobStatus
from tallyho_messaging.announcing import announce
from tallyho_messaging.connection import Amqp
from tallyho_messaging.publisher import PublishFailedError
from tallyho_messaging.subscription import subscribe
from tallyho_messaging.wire import AnyEvent
from tallyho_postgres.pool import Connection, Pool
from tracking import Tracker, finished, saved, started


class Gateways:
    """Keeps what is published. While `away`, nothing can be; a publish under way waits for `reading`."""

    def __init__(self) -> None:
        self.states: list[JobState] = []
        self.times: list[float] = []
        self.attempts = 0
        self.away = False
        self.reading = asyncio.Event()
        self.reading.set()
        self._changed = asyncio.Condition()

    async def publish(self, states: Sequence[JobState]) -> None:
        async with self._changed:
            self.attempts += 1
            self._changed.notify_all()
        await self.reading.wait()
        if self.away:
            raise PublishFailedError("the broker is away")
        async with self._changed:
            self.states.extend(states)
            self.times.extend(monotonic() for _ in states)
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(condition)

    def seen(self) -> list[tuple[UUID, int]]:
        return [(state.job_id, state.revision) for state in self.states]


@pytest.fixture
def tracker(tracker_pool: Pool) -> Tracker:
    return Tracker(tracker_pool)


@pytest.fixture
def gateways() -> Gateways:
    return Gateways()


@asynccontextmanager
async def running(progress: Progress) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(progress.run(stop))
    yield
    stop.set()
    async with asyncio.timeout(10):
        await task


async def row(tracker: Tracker, job_id: UUID) -> Job:
    async with tracker.pool.acquire() as connection:
        job = await store.get_job(connection, job_id)
    assert job
    return job


async def revisions(tracker: Tracker, job_id: UUID, number: int) -> list[Job]:
    """The job as it was and as it becomes, document by document."""
    jobs = [await row(tracker, job_id)]
    for name in range(number):
        await tracker.apply(saved(job_id, str(name)))
        jobs.append(await row(tracker, job_id))
    return jobs


async def ended(tracker: Tracker) -> UUID:
    job_id = await tracker.create()
    await tracker.apply(started(job_id, "a"), finished(job_id, "a"))
    return job_id


async def is_announced(tracker: Tracker, job_id: UUID) -> bool:
    announced: bool = await tracker.pool.fetchval("SELECT announced FROM jobs WHERE job_id = $1", job_id)
    return announced


async def marked(tracker: Tracker, job_id: UUID) -> None:
    async with asyncio.timeout(10):
        while not await is_announced(tracker, job_id):
            await asyncio.sleep(0.01)  # a table can't be awaited


async def test_newest_state_replaces_those_that_wait(tracker: Tracker, gateways: Gateways) -> None:
    job_id = await tracker.create()
    progress = Progress(tracker.pool, gateways.publish)
    gateways.reading.clear()
    async with running(progress):
        await gateways.until(lambda: gateways.attempts == 1)
        for job in await revisions(tracker, job_id, 5):
            progress.announce([job])
        gateways.reading.set()
        await gateways.until(lambda: len(gateways.states) == 2)

    assert gateways.seen() == [(job_id, 1), (job_id, 6)]


async def test_older_state_does_not_replace_a_newer_one_that_waits(tracker: Tracker, gateways: Gateways) -> None:
    job_id = await tracker.create()
    progress = Progress(tracker.pool, gateways.publish)
    gateways.reading.clear()
    async with running(progress):
        await gateways.until(lambda: gateways.attempts == 1)
        _, older, newer = await revisions(tracker, job_id, 2)
        progress.announce([newer])
        progress.announce([older])
        gateways.reading.set()
        await gateways.until(lambda: len(gateways.states) == 2)

    assert gateways.seen() == [(job_id, 1), (job_id, 3)]


async def test_states_of_a_busy_job_keep_their_distance_and_the_last_one_arrives(
    tracker: Tracker, gateways: Gateways
) -> None:
    job_id = await tracker.create()
    jobs = await revisions(tracker, job_id, 40)
    progress = Progress(tracker.pool, gateways.publish)
    async with running(progress):
        await gateways.until(lambda: len(gateways.states) > 0)  # it has begun
        for job in jobs:
            progress.announce([job])
            await asyncio.sleep(progress_module.INTERVAL_SECONDS / 10)  # the rate at which it is busy
        await gateways.until(lambda: gateways.states[-1].revision == jobs[-1].revision)

    distances = [after - before for before, after in pairwise(gateways.times)]
    assert min(distances) > 0.9 * progress_module.INTERVAL_SECONDS
    assert len(gateways.states) >= 3


async def test_jobs_do_not_wait_for_each_other(
    tracker: Tracker, gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "INTERVAL_SECONDS", 60.0)
    job_id = await tracker.create()
    progress = Progress(tracker.pool, gateways.publish)
    async with running(progress):
        await gateways.until(lambda: len(gateways.states) == 1)
        other = await tracker.create()
        progress.announce([await row(tracker, other)])
        await gateways.until(lambda: len(gateways.states) == 2)

    assert gateways.seen() == [(job_id, 1), (other, 1)]


async def test_terminal_state_is_published_at_once_and_remembered(
    tracker: Tracker, gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "INTERVAL_SECONDS", 60.0)
    job_id = await tracker.create()
    progress = Progress(tracker.pool, gateways.publish)
    async with running(progress):
        await gateways.until(lambda: len(gateways.states) == 1)
        await tracker.apply(started(job_id, "a"))
        progress.announce([await row(tracker, job_id)])
        await tracker.apply(finished(job_id, "a"))
        progress.announce([await row(tracker, job_id)])
        await gateways.until(lambda: len(gateways.states) == 2)
        await marked(tracker, job_id)

    assert [state.status for state in gateways.states] == [JobStatus.PENDING, JobStatus.COMPLETED]


async def test_state_that_could_not_be_published_is_published_again(
    tracker: Tracker, gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "RETRY_SECONDS", 0.05)
    job_id = await ended(tracker)
    gateways.away = True
    async with running(Progress(tracker.pool, gateways.publish)):
        await gateways.until(lambda: gateways.attempts >= 3)
        remembered = await is_announced(tracker, job_id)
        gateways.away = False
        await gateways.until(lambda: len(gateways.states) == 1)
        await marked(tracker, job_id)

    assert not remembered
    assert gateways.states[0].status is JobStatus.COMPLETED


async def test_newer_state_takes_the_place_of_one_that_could_not_be_published(
    tracker: Tracker, gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "RETRY_SECONDS", 0.05)
    job_id = await tracker.create()
    gateways.away = True
    gateways.reading.clear()
    progress = Progress(tracker.pool, gateways.publish)
    async with running(progress):
        await gateways.until(lambda: gateways.attempts == 1)
        await tracker.apply(saved(job_id, "a"))
        progress.announce([await row(tracker, job_id)])
        gateways.reading.set()
        await gateways.until(lambda: gateways.attempts >= 2)
        gateways.away = False
        await gateways.until(lambda: len(gateways.states) == 1)

    assert gateways.seen() == [(job_id, 2)]


async def test_start_publishes_every_live_job_and_no_other(tracker: Tracker, gateways: Gateways) -> None:
    running_job, paused, over = await tracker.create(), await tracker.create(), await ended(tracker)
    await tracker.ask(JobPause(job_id=paused))
    await tracker.pool.execute("UPDATE jobs SET announced = true WHERE job_id = $1", over)
    await tracker.apply(saved(uuid4(), "of a job that was not created yet"))
    async with running(Progress(tracker.pool, gateways.publish)):
        await gateways.until(lambda: len(gateways.states) >= 2)

    assert set(gateways.seen()) == {(running_job, 1), (paused, 2)}


async def test_live_jobs_are_published_when_the_database_that_was_away_at_the_start_is_back(
    tracker: Tracker, gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await tracker.create()
    answers = iter([ConnectionRefusedError(), ConnectionRefusedError()])

    async def live_jobs(connection: Connection) -> list[Job]:
        if error := next(answers, None):
            raise error
        return await store_live_jobs(connection)

    store_live_jobs = store.live_jobs
    monkeypatch.setattr(store, "live_jobs", live_jobs)
    monkeypatch.setattr(progress_module, "SWEEP_SECONDS", 0.05)
    async with running(Progress(tracker.pool, gateways.publish)):
        await gateways.until(lambda: len(gateways.states) == 1)

    assert gateways.seen() == [(job_id, 1)]


async def test_end_that_a_dead_process_did_not_announce_is_announced_once_by_the_next(
    tracker: Tracker, gateways: Gateways
) -> None:
    job_id = await ended(tracker)
    async with running(Progress(tracker.pool, gateways.publish)):
        await gateways.until(lambda: len(gateways.states) == 1)
        await marked(tracker, job_id)
    live = await tracker.create()
    async with running(Progress(tracker.pool, gateways.publish)):
        await gateways.until(lambda: len(gateways.states) == 2)

    assert gateways.seen() == [(job_id, 2), (live, 1)]


async def test_end_that_another_replica_left_is_announced_by_one_that_runs(
    tracker: Tracker, gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "SWEEP_SECONDS", 0.05)
    async with running(Progress(tracker.pool, gateways.publish)):
        job_id = await ended(tracker)
        await gateways.until(lambda: len(gateways.states) > 0 and gateways.states[-1].status.is_terminal)
        await marked(tracker, job_id)

    assert gateways.states[-1].job_id == job_id


async def test_stopping_publishes_what_still_waits(
    tracker: Tracker, gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "INTERVAL_SECONDS", 60.0)
    job_id = await tracker.create()
    progress = Progress(tracker.pool, gateways.publish)
    async with running(progress):
        await gateways.until(lambda: len(gateways.states) == 1)
        await tracker.apply(saved(job_id, "a"))
        progress.announce([await row(tracker, job_id)])

    assert gateways.seen() == [(job_id, 1), (job_id, 2)]


async def test_published_state_reaches_who_listens_to_its_job_and_needs_no_listener(
    tracker: Tracker, amqp: Amqp
) -> None:
    job_id, other = await tracker.create(), await tracker.create()
    publish = partial(announce, amqp.publisher, SOURCE)
    await publish([await tracker.job(other)])
    heard: asyncio.Queue[AnyEvent] = asyncio.Queue()
    async with (
        subscribe(
            amqp,
            queue=f"test.{uuid4()}",
            binding_keys=[f"job.progress.v1.{job_id}"],
            on_event=heard.put_nowait,
            on_gap=lambda: None,
        ),
        running(Progress(tracker.pool, publish)),
        asyncio.timeout(10),
    ):
        # A message may bring the states of other jobs too.
        while (event := await heard.get()).subject != job_id:
            pass

    state = JobState(**(await tracker.job(job_id)).model_dump())
    assert (event.type, event.subject, event.data) == ("job.progress.v1", job_id, state)
