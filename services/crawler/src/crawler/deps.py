"""What every handler of the crawler works with."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from tallyho_contracts.crawls import Render
from tallyho_messaging.job_logs import Say, say_nothing
from tallyho_postgres.outbox import Relay
from tallyho_postgres.pool import Pool

from crawler.known_urls import KnownUrls


@dataclass(frozen=True)
class Deps:
    """The database, the way out to the tracker, the clock, and what this process knows already.

    `known_urls` are pages or wait to become some, `skipped_urls` are noted as skipped. `host_concurrency` and
    `host_delay` (seconds) hold for origins that say nothing themselves. `say` tells people who watch a job.
    `due` is set when there may be pages to visit that no worker could claim before, `closing` when a job may have pages
    that are to be closed. `renders`: this process visits the pages of jobs that want a browser, and no others.
    """

    pool: Pool
    relay: Relay
    now: Callable[[], datetime]
    known_urls: KnownUrls
    host_concurrency: int
    host_delay: float
    say: Say = say_nothing
    renders: bool = False
    skipped_urls: KnownUrls = field(default_factory=KnownUrls)
    due: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def render(self) -> Render:
        """How the jobs want their pages rendered whose pages this process visits."""
        return "browser" if self.renders else "none"
