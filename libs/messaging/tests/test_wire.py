"""Events to bytes and back: what is no event is told apart with a reason, and its neighbours are kept."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from tallyho_contracts.event import BATCH_CONTENT_TYPE, EVENT_CONTENT_TYPE
from tallyho_contracts.jobs import JobCancel, JobGet
from tallyho_contracts.pages import PageStarted
from tallyho_messaging.wire import AnyEvent, Malformed, decode, event_of

STARTED = "page.started.v1"
JOB = UUID(int=1)
NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)


def page_started(**data: Any) -> dict[str, Any]:
    """An event as JSON values, with some of its data replaced."""
    event = event_of(PageStarted(parent_job_id=JOB, page_ids=(uuid4(),)), source="crawler", subject=JOB)
    values: dict[str, Any] = event.model_dump(mode="json")
    values["data"] |= data
    return values


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def only_malformed(
    body: bytes, content_type: str | None = EVENT_CONTENT_TYPE, type_: str | None = STARTED
) -> Malformed:
    [item] = decode(body, content_type, type_)
    assert isinstance(item, Malformed)
    return item


def ids(items: list[AnyEvent | Malformed]) -> list[str]:
    return ["malformed" if isinstance(item, Malformed) else str(item.id) for item in items]


def test_event_is_wrapped_in_its_registered_type() -> None:
    event = event_of(JobGet(job_id=JOB), source="ws-gateway", subject=JOB, time=NOON)

    assert (event.type, event.source, event.subject, event.time) == ("job.get.v1", "/ws-gateway", JOB, NOON)
    assert event.dataschema == "tallyho:/schemas/job.get.v1.json"


@pytest.mark.parametrize("type_", [STARTED, None, ""])
def test_event_is_read_back_as_it_was(type_: str | None) -> None:
    event = event_of(PageStarted(parent_job_id=JOB, page_ids=(uuid4(),)), source="crawler", subject=JOB)

    [item] = decode(event.model_dump_json().encode(), EVENT_CONTENT_TYPE, type_)

    assert item == event


def test_fields_that_a_newer_writer_added_are_ignored() -> None:
    newer = page_started(added="later") | {"tracestate": "x=1"}

    assert ids(decode(encoded(newer), EVENT_CONTENT_TYPE, STARTED)) == [newer["id"]]


@pytest.mark.parametrize("type_", [STARTED, None])
def test_batch_is_read_in_order(type_: str | None) -> None:
    events = [page_started() for _ in range(3)]

    assert ids(decode(encoded(events), BATCH_CONTENT_TYPE, type_)) == [event["id"] for event in events]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no json", "body: Invalid JSON"),
        (b"", "body: Invalid JSON"),
        (b"\xff\xfe", "body: Invalid JSON"),
        (b"[1]", "body: Input should be"),
        (encoded(page_started(parent_job_id="not an id")), "data.parent_job_id: Input should be a valid UUID"),
        (encoded(page_started(page_ids=[])), "data.page_ids: Tuple should have at least 1 item"),
        (encoded(page_started() | {"source": "nul \0"}), "source: String should match pattern"),
        (encoded(page_started() | {"specversion": "2.0"}), "specversion: Input should be '1.0'"),
        (encoded(page_started() | {"type": "page.finished.v1"}), f"the message says '{STARTED}', its event 'page.fin"),
        (encoded({"type": STARTED}), "id: Field required; source: Field required"),
    ],
    ids=["text", "empty", "bytes", "array", "bad id", "too short", "nul", "version", "two types", "incomplete"],
)
def test_what_is_no_event_of_its_type_says_why(body: bytes, reason: str) -> None:
    item = only_malformed(body)

    assert item.reason.startswith(reason)
    assert item.body == body


@pytest.mark.parametrize(
    ("body", "type_", "reason"),
    [
        (b"{}", "page.started.v9", "unknown type 'page.started.v9'"),
        (encoded(page_started() | {"type": "page.vanished.v1"}), None, "unknown type 'page.vanished.v1'"),
        (encoded({"type": 7}), None, "unknown type '7'"),
        (encoded({"type": "x" * 1000}), None, f"unknown type '{'x' * 100}'"),
        (b"no json", None, "not a JSON object with a type"),
        (b'"text"', None, "not a JSON object with a type"),
        (b"[]", None, "not a JSON object with a type"),
        (b"{}", None, "not a JSON object with a type"),
        (b"[" * 100_000, None, "not a JSON object with a type"),
    ],
    ids=["version", "type", "number", "long", "text", "string", "array", "typeless", "deep"],
)
def test_message_of_an_unknown_type_says_so(body: bytes, type_: str | None, reason: str) -> None:
    assert only_malformed(body, type_=type_).reason == reason


def test_reason_names_five_faults_at_most() -> None:
    assert only_malformed(encoded({"data": {}})).reason.count(": Field required") == 5


@pytest.mark.parametrize("type_", [STARTED, "page.started.v9", None], ids=["known", "unknown", "untold"])
def test_bad_event_of_a_batch_is_kept_apart_and_its_neighbours_are_read(type_: str | None) -> None:
    first, last = page_started(), page_started()
    bad = page_started(page_ids=["not an id"])

    items = decode(encoded([first, bad, last]), BATCH_CONTENT_TYPE, type_)

    assert ids(items) == [first["id"], "malformed", last["id"]]
    assert isinstance(items[1], Malformed)
    assert json.loads(items[1].body) == bad
    assert items[1].reason.startswith("data.page_ids.0: Input should be a valid UUID")


def test_event_of_another_type_in_a_batch_is_read_as_what_it_is() -> None:
    asked, misplaced = (
        event_of(data, source="ws-gateway", subject=JOB) for data in (JobGet(job_id=JOB), JobCancel(job_id=JOB))
    )

    items = decode(
        encoded([asked.model_dump(mode="json"), misplaced.model_dump(mode="json")]), BATCH_CONTENT_TYPE, "job.get.v1"
    )

    assert [type(item.data) for item in items if not isinstance(item, Malformed)] == [JobGet, JobCancel]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no json", "not JSON: Expecting value"),
        (b"{}", "a batch must be a JSON array of events"),
        (b"[" * 100_000, "not JSON: "),
        (b"\xff", "not JSON: "),
    ],
    ids=["text", "object", "deep", "bytes"],
)
def test_batch_that_is_none_says_why(body: bytes, reason: str) -> None:
    item = only_malformed(body, BATCH_CONTENT_TYPE)

    assert item.reason.startswith(reason)
    assert item.body == body


def test_empty_batch_has_no_events() -> None:
    assert decode(b"[]", BATCH_CONTENT_TYPE, STARTED) == []
