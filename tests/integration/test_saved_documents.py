"""What the crawler answers when it is asked what it saved for a job, over the real broker."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID, uuid4

import pytest
from crawler.requests import answer
from mailboxes import open_mailbox_of
from tallyho_contracts.documents import SavedDocumentList, SavedDocumentsQuery
from tallyho_messaging.connection import Amqp
from tallyho_messaging.requests import Requester, serve
from tallyho_messaging.topology import CRAWLER_COMMANDS, CRAWLER_REQUESTS
from tallyho_postgres.pool import Pool


@pytest.fixture
async def crawler(amqp: Amqp, crawler_pool: Pool) -> AsyncIterator[Pool]:
    """A crawler that answers; its tables."""
    stop = asyncio.Event()
    serving = asyncio.create_task(
        serve(amqp, CRAWLER_REQUESTS, partial(answer, crawler_pool), is_transient=lambda error: False, stop=stop)
    )
    yield crawler_pool
    stop.set()
    await serving


async def save(pool: Pool, job_id: UUID, number: int) -> list[UUID]:
    """Note documents as the job's; returns their ids in order."""
    ids = sorted(uuid4() for _ in range(number))
    await pool.executemany(
        "INSERT INTO job_documents (job_id, document_id) VALUES ($1, $2)", [(job_id, i) for i in ids]
    )
    return ids


async def ask(requester: Requester, job_id: UUID, **query: object) -> SavedDocumentList:
    request = SavedDocumentsQuery.model_validate({"job_id": job_id, **query})
    reply = await requester.request(request, subject=job_id, timeout=10)
    assert isinstance(reply, SavedDocumentList)
    return reply


async def test_pages_of_saved_documents_hold_each_once_in_order(amqp: Amqp, crawler: Pool) -> None:
    job_id = uuid4()
    saved = await save(crawler, job_id, 25)
    await save(crawler, uuid4(), 5)
    listed: list[UUID] = []
    after: UUID | None = None
    async with Requester.open(amqp) as requester:
        while True:
            page = await ask(requester, job_id, after=after, limit=10)
            listed += page.document_ids
            after = page.next
            if after is None:
                break

    assert listed == saved


async def test_job_that_the_crawler_does_not_know_has_no_documents(amqp: Amqp, crawler: Pool) -> None:
    async with Requester.open(amqp) as requester:
        reply = await ask(requester, uuid4())

    assert reply == SavedDocumentList(document_ids=())


async def test_request_does_not_reach_the_commands(amqp: Amqp, amqp_url: str, crawler: Pool) -> None:
    async with open_mailbox_of(amqp_url, CRAWLER_COMMANDS) as commands, Requester.open(amqp) as requester:
        await ask(requester, uuid4())

        assert commands.is_empty
