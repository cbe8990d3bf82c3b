"""What every handler of the tracker works with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from tallyho_messaging.announcing import Causes
from tallyho_messaging.job_logs import Say, say_nothing
from tallyho_postgres.outbox import Relay
from tallyho_postgres.pool import Pool

from job_tracker.progress import Progress


@dataclass(frozen=True)
class Deps:
    """The database, the way out to the crawler and the gateways, the clock, what people who watch are told, and why."""

    pool: Pool
    relay: Relay
    progress: Progress
    now: Callable[[], datetime]
    say: Say = say_nothing
    causes: Causes = field(default_factory=dict)
