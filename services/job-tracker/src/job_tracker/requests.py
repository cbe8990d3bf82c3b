"""The requests of the gateway: create and steer jobs, read jobs, documents and pages."""

import hashlib
from dataclasses import replace
from typing import NoReturn
from uuid import UUID

from tallyho_contracts.crawls import CrawlCancel, CrawlCommand, CrawlPause, CrawlResume, CrawlStart
from tallyho_contracts.documents import DocumentList, DocumentsQuery
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import (
    Job,
    JobCancel,
    JobCreate,
    JobCreated,
    JobDelete,
    JobGet,
    JobList,
    JobPause,
    JobResume,
    JobsQuery,
    JobStatus,
    JobSummary,
    JobSummaryQuery,
)
from tallyho_contracts.logs import JobLogQuery, JobLogTail, LogLevel
from tallyho_contracts.pages import PageList, PagesQuery
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_messaging.requests import RequestRefused
from tallyho_messaging.wire import AnyEvent
from tallyho_postgres import outbox

from job_tracker import store
from job_tracker.commands import crawl_command
from job_tracker.deletion import delete_job
from job_tracker.deps import Deps
from job_tracker.handlers import cancels, explained, tell
from job_tracker.rules import Tally, counted, job_state, job_view, state_after, waits_for

# Enough for a curve of a page's width.
SUMMARY_STEPS = 60


async def answer(deps: Deps, event: AnyEvent) -> Message:
    """Carry out a request and return its reply. Raises RequestRefused."""
    reply: Message
    match event.data:
        case JobCreate() as request:
            reply = await create_job(deps, request)
        case JobCancel(job_id=job_id):
            reply = await steer(deps, job_id, JobStatus.CANCELLING, CrawlCancel)
        case JobPause(job_id=job_id):
            reply = await steer(deps, job_id, JobStatus.PAUSED, CrawlPause)
        case JobResume(job_id=job_id):
            reply = await steer(deps, job_id, JobStatus.RUNNING, CrawlResume)
        case JobDelete(job_id=job_id):
            reply = await delete_job(deps, job_id)
        case JobGet(job_id=job_id):
            reply = await get_job(deps, job_id)
        case JobSummaryQuery(job_id=job_id):
            reply = await summarize_job(deps, job_id)
        case JobLogQuery() as query:
            reply = await read_log(deps, query)
        case JobsQuery() as query:
            reply = await list_jobs(deps, query)
        case DocumentsQuery() as query:
            reply = await list_documents(deps, query)
        case PagesQuery() as query:
            reply = await list_pages(deps, query)
        case _:
            _refuse(ErrorCode.INVALID, f"{event.type} is no request to the job tracker")
    return reply


async def create_job(deps: Deps, request: JobCreate) -> JobCreated:
    """Store the job and its start command in one transaction; the same key and request give the same job."""
    now = deps.now()
    # Without what is left at its default: an option that a later version adds must not make it another request.
    asked_for = request.model_dump_json(exclude={"job_id"}, exclude_defaults=True)
    request_hash = hashlib.sha256(asked_for.encode()).digest()
    async with deps.pool.acquire() as connection, connection.transaction():
        if request.idempotency_key:
            known = await store.lock_idempotency_key(connection, request.idempotency_key)
            if known and known[1] != request_hash:
                _refuse(ErrorCode.CONFLICT, "this idempotency key belongs to another request", field="Idempotency-Key")
            if known:
                return JobCreated(job=job_view(known[0]), created=known[0].job_id == request.job_id)
        job = await store.create_job(connection, request, request_hash=request_hash, at=now)
        if job is None:
            known = await store.get_created(connection, request.job_id)
            if known is None or known[1] != request_hash:
                _refuse(ErrorCode.CONFLICT, f"job {request.job_id} exists", field="job_id")
            # The same request came twice: whoever did it first may have died before it could answer.
            return JobCreated(job=job_view(known[0]), created=True)
        start = CrawlStart(job_id=job.job_id, revision=job.revision, seeds=request.seeds, options=request.options)
        commands = [crawl_command(start, job.job_id, now)]
        if job.started_at is not None:
            # Its events came first: it may be done already, or have to be stopped.
            step = job, await explained(connection, state_after(job, Tally(), now))
            [job] = await store.advance_jobs(connection, [step], at=now)
            commands += cancels([step], [job], now)
        await outbox.add(connection, commands)
    deps.relay.offer(commands)
    deps.progress.announce([job])
    deps.say(job.job_id, LogLevel.INFO, f"submitted with {counted(len(job.seeds), 'seed')}")
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
            _refuse(ErrorCode.NOT_FOUND, f"there is no job {job_id}", field="job_id")
        if job.status is wanted or (wanted is JobStatus.CANCELLING and job.status.is_terminal):
            return job_view(job)
        if job.status not in _ALLOWED[wanted]:
            _refuse(ErrorCode.CONFLICT, f"a job that is {job.status} can't become {wanted}", field="status")
        before = job
        [job] = await store.advance_jobs(connection, [(job, replace(job, status=wanted))], at=now)
        command = crawl_command(command_type(job_id=job_id, revision=job.revision), job_id, now)
        await outbox.add(connection, [command])
    deps.relay.offer([command])
    deps.progress.announce([job])
    tell(deps, before, job)
    return job_view(job)


