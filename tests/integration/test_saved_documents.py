"""What the crawler answers when it is asked what it saved, over the real broker."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import pytest
from crawler import documents, store, urls
from crawler.frontier import DocumentContent, Lane, QueuedPage, Visit
from crawler.requests import BATCH_BYTES, answer
from mailboxes import open_mailbox_of
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import (
    DocumentGet,
    DocumentsGet,
    SavedDocumentList,
    SavedDocumentsQuery,
    StoredDocument,
    StoredDocuments,
)
from tallyho_contracts.pages import Outcome
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.connection import Amqp
from tallyho_messaging.requests import Requester, RequestRefused, serve
from tallyho_messaging.topology import CRAWLER_COMMANDS, CRAWLER_REQUESTS
from tallyho_postgres.pool import Pool

DOCUMENTS_READ = (
    "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'job_documents'::regclass"
)


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


async def test_page_of_a_long_list_of_saved_documents_reads_no_others(crawler_pool: Pool) -> None:
    job_id = uuid4()
    async with crawler_pool.acquire() as connection, connection.transaction():
        for setting in store.PLANNER.items():
            await connection.execute("SELECT set_config($1, $2, true)", *setting)
        await connection.execute(
            "INSERT INTO job_documents SELECT $1, gen_random_uuid() FROM generate_series(1, 10000)", job_id
        )
        before = await connection.fetchval(DOCUMENTS_READ)
        listed = await documents.list_job_documents(connection, job_id, after=UUID(int=2**127), limit=10)
        read = await connection.fetchval(DOCUMENTS_READ) - before

    assert len(listed) == 10
    assert read < 100


async def test_job_that_the_crawler_does_not_know_has_no_documents(amqp: Amqp, crawler: Pool) -> None:
    async with Requester.open(amqp) as requester:
        reply = await ask(requester, uuid4())

    assert reply == SavedDocumentList(document_ids=())


async def test_request_does_not_reach_the_commands(amqp: Amqp, amqp_url: str, crawler: Pool) -> None:
    async with open_mailbox_of(amqp_url, CRAWLER_COMMANDS) as commands, Requester.open(amqp) as requester:
        await ask(requester, uuid4())

        assert commands.is_empty


NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)


async def save_page(pool: Pool, url: str, content: str, html: str | None = None) -> UUID:
    """Save a page as a worker does; returns the document's id."""
    kept = DocumentContent(
        title="Title",
        content=content,
        links=("https://example.com/a", "https://example.com/b"),
        content_hash="0f",
        status_code=203,
        content_type="text/html; charset=utf-8",
        etag='"1"',
        last_modified=None,
        description="A summary",
        language="en",
        metadata={"author": "A. Author"},
        html=None if html is None else zlib.compress(html.encode()),
    )
    lane = Lane(uuid4(), urls.origin(url), 0, 1, CrawlOptions())
    page = QueuedPage(lane, depth=0, seq=0, page_id=uuid4(), url=url, redirects=0, attempts=0)
    async with pool.acquire() as connection, connection.transaction():
        await documents.save_documents(connection, [Visit(page, Outcome.COMPLETED, document=kept)], at=NOON)
    return urls.document_id(url)


async def get_many(requester: Requester, *document_ids: UUID) -> StoredDocuments:
    reply = await requester.request(DocumentsGet(document_ids=document_ids), subject=UUID(int=0), timeout=10)
    assert isinstance(reply, StoredDocuments)
    return reply


async def test_document_is_returned_with_all_that_is_kept(amqp: Amqp, crawler: Pool) -> None:
    document_id = await save_page(crawler, "https://example.com/", "# Title\n\n“Näh” 🦊")
    async with Requester.open(amqp) as requester:
        reply = await requester.request(DocumentGet(document_id=document_id), subject=UUID(int=0), timeout=10)

    assert reply == StoredDocument(
        document_id=document_id,
        url="https://example.com/",
        title="Title",
        content="# Title\n\n“Näh” 🦊",
        links=("https://example.com/a", "https://example.com/b"),
        content_hash="0f",
        status_code=203,
        content_type="text/html; charset=utf-8",
        etag='"1"',
        description="A summary",
        language="en",
        metadata={"author": "A. Author"},
        created_at=NOON,
        saved_at=NOON,
    )


