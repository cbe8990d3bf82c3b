"""How long an event takes from when it happens until it is committed, and until a WebSocket client sees it."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from uuid import UUID, uuid4

import aiohttp
from tallyho_backing_services import free_port
from tallyho_contracts.jobs import JobState

from benchmarks.load import HEAD_START_SECONDS
from benchmarks.stage import Stage

POLL_SECONDS = 0.004
GIVE_UP_SECONDS = 60.0
# The first events pay for connections, prepared statements and caches.
WARM_UP_SECONDS = 1.0

COUNTS = "SELECT job_id, document_count FROM jobs"
DOCUMENTS = "SELECT parent_job_id, ordinal, extract(epoch FROM saved_at)::float8 AS at FROM job_documents"


@dataclass(frozen=True)
class Cell:
    """One combination that is measured."""

    rate: int
    jobs: int
    trackers: int


@dataclass(frozen=True)
class Latency:
    """Milliseconds from an event to its commit, and to the client."""

    commit_p50: float
    commit_p99: float
    client_p50: float
    client_p99: float


class Seen:
    """When each job was first seen to have so many documents."""

    def __init__(self) -> None:
        self._counts: dict[UUID, list[int]] = {}
        self._times: dict[UUID, list[float]] = {}
        self._total = 0
        self._changed = asyncio.Event()

    def note(self, job_id: UUID, count: int) -> None:
        """The job has `count` documents now."""
        counts = self._counts.setdefault(job_id, [0])
        if counts[-1] < count:
            self._total += count - counts[-1]
            counts.append(count)
            self._times.setdefault(job_id, [0.0]).append(time.time())
            self._changed.set()

    async def until(self, total: int) -> None:
        """Wait until all jobs have so many documents together."""
        while self._total < total:
            self._changed.clear()
            await self._changed.wait()

    def when(self, job_id: UUID, ordinal: int) -> float:
        """When the document with this ordinal was first counted in what was seen."""
        return self._times[job_id][bisect_left(self._counts[job_id], ordinal)]


async def measure_cells(stage: Stage, cells: Sequence[Cell], *, seconds: float, rounds: int) -> Mapping[Cell, Latency]:
    """The medians of `rounds` in which each cell has its turn."""
    runs: dict[Cell, list[Latency]] = {cell: [] for cell in cells}
    for _ in range(rounds):
        for cell in cells:
            runs[cell].append(await _measure(stage, cell, seconds))
    return {cell: _medians(measured) for cell, measured in runs.items()}


def _medians(runs: Sequence[Latency]) -> Latency:
    return Latency(
        median(run.commit_p50 for run in runs),
        median(run.commit_p99 for run in runs),
        median(run.client_p50 for run in runs),
        median(run.client_p99 for run in runs),
    )


async def _measure(stage: Stage, cell: Cell, seconds: float) -> Latency:
    jobs = [uuid4() for _ in range(cell.jobs)]
    await stage.empty(jobs)
    port = free_port()
    committed, shown = Seen(), Seen()
    async with asyncio.timeout(seconds + GIVE_UP_SECONDS):
        with stage.running("ws_gateway", GATEWAY_PORT=str(port)), stage.trackers(cell.trackers):
            async with _client(port, jobs, shown), _poller(stage, committed):
                load = ("benchmarks.load", str(cell.rate), str(seconds), *map(str, jobs))
                with stage.running(*load):
                    started = time.time() + HEAD_START_SECONDS
                    await asyncio.gather(*(seen.until(int(cell.rate * seconds)) for seen in (committed, shown)))
    documents = await stage.pool.fetch(DOCUMENTS)
    measured = [row for row in documents if row["at"] >= started + WARM_UP_SECONDS]
    commit = [committed.when(row["parent_job_id"], row["ordinal"]) - row["at"] for row in measured]
    client = [shown.when(row["parent_job_id"], row["ordinal"]) - row["at"] for row in measured]
    return Latency(*_p50_p99(commit), *_p50_p99(client))


def _p50_p99(seconds: Sequence[float]) -> tuple[float, float]:
    cuts = quantiles(seconds, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


@asynccontextmanager
async def _poller(stage: Stage, seen: Seen) -> AsyncIterator[None]:
    """Note what other connections to the database can see."""

    async def poll() -> None:
        async with stage.pool.acquire() as connection:
            while True:
                for row in await connection.fetch(COUNTS):
                    seen.note(row["job_id"], row["document_count"])
                await asyncio.sleep(POLL_SECONDS)

    polling = asyncio.create_task(poll())
    try:
        yield
    finally:
        polling.cancel()


@asynccontextmanager
async def _client(port: int, jobs: Sequence[UUID], seen: Seen) -> AsyncIterator[None]:
    """Note what a client that subscribed to all jobs is sent."""

    async def read(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            frame = message.json()
            if frame["type"] == "parent_job_progress":
                state = JobState.model_validate(frame["payload"])
                seen.note(state.job_id, state.document_count)

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/ws") as socket,
    ):
        for job_id in jobs:
            await socket.send_json({"type": "subscribe", "payload": {"job_id": str(job_id)}})
        reading = asyncio.create_task(read(socket))
        try:
            yield
        finally:
            reading.cancel()
