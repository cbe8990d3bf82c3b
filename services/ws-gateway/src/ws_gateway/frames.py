"""The WebSocket protocol's frames, in both directions: text, `{"type": …, "payload": …}`."""

import struct
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from tallyho_contracts.documents import Document
from tallyho_contracts.event import Count, Url
from tallyho_contracts.jobs import JobState, JobStatus
from tallyho_contracts.logs import JobLog, LogLevel

from ws_gateway.problems import field_errors

MAX_REVISIONS = 256
MAX_NAME = 200


class Frame(BaseModel):
    """What all payloads and frames share."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Stream(StrEnum):
    """What can be followed: the states of jobs, the documents of one job, the log of one job."""

    PROGRESS = "progress"
    DOCUMENTS = "document_saved"
    LOG = "job_log"


class ToSubscribe(Frame):
    """What to follow, and where the client has got to."""

    job_id: UUID | None = Field(default=None, description="None: every job. Documents and logs are of one job.")
    stream: Stream = Stream.PROGRESS
    revision: Count | None = Field(default=None, description="Of one job's states: the newest that the client has.")
    revisions: dict[UUID, Count] = Field(
        default={},
        max_length=MAX_REVISIONS,
        description="Of every job's states: the newest of each job that the client holds as live.",
    )
    ordinal: Count | None = Field(default=None, description="Of documents: the last that the client has.")
    interval_ms: int | None = Field(default=None, ge=20, le=10_000, description="At most one write in so long.")
    ack_window: int | None = Field(
        default=None, ge=1, le=10_000, description="Be at most so many frames ahead of the client's last `ack`."
    )


class ToUnsubscribe(Frame):
    """What to follow no longer."""

    job_id: UUID | None = None
    stream: Stream = Stream.PROGRESS


class Received(Frame):
    """How many text frames the client has received on this connection."""

    received: Count


class Subscribe(Frame):
    """From a client: from now on this connection gets only what it subscribes to, this among it."""

    type: Literal["subscribe"]
    payload: ToSubscribe


class Unsubscribe(Frame):
    """From a client: no more of this."""

    type: Literal["unsubscribe"]
    payload: ToUnsubscribe


class Ack(Frame):
    """From a client that gave an `ack_window`: go on."""

    type: Literal["ack"]
    payload: Received


class Pong(Frame):
    """From a client: the answer to a ping."""

    type: Literal["pong"]
    payload: dict[str, object] | None = None


AnyFrame = Subscribe | Unsubscribe | Ack | Pong
FromClient = Annotated[AnyFrame, Field(discriminator="type")]
_FROM_CLIENT: TypeAdapter[AnyFrame] = TypeAdapter(FromClient)


class Outcome(StrEnum):
    """How a subscription begins: with the state, with the next one because the client has the newest, or with what the
    client has missed."""

    SNAPSHOT = "snapshot"
    UP_TO_DATE = "up_to_date"
    REPLAYED = "replayed"


class Subscribed(Frame):
    """To a client: it follows this now. `revision` is the newest there is; the ordinals are those about to be sent."""

    job_id: UUID | None
    stream: Stream
    outcome: Outcome
    revision: int | None = None
    from_ordinal: int | None = None
    to_ordinal: int | None = None


class Unsubscribed(Frame):
    """To a client: it follows this no longer."""

    job_id: UUID | None
    stream: Stream


class Error(Frame):
    """To a client: a frame of its own was not carried out. The connection stays open."""

    code: str
    message: str
    field: str | None = None
    job_id: str | None = Field(default=None, max_length=MAX_NAME, description="As it was sent.")
    stream: str | None = Field(default=None, max_length=MAX_NAME, description="As it was sent.")


class SavedDocuments(Frame):
    """To a client: the next documents of a job. Their ordinals are dense, over all frames."""

    job_id: UUID
    documents: tuple[Document, ...] = Field(min_length=1)


class StatusChange(Frame):
    """To a client of the old system: a job has another status."""

    job_id: UUID
    old_status: JobStatus
    new_status: JobStatus
    timestamp: AwareDatetime


class Spawn(Frame):
    """To a client of the old system: a page joined its job."""

    parent_job_id: UUID
    job_id: UUID
    url: Url
    depth: int
    timestamp: AwareDatetime


class Line(Frame):
    """To a client of the old system: a line of a job's log."""

    job_id: UUID
    level: LogLevel
    message: str
    timestamp: AwareDatetime


