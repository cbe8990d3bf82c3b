"""What the end-to-end and the chaos tests share: a crawl watched to its end, every state of it checked."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import asyncpg
from tallyho.client import Tallyho
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import Document
from tallyho_contracts.jobs import JobState
from tallyho_contracts.urls import is_reason

LONGEST_CRAWL_SECONDS = 240.0


async def crawl(gateway: str, seed: str, **options: object) -> list[JobState]:
    """Submit a crawl of `seed` and return all its states, to the terminal one."""
    async with Tallyho(gateway, first_patience=60) as client:
        job = await client.create_job([seed], options=CrawlOptions.model_validate(options))
        async with asyncio.timeout(LONGEST_CRAWL_SECONDS):
            return [state async for state in client.watch(job.job_id)]


async def documents(gateway: str, states: Sequence[JobState]) -> list[Document]:
    """The documents of a crawl, as the API lists them."""
    async with Tallyho(gateway) as client:
        return [document async for document in client.documents(states[-1].job_id)]


def check_every_state(states: Sequence[JobState]) -> None:
    """The promises that hold in each state of a job, and from one state to the next."""
    for state in states:
        by_state = (
            state.pending_children
            + state.running_children
            + state.completed_children
            + state.failed_children
            + state.skipped_children
            + state.cancelled_children
        )
        assert state.total_children == by_state
    for before, after in pairwise(states):
        assert before.revision < after.revision
        assert before.document_count <= after.document_count
        assert not before.status.is_terminal
    assert states[-1].status.is_terminal


async def check_count(gateway: str, database_url: str, states: Sequence[JobState], expected: int) -> None:
    """The count of a finished job is that of its documents, in the API, the tracker's and the crawler's tables."""
    last = states[-1]
    listed = await documents(gateway, states)
    connection = await asyncpg.connect(database_url)
    try:
        saved = await connection.fetchval(
            "SELECT count(*) FROM crawler.job_documents JOIN crawler.documents USING (document_id) WHERE job_id = $1",
            last.job_id,
        )
    finally:
        await connection.close()
    await check_ledger(gateway, last)
    assert last.document_count == expected
    assert [document.ordinal for document in listed] == list(range(1, expected + 1))
    assert len({document.document_id for document in listed}) == expected
    assert all(document.content_hash for document in listed)
    assert saved == expected


async def check_ledger(gateway: str, last: JobState) -> None:
    """Every URL that a finished job met is at its end, for a reason that exists, and in the list once."""
    async with Tallyho(gateway) as client:
        ledger = await client.ledger(last.job_id)
        urls = [url async for url in client.urls(last.job_id)]
    entries = {(entry.state, entry.reason): entry.urls for entry in ledger.entries if not entry.is_page}
    entries_of_pages = {(entry.state, entry.reason): entry.urls for entry in ledger.entries if entry.is_page}
    assert sum(entry.urls for entry in ledger.entries) == ledger.urls_met
    assert sum(entries_of_pages.values()) == last.total_children
    assert all(is_reason(entry.state, entry.reason) for entry in ledger.entries), ledger
    assert len({url.page_id for url in urls}) == len(urls) == ledger.urls_met
    assert Counter((url.state, url.reason) for url in urls) == Counter(entries) + Counter(entries_of_pages)


async def settled(database_url: str) -> bool:
    """Whether every event and command that was committed has been published."""
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(60):
            while await connection.fetchval(
                "SELECT (SELECT count(*) FROM crawler.outbox) + (SELECT count(*) FROM job_tracker.outbox)"
            ):
                await asyncio.sleep(0.2)  # a table can't be awaited
    finally:
        await connection.close()
    return True
