"""Deleting jobs that have ended: at once for everybody who looks, in the background for the disk.

What is still to be deleted stands in the database: a process that dies loses at most the chunk it was at, and any other
goes on.
"""

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from tallyho_contracts.crawls import CrawlDelete
from tallyho_contracts.jobs import Job as JobView
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.requests import RequestRefused
from tallyho_postgres import outbox
from tallyho_postgres.errors import is_transient

from job_tracker import store
from job_tracker.commands import crawl_command
from job_tracker.deps import Deps
from job_tracker.refusals import refuse
from job_tracker.rules import job_view

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 2_000
JOBS_AT_ONCE = 100
# Between two looks for deleted jobs, and for those whose time is up.
LOOK_SECONDS = 1.0
# Between two chunks: those who crawl come first.
REST_SECONDS = 0.02


async def delete_job(deps: Deps, job_id: UUID) -> JobView:
    """Delete a job that has ended, and tell the crawler and those who watch; returns it as it was.

    Raises RequestRefused for one that does not exist, for one that has not ended, and for one that another job retries
    just now, which needs to know its pages.
    """
    now = deps.now()
    async with deps.pool.acquire() as connection, connection.transaction():
        job = await store.lock_job(connection, job_id)
        if job is None:
            refuse(ErrorCode.NOT_FOUND, f"there is no job {job_id}", field="job_id")
        if not job.status.is_terminal:
            refuse(ErrorCode.CONFLICT, f"a job that is {job.status} can't be deleted: cancel it first", field="status")
        if await store.is_retried(connection, job_id):
            refuse(ErrorCode.CONFLICT, "a job that another one retries just now can't be deleted", field="status")
        revision = await store.mark_deleted(connection, job_id, at=now)
        command = crawl_command(CrawlDelete(job_id=job_id, revision=revision), job_id, now)
        await outbox.add(connection, [command])
    deps.relay.offer([command])
    deps.progress.announce([replace(job, revision=revision, deleted_at=now, updated_at=now)])
    return job_view(job)


async def run(deps: Deps, retention_days: float, stop: asyncio.Event) -> None:
    """Delete what was left of deleted jobs, and jobs that ended `retention_days` ago (0: none), until `stop` is set."""
    while not stop.is_set():
        more = False
        try:
            if retention_days:
                await delete_old_jobs(deps, timedelta(days=retention_days))
            more = await delete_some_remains(deps)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("deletion waits for the database error=%s", error)
        await _stopped(stop, REST_SECONDS if more else LOOK_SECONDS)


async def delete_old_jobs(deps: Deps, retention: timedelta) -> None:
    """Delete some of the jobs that ended longer ago than `retention`."""
    async with deps.pool.acquire() as connection:
        old = await store.ended_jobs(connection, before=deps.now() - retention, limit=JOBS_AT_ONCE)
    for job_id in old:
        try:
            await delete_job(deps, job_id)
        except RequestRefused:
            continue  # another tracker was faster, or a retry has begun
        log.info("job deleted, its time is up job=%s", job_id)


async def delete_some_remains(deps: Deps) -> bool:
    """Delete a chunk of what is left of one deleted job; returns whether there was any such job."""
    async with deps.pool.acquire() as connection, connection.transaction():
        job_id = await store.lock_remains(connection)
        if job_id is None:
            return False
        if not await store.delete_rows(connection, job_id, limit=ROWS_AT_ONCE):
            await store.mark_gone(connection, job_id)
        return True


async def _stopped(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
