"""Log lines about jobs, for whoever watches: best effort, bounded, and never in the way of the work.

Of each job a few lines are sent at a time. What comes beyond them until the next time is counted, and told in one line.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from tallyho_contracts.logs import JobLog, LogLevel
from tallyho_process.waiting import first_of

from tallyho_messaging.announcing import announce
from tallyho_messaging.publisher import Publisher, PublishFailedError

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.5
LINES_AT_ONCE = 10
MAX_JOBS = 1_000
LINES_A_MESSAGE = 100
MAX_MESSAGE = 1_000

Field = str | int | float | bool | None
# Called with a job's id, a level and a message, and by name with what the line is about.
Say = Callable[..., None]


def say_nothing(_job_id: UUID, _level: LogLevel, _message: str, **_fields: Field) -> None:
    """For those whom nobody listens to."""


@dataclass
class _Waiting:
    lines: list[JobLog] = field(default_factory=list)
    more: Counter[str] = field(default_factory=Counter)
    level: LogLevel = LogLevel.INFO


class JobLogs:
    """The lines that wait to be sent; `say` only notes them."""

    def __init__(self, publisher: Publisher, source: str, now: Callable[[], datetime]) -> None:
        self._publisher = publisher
        self._source = source
        self._now = now
        self._waiting: dict[UUID, _Waiting] = {}
        self._wake = asyncio.Event()

    def say(self, job_id: UUID, level: LogLevel, message: str, **fields: Field) -> None:
        """Send this line soon, if there is room for it; returns at once."""
        waiting = self._waiting.get(job_id)
        if waiting is None:
            if len(self._waiting) >= MAX_JOBS:
                return
            waiting = self._waiting[job_id] = _Waiting()
            self._wake.set()
        if len(waiting.lines) < LINES_AT_ONCE:
            text = message.replace("\0", "")[:MAX_MESSAGE]
            waiting.lines.append(JobLog(job_id=job_id, timestamp=self._now(), level=level, message=text, fields=fields))
        else:
            waiting.more[message] += 1
            waiting.level = max(waiting.level, level, key=list(LogLevel).index)

    async def run(self, stop: asyncio.Event) -> None:
        """Send what waits, at most twice a second, until `stop` is set; then once more."""
        while not stop.is_set():
            await first_of(self._wake, stop)
            await self._send()
            await first_of(stop, seconds=INTERVAL_SECONDS)
        await self._send()

    async def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._wake.clear()
        lines = [line for job_id, one in waiting.items() for line in self._told(job_id, one)]
        for start in range(0, len(lines), LINES_A_MESSAGE):
            try:
                await announce(self._publisher, self._source, lines[start : start + LINES_A_MESSAGE])
            except PublishFailedError as error:
                log.info("log lines of jobs are lost lines=%d error=%s", len(lines) - start, error)
                return

    def _told(self, job_id: UUID, waiting: _Waiting) -> list[JobLog]:
        if not waiting.more:
            return waiting.lines
        number = waiting.more.total()
        often = ", ".join(f"{times} x {message[:100]}" for message, times in waiting.more.most_common(5))
        summary = JobLog(
            job_id=job_id,
            timestamp=self._now(),
            level=waiting.level,
            message=f"{number} more lines: {often}".replace("\0", ""),
            fields={"left_out": number},
        )
        return [*waiting.lines, summary]
