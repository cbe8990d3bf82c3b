"""What the models refuse, and what an event says about its data."""

import copy
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from tallyho_contracts.documents import DocumentSaved
from tallyho_contracts.event import event_model, new_event
from tallyho_contracts.jobs import JobCreate, JobsQuery, JobState, JobStatus
from tallyho_contracts.registry import MESSAGES

EXAMPLES = Path(__file__).parents[1] / "examples"
JOB = UUID(int=1)


@pytest.fixture(params=list(MESSAGES))
def example(request: pytest.FixtureRequest) -> Any:
    """The example of each type in turn."""
    return json.loads((EXAMPLES / f"{request.param}.json").read_text())


def _refused(event: Any) -> bool:
    try:
        event_model(MESSAGES[event["type"]].data).model_validate(event)
    except ValidationError:
        return True
    return False


def _texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        if isinstance(one, str):
            yield (*path, key), one
        yield from _texts(one, (*path, key))


def _with(event: Any, path: tuple[Any, ...], text: str) -> Any:
    changed = copy.deepcopy(event)
    target = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = text
    return changed


def test_a_nul_is_refused_in_every_text(example: Any) -> None:
    allowed = [
        path
        for path, text in _texts(example)
        if path != ("type",) and not _refused(_with(example, path, text + "\x00"))
    ]

    assert allowed == []


def test_a_nul_is_refused_in_the_reason_of_skipped_links() -> None:
    event = json.loads((EXAMPLES / "page.finished.v1.json").read_text())
    event["data"]["skipped_links"] = {"off\x00site": 1}

    assert _refused(event)


def test_a_time_without_a_zone_is_refused(example: Any) -> None:
    times = [(path, text) for path, text in _texts(example) if text.startswith("2026-") and text.endswith("Z")]

    assert times
    for path, text in times:
        assert _refused(_with(example, path, text.removesuffix("Z"))), path


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(ValidationError, match="unicode"):
        JobCreate(job_id=JOB, name="\ud800", seeds=("https://docs.example.org/",))


def _state(**changes: Any) -> JobState:
    example = json.loads((EXAMPLES / "job.progress.v1.json").read_text())
    return JobState.model_validate(example["data"] | changes)


@pytest.mark.parametrize("rate", [math.inf, math.nan, -0.1])
def test_a_rate_that_json_can_not_carry_is_refused(rate: float) -> None:
    with pytest.raises(ValidationError, match="documents_per_second"):
        _state(documents_per_second=rate)


@pytest.mark.parametrize("count", [name for name in JobState.model_fields if name.endswith(("_children", "_count"))])
def test_a_count_is_never_negative(count: str) -> None:
    with pytest.raises(ValidationError, match=count):
        _state(**{count: -1})


URL = "https://docs.example.org/"
LONG_URL = URL + "a" * (2048 - len(URL))


@pytest.mark.parametrize(
    ("type_", "field", "fits", "refused"),
    [
        ("job.create.v1", "seeds", [URL] * 1000, [URL] * 1001),
        ("job.create.v1", "seeds", [LONG_URL], [LONG_URL + "a"]),
        ("job.create.v1", "seeds", [URL], []),
        ("job.create.v1", "seeds", [URL], [""]),
        ("job.create.v1", "name", "n" * 200, "n" * 201),
        ("job.create.v1", "idempotency_key", "k" * 255, "k" * 256),
        ("job.create.v1", "idempotency_key", None, ""),
        ("crawl.start.v1", "seeds", [URL] * 1000, [URL] * 1001),
        ("crawl.start.v1", "revision", 0, -1),
        ("crawl.start.v1", "options", {"max_pages": 1}, {"max_pages": 0}),
        ("crawl.start.v1", "options", {"max_pages": None}, {"max_pages": 1.5}),
        ("crawl.start.v1", "options", {"max_depth": 0}, {"max_depth": -1}),
        ("crawl.start.v1", "options", {"max_failures": 0}, {"max_failures": -1}),
        ("crawl.start.v1", "options", {"include": ["a"] * 100}, {"include": ["a"] * 101}),
        ("crawl.start.v1", "options", {"exclude": ["a" * 1000]}, {"exclude": ["a" * 1001]}),
        ("crawl.start.v1", "options", {"exclude": []}, {"exclude": [""]}),
        ("page.started.v1", "page_ids", [str(JOB)], []),
        ("page.finished.v1", "depth", 0, -1),
        ("page.finished.v1", "outcome", "skipped", "cancelled"),
        ("page.finished.v1", "reason", "r" * 200, "r" * 201),
        ("page.finished.v1", "job_pages", 0, -1),
        ("page.finished.v1", "skipped_links", {"off_site": 1}, {"off_site": "many"}),
        ("document.saved.v1", "title", "t" * 1000, "t" * 1001),
        ("document.saved.v1", "content_hash", "0" * 128, "0" * 129),
        ("document.saved.v1", "change", "unchanged", "deleted"),
        ("document.saved.v1", "document_id", str(JOB), "1"),
        ("job.documents.v1", "after", 0, -1),
        ("job.documents.v1", "limit", 1000, 1001),
        ("job.pages.v1", "limit", 1, 0),
        ("job.pages.v1", "state", None, "done"),
        ("job.list.v1", "limit", 1000, 1001),
        ("job.list.v1", "before", None, "newest"),
        ("request.refused.v1", "code", "internal", "teapot"),
    ],
)
def test_a_field_keeps_its_bounds(type_: str, field: str, fits: Any, refused: Any) -> None:
    event = json.loads((EXAMPLES / f"{type_}.json").read_text())

    assert not _refused(event | {"data": event["data"] | {field: fits}})
    assert _refused(event | {"data": event["data"] | {field: refused}})


@pytest.mark.parametrize("attribute", ["id", "source", "type", "subject", "time", "dataschema", "data"])
def test_an_event_without_an_attribute_is_refused(attribute: str) -> None:
    event = json.loads((EXAMPLES / "document.saved.v1.json").read_text())
    del event[attribute]

    with pytest.raises(ValidationError, match=attribute):
        event_model(DocumentSaved).model_validate(event)


@pytest.mark.parametrize(("attribute", "value"), [("specversion", "0.3"), ("datacontenttype", "text/xml")])
def test_an_event_of_another_kind_is_refused(attribute: str, value: str) -> None:
    event = json.loads((EXAMPLES / "document.saved.v1.json").read_text()) | {attribute: value}

    assert _refused(event)


def test_a_new_event_names_the_schema_of_its_type() -> None:
    query = JobsQuery(live=True)
    event = new_event(
        query,
        type_="job.list.v1",
        id_=UUID(int=2),
        source="/ws-gateway",
        subject=JOB,
        time=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
    )

    assert event.dataschema == "tallyho:/schemas/job.list.v1.json"
    assert event.subject == JOB
    assert event_model(JobsQuery).model_validate_json(event.model_dump_json()) == event


def test_only_completed_failed_and_cancelled_are_terminal() -> None:
    assert [status for status in JobStatus if status.is_terminal] == ["completed", "failed", "cancelled"]
