"""The events that are measured: documents that a crawler saved, in the messages in which its relay sends them."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import cycle, islice
from uuid import UUID, uuid4

from tallyho_contracts.documents import Change, DocumentSaved
from tallyho_contracts.registry import EVENTS, TYPE_OF
from tallyho_messaging.publisher import Publisher
from tallyho_messaging.wire import event_of
from tallyho_postgres.outbox import OutboxEvent, in_batches

TYPE = TYPE_OF[DocumentSaved].name
# Stands in an event that is made ahead of time for the moment at which it is offered.
LATER = datetime(2000, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
MESSAGES_AT_ONCE = 50


def documents_saved(jobs: Sequence[UUID], count: int) -> list[OutboxEvent]:
    """`count` events, each of another document, dealt to `jobs` in turn."""
    return [_document_saved(job_id, number) for number, job_id in enumerate(islice(cycle(jobs), count))]


def _document_saved(job_id: UUID, number: int) -> OutboxEvent:
    saved = DocumentSaved(
        job_id=uuid4(),
        parent_job_id=job_id,
        document_id=uuid4(),
        source_url=f"https://docs.example.org/guide/chapter-{number}.html",
        title=f"Chapter {number} - The guide",
        content_hash=uuid4().hex * 2,
        change=Change.CREATED,
        timestamp=LATER,
    )
    event = event_of(saved, source="crawler", subject=job_id)
    return OutboxEvent(event.id, EVENTS, TYPE, TYPE, event.model_dump_json().encode())


def stamped(event: OutboxEvent, at: float) -> OutboxEvent:
    """The event as of time `at` (seconds since 1970)."""
    made, now = (f"{when:%Y-%m-%dT%H:%M:%S.%fZ}".encode() for when in (LATER, datetime.fromtimestamp(at, UTC)))
    return event._replace(body=event.body.replace(made, now))


async def publish(publisher: Publisher, events: Sequence[OutboxEvent], *, one_a_message: bool = False) -> int:
    """Publish as `Relay` does, or one event a message; returns how many messages that took."""
    messages: Iterable[Sequence[OutboxEvent]] = [[event] for event in events] if one_a_message else in_batches(events)
    sent = 0
    waiting = list(messages)
    for start in range(0, len(waiting), MESSAGES_AT_ONCE):
        some = waiting[start : start + MESSAGES_AT_ONCE]
        await asyncio.gather(*(_send(publisher, message) for message in some))
        sent += len(some)
    return sent


async def _send(publisher: Publisher, message: Sequence[OutboxEvent]) -> None:
    head = message[0]
    ids, bodies = [event.event_id for event in message], [event.body for event in message]
    await publisher.publish_events(head.exchange, head.routing_key, head.type, ids, bodies)
