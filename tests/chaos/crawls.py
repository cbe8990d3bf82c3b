"""Crawls that run while faults are injected, watched as a client watches them."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from traceback import extract_tb
from uuid import UUID

import asyncpg
from chaos.stage import Stage
from crawling import check_every_state
from tallyho.client import Tallyho
from tallyho.errors import TallyhoError
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.jobs import JobState, JobStatus

LONGEST_SECONDS = 240.0
AWAY_SECONDS = 120.0


@dataclass
class Crawl:
    """A crawl of a site of which `expected` documents are to be counted, and the faults that it met."""

    expected: int
    options: CrawlOptions = field(default_factory=CrawlOptions)
    job_id: UUID | None = None
    states: list[JobState] = field(default_factory=list)
    faults: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    async def run(self, stage: Stage, seed: str, *, patience: float) -> None:
        """Submit the crawl and watch it to its end.

        It is given up when for `patience` seconds nothing was heard of it and nothing was left to be done for it.
        """
        try:
            async with Tallyho(stage.system.url, patience=AWAY_SECONDS, first_patience=AWAY_SECONDS) as client:
                self.job_id = (await client.create_job([seed], options=self.options)).job_id
                await self._watch(client, stage, patience)
        except TallyhoError as error:
            self.problems.append(f"the client gave up: {error}")
        if not self.problems:
            self.problems += complaints(self.states)

    async def _watch(self, client: Tallyho, stage: Stage, patience: float) -> None:
        watching = asyncio.create_task(self._collect(client))
        heard, deadline = -1, asyncio.get_running_loop().time() + LONGEST_SECONDS
        try:
            while not (await asyncio.wait([watching], timeout=patience))[0]:
                is_late = asyncio.get_running_loop().time() > deadline
                if is_late or (heard == len(self.states) and not await self._is_anything_left(stage)):
                    self.problems.append(f"never ended: {self.last_words}")
                    return
                heard = len(self.states)
            await watching
        finally:
            watching.cancel()

    async def _collect(self, client: Tallyho) -> None:
        assert self.job_id is not None
        async for state in client.watch(self.job_id):
            self.states.append(state)

    async def _is_anything_left(self, stage: Stage) -> bool:
        with suppress(OSError, asyncpg.PostgresError):
            async with stage.sql() as connection:
                return bool(
                    await connection.fetchval(
                        "SELECT EXISTS (SELECT FROM crawler.outbox) OR EXISTS (SELECT FROM job_tracker.outbox)"
                        " OR EXISTS (SELECT FROM crawler.queue WHERE job_id = $1)",
                        self.job_id,
                    )
                )
        return True

    @property
    def last_words(self) -> str:
        """The last state that was heard of."""
        if not self.states:
            return "no state was ever seen"
        last = self.states[-1]
        return f"{last.status}, {last.document_count} documents, {last.progress_text}"


def complaints(states: Sequence[JobState]) -> list[str]:
    """What is wrong with the states of a crawl that ended."""
    try:
        check_every_state(states)
    except AssertionError as error:
        broken = extract_tb(error.__traceback__)[-1]
        return [f"a state broke a promise: {broken.line}"]
    if states[-1].status is not JobStatus.COMPLETED:
        return [f"ended as {states[-1].status}: {states[-1].error}"]
    return []