class BadFrameError(Exception):
    """A client's frame that can't be used; carries the answer."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


def parse(text: str) -> AnyFrame:
    """Read a client's frame, or raise BadFrameError."""
    try:
        frame = _FROM_CLIENT.validate_json(text, strict=True)
    except ValidationError as error:
        raise BadFrameError(_in_words(error, text)) from None
    if isinstance(frame, (Subscribe, Unsubscribe)):
        _check_stream(frame.payload)
    return frame


def _check_stream(payload: ToSubscribe | ToUnsubscribe) -> None:
    """What one stream needs and another has no use for."""
    faults = {"job_id": (payload.stream is not Stream.PROGRESS and payload.job_id is None, "is required")}
    if isinstance(payload, ToSubscribe):
        one_job = payload.stream is Stream.PROGRESS and payload.job_id is not None
        every_job = payload.stream is Stream.PROGRESS and payload.job_id is None
        elsewhere = "is of no use for this stream"
        faults |= {
            "revision": (payload.revision is not None and not one_job, elsewhere),
            "revisions": (bool(payload.revisions) and not every_job, elsewhere),
            "ordinal": (payload.ordinal is not None and payload.stream is not Stream.DOCUMENTS, elsewhere),
        }
    for field, (is_wrong, why) in faults.items():
        if is_wrong:
            raise BadFrameError(
                Error(
                    code="invalid",
                    message=f"{field}: {why}",
                    field=field,
                    job_id=payload.job_id and str(payload.job_id),
                    stream=payload.stream,
                )
            )


def _in_words(error: ValidationError, text: str) -> Error:
    kind = error.errors(include_url=False)[0]["type"]
    if kind == "json_invalid":
        return Error(code="not_json", message="The frame is not JSON.")
    if kind == "union_tag_not_found":
        return Error(code="invalid", message="type: is required", field="type")
    if kind == "union_tag_invalid":
        known = "known are subscribe, unsubscribe, ack and pong"
        return Error(code="unknown_type", message=f"The frame's type is not known; {known}.", field="type")
    fault = field_errors(error)[0]
    # Without the union's tag, and as the payload's own field.
    field = fault.field.partition(".")[2].removeprefix("payload.") or "frame"
    return Error(code="invalid", message=f"{field}: {fault.message}", field=field, **_subject(text))


def _subject(text: str) -> dict[str, str]:
    """What a frame is about, for its sender to know which one was not carried out."""
    frame = from_json(text)
    payload = frame.get("payload") if isinstance(frame, dict) else None
    named = payload if isinstance(payload, dict) else {}
    return {name: named[name][:MAX_NAME] for name in ("job_id", "stream") if isinstance(named.get(name), str)}


def subscribed(payload: Subscribed) -> bytes:
    """The answer to `subscribe`."""
    unused = {name for name in ("revision", "from_ordinal", "to_ordinal") if getattr(payload, name) is None}
    return _message("subscribed", payload.model_dump_json(exclude=unused))


def unsubscribed(payload: ToUnsubscribe) -> bytes:
    """The answer to `unsubscribe`."""
    return _message("unsubscribed", Unsubscribed(**dict(payload)).model_dump_json())


def error(payload: Error) -> bytes:
    """The answer to a frame that was not carried out."""
    return _message("error", payload.model_dump_json(exclude_none=True))


def progress(state: JobState) -> bytes:
    """A job's state, whole: a count of 0 is sent as 0."""
    return _message("parent_job_progress", state.model_dump_json())


def documents(job_id: UUID, encoded: Iterable[bytes]) -> bytes:
    """Documents of a job, each encoded already."""
    return b'{"type":"document_saved","payload":{"job_id":"%s","documents":[%s]}}' % (
        str(job_id).encode(),
        b",".join(encoded),
    )


def job_log(line: JobLog) -> bytes:
    """A line of a job's log."""
    return _message("job_log", line.model_dump_json())


def status_change(before: JobState, after: JobState) -> bytes:
    """The old system's word for a job that has another status."""
    change = StatusChange(
        job_id=after.job_id, old_status=before.status, new_status=after.status, timestamp=after.timestamp
    )
    return _message("job_status_change", change.model_dump_json())


def spawn(page: Spawn) -> bytes:
    """The old system's word for a page that joined its job."""
    return _message("job_spawn", page.model_dump_json())


def log(line: JobLog) -> bytes:
    """The old system's word for a line of a job's log."""
    old = Line(job_id=line.job_id, level=line.level, message=line.message, timestamp=line.timestamp)
    return _message("log", old.model_dump_json())


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


PING = on_the_wire(b'{"type":"ping","payload":{}}')
