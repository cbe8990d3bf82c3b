"""What people do with jobs: create and retry, pause, resume and cancel, change their rules. Each is one transaction."""

import hashlib
from dataclasses import replace
from uuid import UUID

from tallyho_contracts.crawls import CrawlChange, CrawlCommand, CrawlStart
from tallyho_contracts.jobs import Job, JobChange, JobCreate, JobCreated, JobRetry, JobStatus
from tallyho_contracts.logs import LogLevel
from tallyho_contracts.replies import ErrorCode
from tallyho_postgres import outbox

from job_tracker import store
from job_tracker.commands import crawl_command
from job_tracker.deps import Deps
from job_tracker.handlers import cancels, explained, tell
from job_tracker.refusals import refuse
from job_tracker.rules import Tally, counted, job_view, state_after, with_options


async def create_job(deps: Deps, request: JobCreate) -> JobCreated:
    """Store the job and its start command in one transaction; the same key and request give the same job."""
    # Without what is left at its default: an option that a later version adds must not make it another request.
    asked_for = request.model_dump_json(exclude={"job_id"}, exclude_defaults=True)
    return await _create(deps, request, asked_for)


async def retry_job(deps: Deps, retry: JobRetry) -> JobCreated:
    """Create a job like one that has ended, which visits that one's failed pages; the same key gives the same job."""
    async with deps.pool.acquire() as connection:
        before = await store.get_job(connection, retry.retry_of)
    if before is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no job {retry.retry_of}", field="job_id")
    if not before.status.is_terminal:
        refuse(ErrorCode.CONFLICT, f"a job that is {before.status} has not ended yet", field="status")
    if not before.pages.failed:
        refuse(ErrorCode.CONFLICT, "no page of this job failed", field="status")
    request = JobCreate(
        job_id=retry.job_id,
        idempotency_key=retry.idempotency_key,
        name=before.name,
        seeds=before.seeds,
        options=before.options,
    )
    return await _create(deps, request, f"retry of {retry.retry_of}", retry_of=retry.retry_of)


async def _create(deps: Deps, request: JobCreate, asked_for: str, *, retry_of: UUID | None = None) -> JobCreated:
    now = deps.now()
    request_hash = hashlib.sha256(asked_for.encode()).digest()
    async with deps.pool.acquire() as connection, connection.transaction():
        if request.idempotency_key:
            known = await store.lock_idempotency_key(connection, request.idempotency_key)
            if known and known[1] != request_hash:
                refuse(ErrorCode.CONFLICT, "this idempotency key belongs to another request", field="Idempotency-Key")
            if known:
                return JobCreated(job=job_view(known[0]), created=known[0].job_id == request.job_id)
        # Locked, so that it is not deleted before the retry is there to forbid it.
        if retry_of and await store.lock_job(connection, retry_of) is None:
            refuse(ErrorCode.NOT_FOUND, f"there is no job {retry_of}", field="job_id")
        job = await store.create_job(connection, request, request_hash=request_hash, at=now, retry_of=retry_of)
        if job is None:
            known = await store.get_created(connection, request.job_id)
            if known is None or known[1] != request_hash:
                refuse(ErrorCode.CONFLICT, f"job {request.job_id} exists", field="job_id")
            # The same request came twice: whoever did it first may have died before it could answer.
            return JobCreated(job=job_view(known[0]), created=True)
        start = CrawlStart(
            job_id=job.job_id,
            revision=job.revision,
            seeds=request.seeds,
            options=request.options,
            retry_of=retry_of,
        )
        commands = [crawl_command(start, job.job_id, now)]
        if job.started_at is not None:
            # Its events came first: it may be done already, or have to be stopped.
            step = job, await explained(connection, state_after(job, Tally(), now))
            [job] = await store.advance_jobs(connection, [step], at=now)
            commands += cancels([step], [job], now)
        await outbox.add(connection, commands)
    deps.relay.offer(commands)
    deps.progress.announce([job])
    origin = f"to retry the failed pages of {retry_of}" if retry_of else f"with {counted(len(job.seeds), 'seed')}"
    deps.say(job.job_id, LogLevel.INFO, f"submitted {origin}")
    return JobCreated(job=job_view(job), created=True)


# From which statuses a job can be steered to which.
_ALLOWED = {
    JobStatus.CANCELLING: {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PAUSED},
    JobStatus.PAUSED: {JobStatus.PENDING, JobStatus.RUNNING},
    JobStatus.RUNNING: {JobStatus.PAUSED},
}


async def steer(deps: Deps, job_id: UUID, wanted: JobStatus, command_type: type[CrawlCommand]) -> Job:
    """Set a job's status and tell the crawler, in one transaction. What is so already stays so.

    A terminal job can be cancelled once more, which changes nothing; any other step from there is a conflict.
    """
    now = deps.now()
    async with deps.pool.acquire() as connection, connection.transaction():
        job = await store.lock_job(connection, job_id)
        if job is None:
            refuse(ErrorCode.NOT_FOUND, f"there is no job {job_id}", field="job_id")
        if job.status is wanted or (wanted is JobStatus.CANCELLING and job.status.is_terminal):
            deps.progress.announce([job])  # the answer to who made it so, and its state, may have been lost
            return job_view(job)
        if job.status not in _ALLOWED[wanted]:
            refuse(ErrorCode.CONFLICT, f"a job that is {job.status} can't become {wanted}", field="status")
        before = job
        [job] = await store.advance_jobs(connection, [(job, replace(job, status=wanted))], at=now)
        command = crawl_command(command_type(job_id=job_id, revision=job.revision), job_id, now)
        await outbox.add(connection, [command])
    deps.relay.offer([command])
    deps.progress.announce([job])
    tell(deps, before, job)
    return job_view(job)


async def change_job(deps: Deps, change: JobChange) -> Job:
    """Give a live job other limits and tell the crawler; it is not complete before the crawler has confirmed them."""
    now = deps.now()
    async with deps.pool.acquire() as connection, connection.transaction():
        before = await store.lock_job(connection, change.job_id)
        if before is None:
            refuse(ErrorCode.NOT_FOUND, f"there is no job {change.job_id}", field="job_id")
        if before.status.is_terminal or before.status is JobStatus.CANCELLING:
            refuse(ErrorCode.CONFLICT, f"a job that is {before.status} can't be changed", field="status")
        wanted = {field.value: getattr(change, field) for field in change.fields}
        after = with_options(before, before.options.model_copy(update=wanted))
        if after.options == before.options:
            deps.progress.announce([before])
            return job_view(before)
        [job] = await store.advance_jobs(connection, [(before, after)], at=now)
        job = replace(job, options=after.options)
        await store.set_options(connection, job)
        command = CrawlChange(job_id=job.job_id, revision=job.revision, options=job.options)
        commands = [crawl_command(command, job.job_id, now), *cancels([(before, after)], [job], now)]
        await outbox.add(connection, commands)
    deps.relay.offer(commands)
    deps.progress.announce([job])
    limits = ", ".join(f"{name} = {'no limit' if value is None else value}" for name, value in wanted.items())
    deps.say(job.job_id, LogLevel.INFO, f"changed: {limits}")
    tell(deps, before, job)
    return job_view(job)
