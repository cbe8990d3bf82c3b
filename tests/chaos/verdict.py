"""What must be true once all crawls have ended: the documents saved, counted and numbered are the same, and no more."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from chaos.crawls import Crawl
from chaos.stage import Stage
from tallyho_messaging.topology import DEAD_LETTERS

SETTLE_SECONDS = 90.0

JOBS = """
SELECT job_id, status, revision, document_count,
    (SELECT count(*) FROM job_tracker.job_documents AS d WHERE d.parent_job_id = jobs.job_id) AS counted,
    (SELECT coalesce(max(ordinal), 0) FROM job_tracker.job_documents AS d WHERE d.parent_job_id = jobs.job_id) AS last,
    (SELECT count(*) FROM job_tracker.job_documents AS d
        WHERE d.parent_job_id = jobs.job_id AND d.content_hash IS NULL) AS undescribed,
    (SELECT count(*) FROM crawler.job_documents AS s WHERE s.job_id = jobs.job_id) AS saved,
    (SELECT count(*) FROM crawler.job_documents AS s WHERE s.job_id = jobs.job_id AND NOT EXISTS (
        SELECT FROM job_tracker.job_documents AS d
        WHERE d.parent_job_id = jobs.job_id AND d.document_id = s.document_id)) AS uncounted,
    (SELECT count(*) FROM job_tracker.pages AS p WHERE p.parent_job_id = jobs.job_id AND p.state < 2)
        + (SELECT count(*) FROM crawler.queue AS q WHERE q.job_id = jobs.job_id) AS unfinished,
    (SELECT count(*) FROM crawler.seen AS s WHERE s.job_id = jobs.job_id AND s.reason IS NULL) AS met,
    (SELECT count(*) FROM job_tracker.pages AS p WHERE p.parent_job_id = jobs.job_id) AS pages
FROM job_tracker.jobs
"""
OUTBOXES = "SELECT (SELECT count(*) FROM crawler.outbox) + (SELECT count(*) FROM job_tracker.outbox)"


@dataclass
class Verdict:
    """How many documents were lost, how many counted twice, by fault that their crawl met, and what else is wrong."""

    lost: dict[str, int] = field(default_factory=dict)
    twice: dict[str, int] = field(default_factory=dict)
    documents: int = 0
    problems: list[str] = field(default_factory=list)

    def judge(self, crawl: Crawl, job: Any) -> None:
        """Compare a crawl with what the services have of it."""
        numbers = (job["saved"], job["counted"], job["document_count"])
        lost = max(crawl.expected - min(numbers), job["uncounted"])
        twice = max(max(numbers) - crawl.expected, job["document_count"] - job["counted"], 0)
        self.documents += job["document_count"]
        for fault in crawl.faults or {NO_FAULT}:
            self.lost[fault] = self.lost.get(fault, 0) + lost
            self.twice[fault] = self.twice.get(fault, 0) + twice
        wrong = list(crawl.problems)
        if lost or twice:
            wrong.append(f"expected {crawl.expected}, saved {numbers[0]}, counted {numbers[1]}, shown {numbers[2]}")
        if job["last"] != job["counted"]:
            wrong.append(f"the last ordinal is {job['last']}, of {job['counted']} documents")
        if job["undescribed"]:
            wrong.append(f"document.saved of {job['undescribed']} documents never arrived")
        if job["unfinished"]:
            wrong.append(f"{job['unfinished']} pages are unfinished")
        if job["met"] != job["pages"]:
            wrong.append(f"{job['met']} URLs became pages, {job['pages']} have a state")
        if not crawl.problems and job["revision"] != crawl.states[-1].revision:
            wrong.append(f"it changed after its terminal state, to {job['status']} at revision {job['revision']}")
        self.problems += [f"job {crawl.job_id}: {one}" for one in wrong]


NO_FAULT = "(no fault)"


async def reach_verdict(stage: Stage, crawls: Sequence[Crawl]) -> Verdict:
    """Wait until everything that was committed is published, and judge all crawls."""
    verdict = Verdict()
    verdict.problems += await _outbox_problems(stage)
    async with stage.sql() as connection:
        jobs = {row["job_id"]: row for row in await connection.fetch(JOBS)}
    for crawl in crawls:
        if crawl.job_id in jobs:
            verdict.judge(crawl, jobs.pop(crawl.job_id))
        else:
            problems = crawl.problems or [f"job {crawl.job_id} was seen to end, and is gone"]
            verdict.problems += [f"a crawl has no job: {problem}" for problem in problems]
    verdict.problems += [f"job {job_id} was asked for by nobody, or twice" for job_id in jobs]
    verdict.problems += await _dead_letter_problems(stage)
    verdict.problems += stage.complaints
    return verdict


async def _outbox_problems(stage: Stage) -> list[str]:
    async with stage.sql() as connection:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while await connection.fetchval(OUTBOXES):
                    await asyncio.sleep(0.2)  # a table can't be awaited
        except TimeoutError:
            return [f"{await connection.fetchval(OUTBOXES)} events are still in an outbox after {SETTLE_SECONDS:g} s"]
    return []


async def _dead_letter_problems(stage: Stage) -> list[str]:
    """The dead-letter queue must hold the poison and nothing else; a crash may have buried a message twice."""
    letters: set[bytes] = set()
    async with stage.channel() as channel:
        queue = await channel.declare_queue(DEAD_LETTERS, passive=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while (letter := await queue.get(no_ack=True, fail=False)) or not letters >= stage.poison:
                    if letter:
                        letters.add(letter.body)
                    else:
                        await asyncio.sleep(0.1)  # what a dying service held comes again
    missing, innocent = stage.poison - letters, letters - stage.poison
    stage.poison.clear()
    kinds = {"of the poison is not among the dead letters": missing, "innocent among the dead letters": innocent}
    return [f"{len(bodies)} {what}, such as {min(bodies)[:300]!r}" for what, bodies in kinds.items() if bodies]
