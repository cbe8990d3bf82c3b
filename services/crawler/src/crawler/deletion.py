"""Forgetting deleted jobs, a chunk at a time. What is still to be forgotten stands in the database: a process that dies
loses at most the chunk it was at, and any other goes on.
"""

import asyncio
import logging

from tallyho_postgres.errors import is_transient
from tallyho_postgres.pool import Pool

from crawler import jobs

log = logging.getLogger(__name__)

DOCUMENTS_AT_ONCE = 500
URLS_AT_ONCE = 2_000
LOOK_SECONDS = 1.0
# Between two chunks: crawling comes first.
REST_SECONDS = 0.02


async def run(pool: Pool, stop: asyncio.Event) -> None:
    """Forget what is left of deleted jobs, until `stop` is set."""
    while not stop.is_set():
        more = False
        try:
            more = await forget_some(pool)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("deletion waits for the database error=%s", error)
        try:
            await asyncio.wait_for(stop.wait(), REST_SECONDS if more else LOOK_SECONDS)
        except TimeoutError:
            continue


async def forget_some(pool: Pool) -> bool:
    """Forget a chunk of one deleted job, with the documents that no other job has; whether there was such a job."""
    async with pool.acquire() as connection, connection.transaction():
        job_id = await jobs.lock_remains(connection)
        if job_id is None:
            return False
        forgotten = await jobs.forget_documents(connection, job_id, limit=DOCUMENTS_AT_ONCE)
        forgotten = forgotten or await jobs.forget_urls(connection, job_id, limit=URLS_AT_ONCE)
        if not forgotten:
            await jobs.mark_deleted(connection, job_id)
            log.info("nothing is left of deleted job=%s", job_id)
        return True
