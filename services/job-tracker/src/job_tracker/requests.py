"""The requests of the gateway: which step of `control` each is, and what it reads of jobs, documents and pages."""

from uuid import UUID

from tallyho_contracts.crawls import CrawlCancel, CrawlPause, CrawlResume
from tallyho_contracts.documents import DocumentList, DocumentsQuery
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import (
    Job,
    JobCancel,
    JobChange,
    JobCreate,
    JobDelete,
    JobGet,
    JobList,
    JobPause,
    JobResume,
    JobRetry,
    JobsQuery,
    JobStatus,
    JobSummary,
    JobSummaryQuery,
)
from tallyho_contracts.logs import JobLogQuery, JobLogTail
from tallyho_contracts.pages import PageList, PagesQuery
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.wire import AnyEvent

from job_tracker import store
from job_tracker.control import change_job, create_job, retry_job, steer
from job_tracker.deletion import delete_job
from job_tracker.deps import Deps
from job_tracker.refusals import refuse
from job_tracker.rules import job_state, job_view, waits_for

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
        case JobChange() as change:
            reply = await change_job(deps, change)
        case JobRetry() as retry:
            reply = await retry_job(deps, retry)
        case JobDelete(job_id=job_id):
            reply = await delete_job(deps, job_id)
        case _:
            reply = await _read(deps, event)
    return reply


async def _read(deps: Deps, event: AnyEvent) -> Message:
    reply: Message
    match event.data:
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
            refuse(ErrorCode.INVALID, f"{event.type} is no request to the job tracker")
    return reply


async def get_job(deps: Deps, job_id: UUID) -> Job:
    """One job as it stands; of a silent one, what it waits for."""
    async with deps.pool.acquire() as connection:
        job = await store.get_job(connection, job_id)
        if job is None:
            refuse(ErrorCode.NOT_FOUND, f"there is no job {job_id}", field="job_id")
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
    """A keyset page of jobs, the newest first; the one that ended the page before may be deleted meanwhile."""
    async with deps.pool.acquire() as connection:
        if query.before and not await store.was_created(connection, query.before):
            refuse(ErrorCode.NOT_FOUND, f"there is no job {query.before}", field="before")
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
        pages = await store.list_pages(connection, query)
    last = pages[-1].page_id if len(pages) == query.limit else None
    return PageList(pages=tuple(pages), next=last)
