"""The tracker's commands to the crawler, as rows of the outbox."""

from datetime import datetime
from uuid import UUID

from tallyho_contracts.event import Message
from tallyho_contracts.registry import TYPE_OF
from tallyho_messaging.wire import event_of
from tallyho_postgres.outbox import OutboxEvent

SOURCE = "job-tracker"


def crawl_command(data: Message, job_id: UUID, now: datetime) -> OutboxEvent:
    """`data` as an event about job `job_id`, addressed to the exchange of its type."""
    row = TYPE_OF[type(data)]
    event = event_of(data, source=SOURCE, subject=job_id, time=now)
    return OutboxEvent(event.id, row.exchange or "", row.name, row.name, event.model_dump_json().encode())