async def get(requester: Requester, document_id: UUID) -> StoredDocument:
    reply = await requester.request(DocumentGet(document_id=document_id, html=True), subject=UUID(int=0), timeout=10)
    assert isinstance(reply, StoredDocument)
    return reply


async def test_source_of_a_page_is_returned_where_it_was_kept_and_is_asked_for(amqp: Amqp, crawler: Pool) -> None:
    html = "<!doctype html><p>Näh 🦊"
    kept = await save_page(crawler, "https://example.com/kept", "text", html)
    not_kept = await save_page(crawler, "https://example.com/not", "text")
    async with Requester.open(amqp) as requester:
        [unasked] = (await get_many(requester, kept)).documents
        sources = [(await get(requester, one)).html for one in (kept, not_kept)]

    assert unasked.html is None
    assert sources == [html, None]


async def test_source_too_large_for_a_message_is_cut_off(amqp: Amqp, crawler: Pool) -> None:
    document_id = await save_page(crawler, "https://example.com/", "text", "<p>" + "\n" * 9_000_000)
    async with Requester.open(amqp) as requester:
        reply = await get(requester, document_id)

    assert reply.truncated
    assert reply.html is not None
    assert reply.content == "text"
    assert 3_000_000 < len(reply.html) < 3_200_000  # half of 12 MiB as JSON


async def test_document_that_is_not_stored_is_refused(amqp: Amqp, crawler: Pool) -> None:
    async with Requester.open(amqp) as requester:
        with pytest.raises(RequestRefused) as refusal:
            await requester.request(DocumentGet(document_id=uuid4()), subject=UUID(int=0), timeout=10)

    assert refusal.value.refused.code is ErrorCode.NOT_FOUND


async def test_documents_come_in_the_order_asked_for(amqp: Amqp, crawler: Pool) -> None:
    saved = [await save_page(crawler, f"https://example.com/{number}", "text") for number in range(50)]
    asked = [*reversed(saved), uuid4(), saved[0]]
    async with Requester.open(amqp) as requester:
        reply = await get_many(requester, *asked)

    assert [document.document_id for document in reply.documents] == [*reversed(saved), saved[0]]
    assert reply.answered == len(asked)


async def test_reply_is_of_moderate_size_and_says_where_to_go_on(amqp: Amqp, crawler: Pool) -> None:
    half = "x" * (BATCH_BYTES // 2)
    sizes = ["short", half, half, "x" * (BATCH_BYTES * 2), "short", "short"]
    asked = [await save_page(crawler, f"https://example.com/{number}", text) for number, text in enumerate(sizes)]
    replies: list[StoredDocuments] = []
    async with Requester.open(amqp) as requester:
        while (answered := sum(reply.answered for reply in replies)) < len(asked):
            replies.append(await get_many(requester, *asked[answered:]))

    assert [[len(one.content) for one in reply.documents] for reply in replies] == [
        [5, len(half)],
        [len(half)],
        [BATCH_BYTES * 2],
        [5, 5],
    ]
    assert not any(one.truncated for reply in replies for one in reply.documents)


async def test_document_too_large_for_a_message_is_cut_off(amqp: Amqp, crawler: Pool) -> None:
    document_id = await save_page(crawler, "https://example.com/", "\n" * 9_000_000)
    async with Requester.open(amqp) as requester:
        reply = await requester.request(DocumentGet(document_id=document_id), subject=UUID(int=0), timeout=10)

    assert reply.truncated
    assert 6_000_000 < len(reply.content) < 6_300_000  # 12 MiB as JSON
