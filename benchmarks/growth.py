"""How the tracker's cost grows: with jobs, with the documents that a job has already, and with replicas."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import asyncpg

from benchmarks.events import documents_saved
from benchmarks.stage import Stage
from benchmarks.throughput import TRACKER, Measured, compare, measure, medians

ADD_DOCUMENTS = """
INSERT INTO job_documents
    (parent_job_id, document_id, ordinal, page_id, source_url, title, content_hash, change, saved_at)
SELECT
    $1, gen_random_uuid(), n, gen_random_uuid(), 'https://docs.example.org/guide/chapter-' || n || '.html',
    'Chapter ' || n || ' - The guide', repeat(md5(n::text), 2), 'created', now()
FROM generate_series(1, $2::int) AS n
"""
SET_COUNT = "UPDATE jobs SET document_count = $2 WHERE job_id = $1"


async def by_jobs(stage: Stage, numbers: Sequence[int], *, events: int, rounds: int) -> dict[int, Measured]:
    """One tracker, its events dealt to so many jobs."""
    return {
        jobs: (await compare(stage, [replace(TRACKER, events=events)], jobs=jobs, rounds=rounds))[TRACKER.label]
        for jobs in numbers
    }


async def by_replicas(
    stage: Stage, numbers: Sequence[int], *, jobs: int, events: int, rounds: int
) -> dict[int, Measured]:
    """So many trackers on one queue."""
    entries = {n: replace(TRACKER, label=str(n), events=events, replicas=n) for n in numbers}
    results = await compare(stage, list(entries.values()), jobs=jobs, rounds=rounds)
    return {n: results[entry.label] for n, entry in entries.items()}


async def by_documents(stage: Stage, numbers: Sequence[int], *, events: int, rounds: int) -> dict[int, Measured]:
    """One tracker and one job, which has so many documents when the events come."""
    job_id = uuid4()
    backlog = documents_saved([job_id], events)
    runs: dict[int, list[Measured]] = {n: [] for n in numbers}
    for _ in range(rounds):
        for n in numbers:
            await stage.empty([job_id])
            await stage.pool.execute(ADD_DOCUMENTS, job_id, n, timeout=600)
            await stage.pool.execute(SET_COUNT, job_id, n)
            await _settle(stage)
            runs[n].append(await measure(stage, TRACKER, [job_id], backlog, had=n))
    return {n: medians(measured) for n, measured in runs.items()}


async def _settle(stage: Stage) -> None:
    """Let what was just written cost the measurement nothing."""
    await stage.pool.execute("VACUUM ANALYZE job_documents", timeout=600)
    with suppress(asyncpg.InsufficientPrivilegeError):
        await stage.pool.execute("CHECKPOINT", timeout=600)
