"""What the tracker does with the crawler's events: count, advance, decide, announce."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from tallyho_contracts.crawls import CrawlCancel
from tallyho_contracts.jobs import JobStatus
from tallyho_messaging.wire import AnyEvent
from tallyho_postgres import outbox
from tallyho_postgres.pool import Connection

from job_tracker import metrics, store
from job_tracker.batches import Batch, reduce_events
from job_tracker.commands import crawl_command
from job_tracker.deps import Deps
from job_tracker.rules import Job, PageCounts, Tally, nothing_saved, state_after, status_line


async def on_events(deps: Deps, events: Sequence[AnyEvent]) -> None:
    """Count each document once, move each page forward, and announce the new state of their jobs."""
    batch = reduce_events([event.data for event in events])
    now = deps.now()
    async with deps.pool.acquire() as connection, connection.transaction():
        jobs = await store.lock_jobs(connection, batch.job_ids)
        if deleted := {job_id for job_id, job in jobs.items() if job.deleted_at}:
            jobs = {job_id: job for job_id, job in jobs.items() if job_id not in deleted}
            batch = batch.without(deleted)
        counted = await store.add_documents(connection, batch.documents)
        pages = await store.advance_pages(connection, batch.pages, at=now)
        steps = [
            (job, await explained(connection, state_after(job, tally, now)))
            for job, tally in tallies(jobs, batch, counted, pages)
            if not tally.is_empty
        ]
        changed = await store.advance_jobs(connection, steps, at=now)
        stops = cancels(steps, changed, now)
        await outbox.add(connection, stops)
    deps.relay.offer(stops)
    traced = {event.subject: event.traceparent for event in events if event.traceparent}
    deps.causes.update({job.job_id: traced[job.job_id] for job in changed if job.job_id in traced})
    # Those that did not change, too: the batch may have been applied before, and the answer, with their state, lost.
    deps.progress.announce({**jobs, **{job.job_id: job for job in changed}}.values())
    metrics.DOCUMENTS.inc(sum(counted.values()))
    for before, after in steps:
        tell(deps, before, after)


def tell(deps: Deps, before: Job, after: Job) -> None:
    """Tell people who watch that a job has another status."""
    if after.status is not before.status and after.status.is_terminal:
        metrics.ENDED.labels(after.status).inc()
    if line := status_line(before, after):
        deps.say(after.job_id, *line)


def tallies(
    jobs: dict[UUID, Job], batch: Batch, counted: dict[UUID, int], pages: dict[UUID, PageCounts]
) -> list[tuple[Job, Tally]]:
    """What the batch changed in each job, as the store found it."""
    return [
        (
            job,
            Tally(
                documents=counted.get(job_id, 0),
                pages=pages.get(job_id, PageCounts()),
                start_confirmed=job_id in batch.started and not job.start_confirmed,
                crawler_pages=batch.crawler_pages.get(job_id, 0),
                change_confirmed=_news(batch.changes_confirmed.get(job_id, 0), job.change_confirmed),
            ),
        )
        for job_id, job in jobs.items()
    ]


def _news(revision: int, known: int) -> int:
    return revision if revision > known else 0


async def explained(connection: Connection, job: Job) -> Job:
    """The job, with the reasons of its pages when it failed because it saved nothing."""
    if job.status is not JobStatus.FAILED or job.error:
        return job
    return replace(job, error=nothing_saved(await store.failure_reasons(connection, job.job_id)))


def cancels(steps: Sequence[tuple[Job, Job]], changed: Sequence[Job], now: datetime) -> list[outbox.OutboxEvent]:
    """The commands to stop the jobs that these steps found to have too many failures."""
    stopped = {
        after.job_id
        for before, after in steps
        if after.status is JobStatus.CANCELLING and before.status is not JobStatus.CANCELLING
    }
    return [
        crawl_command(CrawlCancel(job_id=job.job_id, revision=job.revision), job.job_id, now)
        for job in changed
        if job.job_id in stopped
    ]
