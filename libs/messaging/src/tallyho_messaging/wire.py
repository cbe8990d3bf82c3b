"""Events to bytes and back. What comes from the wire is checked here and nowhere else."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from pydantic import TypeAdapter, ValidationError
from tallyho_contracts.event import BATCH_CONTENT_TYPE, Event, Message, event_model, new_event
from tallyho_contracts.registry import MESSAGES, TYPE_OF

AnyEvent = Event[Any]


@dataclass(frozen=True)
class Malformed:
    """What was received instead of an event, and why it is none."""

    body: bytes
    reason: str


def event_of(
    data: Message, *, source: str, subject: UUID, time: datetime | None = None, traceparent: str | None = None
) -> AnyEvent:
    """Wrap `data` in a new event of its registered type."""
    name = TYPE_OF[type(data)].name
    return new_event(
        data,
        type_=name,
        id_=uuid4(),
        source=f"/{source}",
        subject=subject,
        time=time or datetime.now(UTC),
        traceparent=traceparent,
    )


def decode(body: bytes, content_type: str | None, type_: str | None) -> list[AnyEvent | Malformed]:
    """Read the events of one message. An event that is none is returned as `Malformed`; its neighbours are kept."""
    if content_type == BATCH_CONTENT_TYPE:
        return _decode_batch(body, type_)
    return [_decode_one(body, type_)]


def _decode_batch(body: bytes, type_: str | None) -> list[AnyEvent | Malformed]:
    if type_ in MESSAGES:
        try:
            events = _batch_adapter(type_).validate_json(body)
        except ValidationError:
            pass  # one at a time below, to keep the good ones
        else:
            if all(event.type == type_ for event in events):
                return list(events)
    try:
        items = json.loads(body)
        if not isinstance(items, list):
            return [Malformed(body, "a batch must be a JSON array of events")]
        bodies = [json.dumps(item).encode() for item in items]
    except (ValueError, RecursionError) as error:
        return [Malformed(body, f"not JSON: {error}")]
    return [_decode_one(one, None) for one in bodies]


def _decode_one(body: bytes, type_: str | None) -> AnyEvent | Malformed:
    try:
        name = type_ or json.loads(body)["type"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return Malformed(body, "not a JSON object with a type")
    if not isinstance(name, str) or name not in MESSAGES:
        return Malformed(body, f"unknown type {str(name)[:100]!r}")
    try:
        event = _adapter(name).validate_json(body)
    except ValidationError as error:
        return Malformed(body, "; ".join(_in_words(error)))
    if event.type != name:
        return Malformed(body, f"the message says {name!r}, its event {event.type[:100]!r}")
    return event


def _in_words(error: ValidationError) -> Sequence[str]:
    first = error.errors(include_url=False, include_input=False)[:5]
    return [f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in first]


@cache
def _adapter(name: str) -> TypeAdapter[AnyEvent]:
    return TypeAdapter(event_model(MESSAGES[name].data))


@cache
def _batch_adapter(name: str) -> TypeAdapter[list[AnyEvent]]:
    return TypeAdapter(list[event_model(MESSAGES[name].data)])  # type: ignore[misc, arg-type]  # the model is known at run time only
