"""The WebSocket protocol's frames, in both directions: text, `{"type": …, "payload": …}`."""

import struct
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from tallyho_contracts.jobs import JobState

from ws_gateway.problems import field_errors


class _Frame(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JobToSubscribe(_Frame):
    """Which job to follow, and the newest revision that the client has of it."""

    job_id: UUID
    revision: int | None = Field(default=None, ge=0)


class JobToUnsubscribe(_Frame):
    """Which job to follow no longer."""

    job_id: UUID


class Subscribe(_Frame):
    """From a client: narrow this connection to the jobs it subscribes to, this one among them."""

    type: Literal["subscribe"]
    payload: JobToSubscribe


class Unsubscribe(_Frame):
    """From a client: no more of this job."""

    type: Literal["unsubscribe"]
    payload: JobToUnsubscribe


class Pong(_Frame):
    """From a client: the answer to a ping."""

    type: Literal["pong"]
    payload: dict[str, object] | None = None


FromClient = Annotated[Subscribe | Unsubscribe | Pong, Field(discriminator="type")]
_FROM_CLIENT: TypeAdapter[Subscribe | Unsubscribe | Pong] = TypeAdapter(FromClient)


class Outcome(StrEnum):
    """How a subscription begins: with the job's state, or with the next one because the client has the newest."""

    SNAPSHOT = "snapshot"
    UP_TO_DATE = "up_to_date"


class Subscribed(_Frame):
    """To a client: it follows the job; `revision` is the newest there is."""

    job_id: UUID
    outcome: Outcome
    revision: int


class Unsubscribed(_Frame):
    """To a client: it follows the job no longer."""

    job_id: UUID


class Error(_Frame):
    """To a client: a frame of its own was not carried out. The connection stays open."""

    code: str
    message: str
    field: str | None = None
    job_id: UUID | None = None


class BadFrameError(Exception):
    """A client's frame that can't be used; carries the answer."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


PING = b'{"type":"ping","payload":{}}'


def parse(text: str) -> Subscribe | Unsubscribe | Pong:
    """Read a client's frame, or raise BadFrameError."""
    try:
        return _FROM_CLIENT.validate_json(text, strict=True)
    except ValidationError as error:
        raise BadFrameError(_in_words(error)) from None


def _in_words(error: ValidationError) -> Error:
    kind = error.errors(include_url=False)[0]["type"]
    if kind == "json_invalid":
        return Error(code="not_json", message="The frame is not JSON.")
    if kind == "union_tag_not_found":
        return Error(code="invalid", message="type: is required", field="type")
    if kind == "union_tag_invalid":
        known = "known are subscribe, unsubscribe and pong"
        return Error(code="unknown_type", message=f"The frame's type is not known; {known}.", field="type")
    fault = field_errors(error)[0]
    # Without the union's tag, and as the payload's own field.
    field = fault.field.partition(".")[2].removeprefix("payload.") or "frame"
    return Error(code="invalid", message=f"{field}: {fault.message}", field=field)


def subscribed(payload: Subscribed) -> bytes:
    """The answer to `subscribe`."""
    return _message("subscribed", payload.model_dump_json())


def unsubscribed(job_id: UUID) -> bytes:
    """The answer to `unsubscribe`."""
    return _message("unsubscribed", Unsubscribed(job_id=job_id).model_dump_json())


def error(payload: Error) -> bytes:
    """The answer to a frame that was not carried out."""
    return _message("error", payload.model_dump_json(exclude_none=True))


def progress(state: JobState) -> bytes:
    """A job's state, whole: a count of 0 is sent as 0."""
    return _message("parent_job_progress", state.model_dump_json())


def _message(type_: str, payload: str) -> bytes:
    return f'{{"type":"{type_}","payload":{payload}}}'.encode()


def on_the_wire(text: bytes) -> bytes:
    """A server's unmasked text frame (RFC 6455, section 5.2), to be written many at a time."""
    size = len(text)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + text
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size) + text
    return struct.pack("!BBQ", 0x81, 127, size) + text
