"""Reports live jobs that have fallen silent: in the log, and as a state that says since when.

Nothing is decided by it: a silent job may wait for a slow server, for services that are down, or for a lost message.
"""

import asyncio
import logging
from datetime import timedelta

from tallyho_contracts.logs import LogLevel
from tallyho_postgres.errors import is_transient

from job_tracker import store
from job_tracker.deps import Deps
from job_tracker.rules import Job

log = logging.getLogger(__name__)

LOOKS_A_SILENCE = 4


async def watch(deps: Deps, silence_seconds: float, stop: asyncio.Event) -> None:
    """Look for silent jobs until `stop` is set; at first not before a process that listens could have heard of them."""
    wait = silence_seconds
    while not await _stopped(stop, wait):
        try:
            await report(deps, timedelta(seconds=silence_seconds))
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("watchdog waits for the database error=%s", error)
        wait = silence_seconds / LOOKS_A_SILENCE


async def report(deps: Deps, silence: timedelta) -> None:
    """Report the jobs without a change for longer than `silence`; of several trackers, one does."""
    now = deps.now()
    async with deps.pool.acquire() as connection:
        jobs = await store.report_silent_jobs(connection, before=now - silence, at=now)
    for job in jobs:
        log.warning("job is silent %s", _in_words(job))
        message = f"nothing has changed since {job.stalled_since:%H:%M:%S}"
        deps.say(job.job_id, LogLevel.WARNING, message, unfinished_pages=job.pages.unfinished)
    deps.progress.announce(jobs)


def _in_words(job: Job) -> str:
    start = "confirmed" if job.start_confirmed else "missing"
    return (
        f"job={job.job_id} status={job.status} since={job.stalled_since} start={start} pending={job.pages.pending}"
        f" running={job.pages.running} known_pages={job.pages.total} crawler_pages={job.crawler_pages or 'unknown'}"
    )


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True
