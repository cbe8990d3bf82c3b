"""What the tracker tells of its jobs; docs/metrics.md says what each metric is for."""

from prometheus_client import Counter, Gauge
from tallyho_contracts.jobs import JobStatus
from tallyho_postgres.pool import Connection

from job_tracker import store

DOCUMENTS = Counter("tallyho_tracker_documents", "Documents counted, each once in its job.")
ENDED = Counter("tallyho_tracker_jobs_ended", "Jobs that came to an end, by how.", ["status"])
LIVE_JOBS = Gauge("tallyho_tracker_live_jobs", "Jobs that have not ended, of all replicas.", ["status"])
STALLED_JOBS = Gauge("tallyho_tracker_stalled_jobs", "Live jobs that the watchdog has reported as silent.")
DRIFT = Gauge(
    "tallyho_tracker_drift_pages",
    "Pages of silent jobs that the crawler knows and the tracker does not.",
)
STATES = Counter("tallyho_tracker_states_published", "Job states that the broker has taken for the gateways.")

for _status in JobStatus:
    (ENDED if _status.is_terminal else LIVE_JOBS).labels(_status)


async def look_at_jobs(connection: Connection) -> None:
    """Look up the figures of live jobs."""
    jobs = await store.measure_live_jobs(connection)
    for status in JobStatus:
        if not status.is_terminal:
            LIVE_JOBS.labels(status).set(jobs[status].jobs if status in jobs else 0)
    STALLED_JOBS.set(sum(one.stalled for one in jobs.values()))
    DRIFT.set(sum(one.missing_pages for one in jobs.values()))
