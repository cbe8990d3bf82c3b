"""How fast a backlog is applied, and what that costs: each contestant in turn, round after round."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median
from uuid import UUID, uuid4

from tallyho.services import Service
from tallyho_postgres.outbox import BATCH_EVENTS, OutboxEvent

from benchmarks.cpu import cpu_seconds, sampled_memory
from benchmarks.events import documents_saved, publish
from benchmarks.stage import Stage

POLL_SECONDS = 0.01
GIVE_UP_SECONDS = 300.0

TRACKER_COUNTS = "SELECT job_id, document_count FROM jobs"
OLD_COUNTS = "SELECT job_id, (job->>'document_count')::bigint AS document_count FROM old_way.jobs"
FASTSTREAM_COUNTS = "SELECT job_id, document_count FROM faststream_way.jobs"

# Workers with a connection each, and prefetch: the best of 1, 4, 8, 16, 32 and of 10, 100, 300.
OLD_TUNING = ("8", "100")
FASTSTREAM_TUNING = ("8", "100")
BARE_PREFETCH = "300"


@dataclass(frozen=True)
class Contestant:
    """Processes that empty the queue. `counts` reads what they have counted; without it, they end when it is empty."""

    label: str
    argv: tuple[str, ...]
    events: int
    counts: str | None = TRACKER_COUNTS
    one_a_message: bool = False
    replicas: int = 1


@dataclass(frozen=True)
class Measured:
    """One run: events a second; CPU seconds per 100,000 events, alone and with broker and database; most memory
    of its processes together."""

    rate: float
    cpu: float
    cpu_of_all: float
    megabytes: float


OLD_WAY = "(a) the old way"
FASTSTREAM = "(b) FastStream, a transaction per event"
TRACKER = Contestant("(c) job-tracker", ("job_tracker",), 150_000)


def contestants(scale: float) -> list[Contestant]:
    """Who is compared, and with how many events, times `scale`: some seconds each."""
    few, some, many = (int(events * scale) for events in (3_000, 15_000, TRACKER.events))
    bare = ("benchmarks.bare_consumer", BARE_PREFETCH)
    old, faststream = ("benchmarks.old_way", *OLD_TUNING), ("benchmarks.faststream_way", *FASTSTREAM_TUNING)
    return [
        Contestant(OLD_WAY, old, few, OLD_COUNTS, one_a_message=True),
        Contestant(FASTSTREAM, faststream, few, FASTSTREAM_COUNTS, one_a_message=True),
        replace(TRACKER, events=many),
        replace(TRACKER, label="(c) job-tracker, one event a message", events=some, one_a_message=True),
        Contestant("(d) no work", (*bare, str(-(-many // BATCH_EVENTS))), many, None),
        Contestant("(d) no work, one event a message", (*bare, str(some)), some, None, one_a_message=True),
    ]


async def compare(stage: Stage, entries: Sequence[Contestant], *, jobs: int, rounds: int) -> dict[str, Measured]:
    """The medians of `rounds` in which each contestant has its turn."""
    job_ids = [uuid4() for _ in range(jobs)]
    backlog = documents_saved(job_ids, max(entry.events for entry in entries))
    runs: dict[str, list[Measured]] = {entry.label: [] for entry in entries}
    for _ in range(rounds):
        for entry in entries:
            await stage.empty(job_ids)
            runs[entry.label].append(await measure(stage, entry, job_ids, backlog[: entry.events]))
    return {label: medians(measured) for label, measured in runs.items()}


def medians(runs: Sequence[Measured]) -> Measured:
    """The median of each figure."""
    return Measured(
        rate=median(run.rate for run in runs),
        cpu=median(run.cpu for run in runs),
        cpu_of_all=median(run.cpu_of_all for run in runs),
        megabytes=median(run.megabytes for run in runs),
    )


async def measure(
    stage: Stage, entry: Contestant, job_ids: Sequence[UUID], backlog: Sequence[OutboxEvent], *, had: int = 0
) -> Measured:
    """Preload `backlog`, start the contestant, and time it from when all its processes are ready until all is counted.

    What the first of several processes counted before the last was ready is left out. Each job `had` so many documents
    before. Raises AssertionError when a count is wrong.
    """
    await publish(stage.publisher, backlog, one_a_message=entry.one_a_message)
    expected = {job_id: had + len(range(n, len(backlog), len(job_ids))) for n, job_id in enumerate(job_ids)}
    with ExitStack() as running:
        processes = [running.enter_context(stage.running(*entry.argv)) for _ in range(entry.replicas)]
        pids = [process.pid for process in processes]
        early = await _counted(stage, entry.counts) - had * len(job_ids) if entry.counts else 0
        megabytes = running.enter_context(sampled_memory(pids))
        started = time.monotonic()
        own_before, backing_before = sum(map(cpu_seconds, pids)), stage.backing_cpu_seconds()
        own = await (_until_counted(stage, entry.counts, expected, pids) if entry.counts else _until_ended(processes))
        seconds = time.monotonic() - started
        own, backing = own - own_before, stage.backing_cpu_seconds() - backing_before
    events = len(backlog) - early
    per_100_000 = 100_000 / events
    return Measured(events / seconds, own * per_100_000, (own + backing) * per_100_000, max(megabytes))


async def _until_counted(stage: Stage, counts: str, expected: dict[UUID, int], pids: Sequence[int]) -> float:
    """Wait until the sum of the counts is what it must be; then each of them must be. Returns the CPU seconds."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            counted = dict(map(tuple, await stage.pool.fetch(counts)))
            if sum(counted.values()) >= sum(expected.values()):
                break
            await asyncio.sleep(POLL_SECONDS)
    cpu = sum(map(cpu_seconds, pids))
    assert counted == expected
    return cpu


async def _counted(stage: Stage, counts: str) -> int:
    return sum(row["document_count"] for row in await stage.pool.fetch(counts))


async def _until_ended(processes: Sequence[Service]) -> float:
    """Wait until they have ended; returns the CPU seconds as they were at the last look."""
    cpu = 0.0
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while any(process.running for process in processes):
            cpu = sum(cpu_seconds(process.pid) for process in processes) or cpu
            await asyncio.sleep(POLL_SECONDS)
    return cpu
