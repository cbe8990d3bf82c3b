"""Messages to whoever watches the jobs that they are about; nobody may be there to hear them."""

from collections.abc import MutableMapping, Sequence
from contextlib import ExitStack
from uuid import UUID

from tallyho_contracts.jobs import JobState
from tallyho_contracts.logs import JobLog
from tallyho_contracts.registry import TYPE_OF
from tallyho_process.traces import caused_by, traceparent_of, tracer

from tallyho_messaging.publisher import Publisher
from tallyho_messaging.wire import event_of

# By job, the `traceparent` of the last event that changed it and whose trace is kept, until that is announced.
Causes = MutableMapping[UUID, str]


async def announce(
    publisher: Publisher, source: str, told: Sequence[JobState] | Sequence[JobLog], causes: Causes | None = None
) -> None:
    """Publish states or log lines, of one kind, as one message that reaches the watchers of each of their jobs once.

    Raises PublishFailedError; a message that nobody listens to is no failure.
    """
    row = TYPE_OF[type(told[0])]
    keys = list(dict.fromkeys(f"{row.name}.{one.job_id}" for one in told))
    with ExitStack() as spans:
        events = [
            event_of(
                one,
                source=source,
                subject=one.job_id,
                time=one.timestamp,
                traceparent=_traced(spans, row.name, one.job_id, causes) if causes else None,
            )
            for one in told
        ]
        await publisher.publish_events(
            row.exchange or "",
            keys[0],
            row.name,
            [event.id for event in events],
            [event.model_dump_json().encode() for event in events],
            also_to=keys[1:],
            mandatory=False,
        )


def _traced(spans: ExitStack, type_: str, job_id: UUID, causes: Causes) -> str | None:
    """Begin a span that ends with `spans`, when what is told has a cause; returns what the event carries."""
    if (cause := causes.pop(job_id, None)) is None:
        return None
    span = tracer.start_span(f"announce {type_}", caused_by(cause), attributes={"job": str(job_id)})
    spans.callback(span.end)
    return traceparent_of(span)
