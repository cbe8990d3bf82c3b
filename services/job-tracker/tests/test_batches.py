"""A batch of events, in any order and any number of copies, becomes the same rows."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from uuid import UUID

import pytest
from job_tracker.batches import CANCELLED, PENDING, RUNNING, reduce_events
from tallyho_contracts.crawls import CrawlChanged, CrawlStarted, CrawlStopped
from tallyho_contracts.documents import Change, DocumentSaved
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import JobGet
from tallyho_contracts.pages import Outcome, PageFinished, PageStarted, SpawnedPage

NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
JOB, PAGE, CHILD, DOCUMENT = UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4)
URL = "https://example.com/"
COMPLETED, FAILED = 2, 3


def saved(title: str = "", *, document_id: UUID = DOCUMENT, at: datetime = NOON) -> DocumentSaved:
    return DocumentSaved(
        job_id=PAGE,
        parent_job_id=JOB,
        document_id=document_id,
        source_url=URL,
        title=title,
        content_hash="00",
        change=Change.CREATED,
        timestamp=at,
    )


def finished(outcome: Outcome = Outcome.COMPLETED, *, job_pages: int | None = None) -> PageFinished:
    return PageFinished(
        job_id=PAGE,
        parent_job_id=JOB,
        url=URL,
        depth=1,
        outcome=outcome,
        reason="timeout" if outcome is Outcome.FAILED else None,
        document_id=DOCUMENT if outcome is Outcome.COMPLETED else None,
        spawned=(SpawnedPage(page_id=CHILD, url=f"{URL}child", depth=2),),
        job_pages=job_pages,
        timestamp=NOON,
    )


CLAIMED = PageStarted(parent_job_id=JOB, page_ids=(PAGE, CHILD))
SEEDED = CrawlStarted(parent_job_id=JOB, pages=(SpawnedPage(page_id=PAGE, url=URL, depth=1),))


def test_order_and_copies_change_nothing() -> None:
    for events in permutations([saved("Title"), finished(), CLAIMED, SEEDED, saved("Title")]):
        batch = reduce_events(events)

        states = {key: row["state"] for key, row in batch.pages.items()}
        assert [title for _, _, title, *_ in batch.documents.values()] == ["Title"]
        assert states == {(JOB, PAGE): COMPLETED, (JOB, CHILD): RUNNING}
        assert {row["url"] for row in batch.pages.values()} == {URL, f"{URL}child"}
        assert (batch.started, batch.job_ids) == ({JOB}, {JOB})


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_newer_save_describes_the_document(order: tuple[int, int]) -> None:
    pair = saved("older"), saved("newer", at=NOON + timedelta(seconds=1))

    batch = reduce_events([pair[number] for number in order])

    _, _, title, *_ = batch.documents[JOB, DOCUMENT]
    assert title == "newer"


def test_document_that_only_the_finished_page_named_is_there_without_a_description() -> None:
    batch = reduce_events([finished()])

    assert batch.documents[JOB, DOCUMENT] == (PAGE, URL, "", None, None, NOON.timestamp())


def test_documents_keep_the_order_in_which_they_came() -> None:
    ids = [UUID(int=number) for number in (9, 7, 8)]

    batch = reduce_events([*(saved(document_id=one) for one in ids), saved(document_id=ids[0])])

    assert [document_id for _, document_id in batch.documents] == ids


def test_page_without_a_document_adds_none() -> None:
    batch = reduce_events([finished(Outcome.FAILED)])

    assert batch.documents == {}
    assert (batch.pages[JOB, PAGE]["state"], batch.pages[JOB, PAGE]["reason"]) == (FAILED, "timeout")


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([finished(), finished(Outcome.FAILED)], COMPLETED),
        ([finished(Outcome.FAILED), finished()], FAILED),
        ([CrawlStopped(parent_job_id=JOB, page_ids=(PAGE,)), finished()], CANCELLED),
        ([CrawlStopped(parent_job_id=JOB, page_ids=(PAGE,)), CLAIMED], CANCELLED),
    ],
)
def test_first_end_of_a_page_stays(events: list[Message], state: int) -> None:
    assert reduce_events(events).pages[JOB, PAGE]["state"] == state


def test_found_page_is_pending_with_its_address_and_depth() -> None:
    batch = reduce_events([finished()])

    assert batch.pages[JOB, CHILD] == {"state": PENDING, "url": f"{URL}child", "depth": 2}


def test_crawlers_page_count_is_the_largest_it_told() -> None:
    batch = reduce_events([finished(job_pages=4), finished(job_pages=9), finished(job_pages=5), finished()])

    assert batch.crawler_pages == {JOB: 9}


def test_start_without_a_page_still_concerns_its_job() -> None:
    batch = reduce_events([CrawlStarted(parent_job_id=JOB, pages=())])

    assert (batch.started, batch.job_ids, batch.pages) == ({JOB}, {JOB}, {})


def test_what_is_said_of_other_jobs_stays_when_one_is_left_out() -> None:
    events = [
        saved("Title"),
        finished(job_pages=2),
        CLAIMED,
        SEEDED,
        CrawlChanged(parent_job_id=JOB, revision=3, pages=()),
    ]
    others = [event.model_copy(update={"parent_job_id": UUID(int=9)}) for event in events]

    assert reduce_events([*events, *others]).without({UUID(int=9)}) == reduce_events(events)


def test_what_is_no_event_of_the_crawler_is_refused() -> None:
    with pytest.raises(TypeError, match="JobGet is no event of the crawler"):
        reduce_events([JobGet(job_id=JOB)])
