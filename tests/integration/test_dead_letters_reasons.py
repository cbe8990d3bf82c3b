"""What can't be read or applied is kept as a dead letter that says why; good events beside and behind it go on."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from consumers import Applied, consuming
from job_tracker.handlers import on_events
from links import open_link
from mailboxes import Mailbox, encoded, open_mailbox_of, page_started, send, send_raw
from tallyho_contracts.event import BATCH_CONTENT_TYPE, EVENT_CONTENT_TYPE
from tallyho_contracts.jobs import JobGet, JobStatus
from tallyho_contracts.registry import EVENTS
from tallyho_messaging.connection import Amqp, open_amqp
from tallyho_messaging.dead_letters import EXCHANGE, QUEUE, REASON, ROUTING_KEY
from tallyho_messaging.topology import DEAD_LETTERS, TRACKER_EVENTS
from tallyho_messaging.wire import AnyEvent, event_of
from tallyho_postgres.pool import Pool
from tracking import Tracker, crawler_event, finished, saved, started


@pytest.fixture
async def letters(amqp_url: str) -> AsyncIterator[Mailbox]:
    async with open_mailbox_of(amqp_url, DEAD_LETTERS) as letters:
        yield letters


def changed(**fields: object) -> bytes:
    """A good event with other fields."""
    return json.dumps(page_started().model_dump(mode="json") | fields).encode()


@pytest.mark.parametrize(
    ("key", "body", "content_type", "reason"),
    [
        ("page.started.v1", b"no json", EVENT_CONTENT_TYPE, "body: Invalid JSON"),
        ("page.started.v1", b"no json", BATCH_CONTENT_TYPE, "not JSON"),
        ("page.vanished.v1", changed(type="page.vanished.v1"), EVENT_CONTENT_TYPE, "unknown type 'page.vanished.v1'"),
        ("page.started.v9", changed(type="page.started.v9"), EVENT_CONTENT_TYPE, "unknown type 'page.started.v9'"),
        ("page.started.v1", changed(data={"page_ids": []}), EVENT_CONTENT_TYPE, "data.parent_job_id: Field required"),
        ("page.started.v1", changed(source="nul \0"), EVENT_CONTENT_TYPE, "source: String should match pattern"),
    ],
    ids=["not JSON", "no batch", "unknown type", "unknown version", "wrong field", "NUL"],
)
async def test_unreadable_message_is_kept_with_its_reason_and_its_neighbours_are_applied(
    amqp: Amqp, letters: Mailbox, key: str, body: bytes, content_type: str, reason: str
) -> None:
    handle, beside, behind = Applied(), page_started(), page_started()
    await send(amqp, EVENTS, beside)
    await send_raw(amqp, EVENTS, key, body, content_type=content_type)
    await send(amqp, EVENTS, behind)

    async with consuming(amqp, handle):
        await handle.until(beside, behind)
        [letter] = await letters.receive()

    assert letter.body == body
    assert str(letter.headers[REASON]).startswith(reason)
    assert origin(letter.headers) == (TRACKER_EVENTS, EVENTS, key)
    assert (letter.type, letter.delivery_mode) == (key, 2)
    assert letters.is_empty


async def test_bad_event_of_a_batch_is_kept_alone(amqp: Amqp, letters: Mailbox) -> None:
    handle, first, last = Applied(), page_started(), page_started()
    bad = changed(subject="nobody")
    body = b"[" + b",".join((encoded(first), bad, encoded(last))) + b"]"

    async with consuming(amqp, handle):
        await send_raw(amqp, EVENTS, first.type, body, content_type=BATCH_CONTENT_TYPE)
        await handle.until(first, last)
        [letter] = await letters.receive()

    assert json.loads(letter.body) == json.loads(bad)
    assert letter.content_type == EVENT_CONTENT_TYPE
    assert str(letter.headers[REASON]).startswith("subject: Input should be a valid UUID")
    assert handle.ids == [first.id, last.id]


async def test_event_that_keeps_failing_is_kept_after_three_attempts_and_its_neighbours_are_applied(
    amqp: Amqp, letters: Mailbox
) -> None:
    events = [page_started() for _ in range(7)]
    poison, attempts = events[3], 0

    def fail(batch: Sequence[AnyEvent]) -> None:
        nonlocal attempts
        if poison in batch:
            attempts += len(batch) == 1
            raise ValueError("can't be applied")

    handle = Applied(fail)
    async with consuming(amqp, handle):
        await send(amqp, EVENTS, *events)
        await handle.until(*(event for event in events if event is not poison))
        [letter] = await letters.receive()

    assert attempts == 3
    assert letter.body == encoded(poison)
    assert letter.headers[REASON] == "ValueError: can't be applied"
    assert origin(letter.headers) == (TRACKER_EVENTS, EVENTS, poison.type)
    assert sorted(handle.ids) == sorted(event.id for event in events if event is not poison)


async def test_failure_that_passes_by_itself_leaves_no_dead_letter(amqp: Amqp, letters: Mailbox) -> None:
    failures = iter([ValueError("first"), ValueError("second")])

    def fail(_: Sequence[AnyEvent]) -> None:
        if error := next(failures, None):
            raise error

    handle, event = Applied(fail), page_started()
    async with consuming(amqp, handle):
        await send(amqp, EVENTS, event)
        await handle.until(event)

    assert handle.ids == [event.id]
    assert letters.is_empty


async def test_tracker_counts_what_is_good_around_an_event_that_is_not_for_it(
    amqp: Amqp, letters: Mailbox, tracker_pool: Pool
) -> None:
    tracker = Tracker(tracker_pool)
    job_id = await tracker.create()
    misplaced = event_of(JobGet(job_id=job_id), source="ws-gateway", subject=job_id)
    good = [crawler_event(one) for one in (started(job_id, "a"), saved(job_id, "a"), finished(job_id, "a"))]
    handle = Applied(lambda events: on_events(tracker.deps, events))
    for event in (good[0], good[1]):
        await send(amqp, EVENTS, event)
    await send_raw(amqp, EVENTS, "page.lost", encoded(misplaced))
    await amqp.publisher.publish_events(EVENTS, "page.lost", misplaced.type, [misplaced.id], [encoded(misplaced)])
    await send(amqp, EVENTS, good[2])

    async with consuming(amqp, handle):
        await handle.until(*good)
        kept = await letters.receive(2)

    job = await tracker.job(job_id)
    reasons = {str(letter.headers[REASON]) for letter in kept}
    assert (job.status, job.document_count) == (JobStatus.COMPLETED, 1)
    assert reasons == {"unknown type 'page.lost'", "TypeError: JobGet is no event of the crawler"}


async def test_dead_letter_waits_until_it_can_be_published(amqp_url: str, amqp: Amqp, letters: Mailbox) -> None:
    event, failed = page_started(), asyncio.Event()

    def fail(_: Sequence[AnyEvent]) -> None:
        failed.set()
        raise ValueError("can't be applied")

    async with open_link(amqp_url) as link, open_amqp(link.url, name="test") as away:
        link.cut()
        async with consuming(Amqp("test", amqp.consuming, away.publisher), Applied(fail)):
            await send(amqp, EVENTS, event)
            async with asyncio.timeout(10):
                await failed.wait()
            await link.mend()
            [letter] = await letters.receive()

    assert letter.body == encoded(event)
    assert letter.headers[REASON] == "ValueError: can't be applied"


async def test_very_long_reason_is_cut(amqp: Amqp, letters: Mailbox) -> None:
    def fail(_: Sequence[AnyEvent]) -> None:
        raise ValueError("x" * 100_000)

    async with consuming(amqp, Applied(fail)):
        await send(amqp, EVENTS, page_started())
        [letter] = await letters.receive()

    assert len(str(letter.headers[REASON])) == 1000


def origin(headers: Any) -> tuple[str, str, str]:
    return headers[QUEUE], headers[EXCHANGE], headers[ROUTING_KEY]