async def get_job(deps: Deps, job_id: UUID) -> Job:
    """One job as it stands; of a silent one, what it waits for."""
    async with deps.pool.acquire() as connection:
        job = await store.get_job(connection, job_id)
        if job is None:
            _refuse(ErrorCode.NOT_FOUND, f"there is no job {job_id}", field="job_id")
        if job.stalled_since is None:
            return job_view(job)
        return job_view(job, waits_for(job, await store.waiting_pages(connection, job_id)))


async def summarize_job(deps: Deps, job_id: UUID) -> JobSummary:
    """Why a job's pages ended as they did, and how its count rose."""
    await get_job(deps, job_id)
    async with deps.pool.acquire() as connection:
        pages = await store.pages_by_reason(connection, job_id)
        documents = await store.sample_documents(connection, job_id, steps=SUMMARY_STEPS)
    return JobSummary(pages=tuple(pages), documents=tuple(documents))


async def read_log(deps: Deps, query: JobLogQuery) -> JobLogTail:
    """The newest lines of a job's log that are kept."""
    await get_job(deps, query.job_id)
    async with deps.pool.acquire() as connection:
        lines = await store.log_tail(connection, query.job_id, limit=query.limit)
    return JobLogTail(lines=tuple(lines))


async def list_jobs(deps: Deps, query: JobsQuery) -> JobList:
    """A keyset page of jobs, the newest first."""
    async with deps.pool.acquire() as connection:
        jobs = await store.list_jobs(connection, live=query.live, before=query.before, limit=query.limit)
    last = jobs[-1].job_id if len(jobs) == query.limit else None
    return JobList(jobs=tuple(map(job_state, jobs)), next=last)


async def list_documents(deps: Deps, query: DocumentsQuery) -> DocumentList:
    """A keyset page of a job's documents, by ordinal."""
    await get_job(deps, query.job_id)
    async with deps.pool.acquire() as connection:
        documents = await store.list_documents(connection, query.job_id, after=query.after, limit=query.limit)
    last = documents[-1].ordinal if len(documents) == query.limit else None
    return DocumentList(documents=tuple(documents), next=last)


async def list_pages(deps: Deps, query: PagesQuery) -> PageList:
    """A keyset page of a job's pages, by id."""
    await get_job(deps, query.job_id)
    async with deps.pool.acquire() as connection:
        pages = await store.list_pages(
            connection, query.job_id, state=query.state, after=query.after, limit=query.limit
        )
    last = pages[-1].page_id if len(pages) == query.limit else None
    return PageList(pages=tuple(pages), next=last)


def _refuse(code: ErrorCode, message: str, field: str | None = None) -> NoReturn:
    raise RequestRefused(Refused(code=code, message=message, field=field))
