"""What every handler of the tracker works with."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tallyho_postgres.outbox import Relay
from tallyho_postgres.pool import Pool

from job_tracker.progress import Progress


@dataclass(frozen=True)
class Deps:
    """The database, the way out to the crawler and to the gateways, and the clock."""

    pool: Pool
    relay: Relay
    progress: Progress
    now: Callable[[], datetime]
