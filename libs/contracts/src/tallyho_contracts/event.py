"""The envelope of every message: a CloudEvents 1.0 event in structured JSON mode.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and its JSON format.
"""

from datetime import datetime
from functools import cache
from typing import Annotated, Generic, Literal, TypeVar, cast
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

EVENT_CONTENT_TYPE = "application/cloudevents+json"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"

# PostgreSQL stores no NUL in text: a message that carries one is refused where it enters.
NO_NUL = r"^[^\x00]*$"
Text = Annotated[str, StringConstraints(pattern=NO_NUL)]
Url = Annotated[str, StringConstraints(pattern=NO_NUL, min_length=1, max_length=2048)]

# Nor a number that its columns can't hold.
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
SmallCount = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Message(BaseModel):
    """What all messages share: frozen; a reader ignores the fields that a newer writer added."""

    model_config = ConfigDict(frozen=True, extra="ignore")


DataT = TypeVar("DataT", bound=Message)


class Event(Message, Generic[DataT]):
    """One CloudEvent. `subject` is the parent job's id, `type` carries the version of `data`."""

    specversion: Literal["1.0"] = "1.0"
    id: UUID
    source: Annotated[Text, Field(min_length=1)]
    type: Annotated[Text, Field(min_length=1)]
    subject: UUID
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: Annotated[Text, Field(min_length=1)]
    traceparent: Annotated[Text | None, Field(description="W3C Trace Context of what caused this event.")] = None
    data: DataT


@cache
def event_model(data: type[DataT]) -> type[Event[DataT]]:
    """The model of an event that carries `data`, for a model that is known at run time only."""
    return cast("type[Event[DataT]]", Event.__class_getitem__(data))


def schema_address(type_: str) -> str:
    """The `dataschema` of a type, and the `$id` of schemas/<type>.json. CloudEvents wants an absolute URI here."""
    return f"tallyho:/schemas/{type_}.json"


def new_event(
    data: DataT, *, type_: str, id_: UUID, source: str, subject: UUID, time: datetime, traceparent: str | None = None
) -> Event[DataT]:
    """Wrap `data` in its envelope; the schema's address follows from the type."""
    return event_model(type(data))(
        id=id_,
        source=source,
        type=type_,
        subject=subject,
        time=time,
        dataschema=schema_address(type_),
        traceparent=traceparent,
        data=data,
    )
