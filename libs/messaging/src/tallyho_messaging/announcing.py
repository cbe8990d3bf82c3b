"""Messages to whoever watches the jobs that they are about; nobody may be there to hear them."""

from collections.abc import Sequence

from tallyho_contracts.jobs import JobState
from tallyho_contracts.logs import JobLog
from tallyho_contracts.registry import TYPE_OF

from tallyho_messaging.publisher import Publisher
from tallyho_messaging.wire import event_of


async def announce(publisher: Publisher, source: str, told: Sequence[JobState] | Sequence[JobLog]) -> None:
    """Publish states or log lines, of one kind, as one message that reaches the watchers of each of their jobs once.

    Raises PublishFailedError; a message that nobody listens to is no failure.
    """
    row = TYPE_OF[type(told[0])]
    events = [event_of(one, source=source, subject=one.job_id, time=one.timestamp) for one in told]
    keys = list(dict.fromkeys(f"{row.name}.{one.job_id}" for one in told))
    await publisher.publish_events(
        row.exchange or "",
        keys[0],
        row.name,
        [event.id for event in events],
        [event.model_dump_json().encode() for event in events],
        also_to=keys[1:],
        mandatory=False,
    )
