"""What comes over a WebSocket from a gateway. No I/O."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from tallyho_contracts.documents import Document
from tallyho_contracts.jobs import JobState
from tallyho_contracts.replies import ErrorCode

from tallyho.errors import NotAGateway, json_object, refused_by_closing, refused_by_frame
from tallyho.outage import GatewayAway

# Codes after which coming back is of no use, where the reason does not say: what the client does is wrong.
FINAL_CODES = (1002, 1003, 1007, 1008, 1009, 1010, 4400, 4401, 4403)
LONGEST_TOLD = 60.0  # seconds that a gateway may tell a client to stay away

ModelT = TypeVar("ModelT", bound=BaseModel)


class Frame(NamedTuple):
    """One text frame."""

    kind: str
    payload: dict[str, Any]


def parse(text: str) -> Frame:
    """Read a frame; raises NotAGateway."""
    try:
        frame = json.loads(text)
        return Frame(str(frame["type"]), dict(frame.get("payload") or {}))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotAGateway("a frame that came over the WebSocket is not a gateway's") from error


def check(frame: Frame) -> None:
    """Raise what an `error` frame says: GatewayAway when the same may be asked for again, else RequestRefused."""
    if frame.kind == "error":
        if frame.payload.get("code") == ErrorCode.UNAVAILABLE:
            raise GatewayAway(str(frame.payload.get("message", "unavailable")))
        raise refused_by_frame(frame.payload)


def state_in(frame: Frame, job_id: str) -> JobState | None:
    """The job's state, if that is what the frame holds."""
    if frame.kind != "parent_job_progress" or frame.payload.get("job_id") != job_id:
        return None
    return _parsed(JobState, frame.payload)


def documents_in(frame: Frame, job_id: str, after: int) -> Iterator[Document]:
    """The job's documents that the frame holds, those above the ordinal `after`; raises GatewayAway at a gap."""
    if frame.kind != "document_saved" or frame.payload.get("job_id") != job_id:
        return
    items = frame.payload.get("documents")
    for item in items if isinstance(items, list) else ():
        document = _parsed(Document, item)
        if document.ordinal <= after:
            continue
        if document.ordinal != after + 1:
            raise GatewayAway(f"document {after + 1} was left out")
        after = document.ordinal
        yield document


def closing(code: int | None, reason: str) -> Exception:
    """What a close frame means: GatewayAway, or RequestRefused when coming back is of no use."""
    told = json_object(reason)
    said = str(told.get("reason") or reason or f"the connection was closed with code {code}")
    retry = told.get("retry")
    if code is not None and not (retry if isinstance(retry, bool) else code not in FINAL_CODES):
        return refused_by_closing(code, said)
    retry_ms = told.get("retry_ms")
    seconds = retry_ms / 1000 if isinstance(retry_ms, int | float) else 0.0
    return GatewayAway(said, retry_after=max(0.0, min(seconds, LONGEST_TOLD)))


def _parsed(model: type[ModelT], item: Any) -> ModelT:
    try:
        return model.model_validate(item)
    except ValidationError as error:
        raise NotAGateway("what came over the WebSocket is not a gateway's") from error
