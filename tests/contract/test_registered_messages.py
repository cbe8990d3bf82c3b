"""Every registered message: its files, its example, and what a reader makes of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from other_release import as_newer
from pydantic import ValidationError
from tallyho_contracts.contract_files import differences
from tallyho_contracts.event import BATCH_CONTENT_TYPE, EVENT_CONTENT_TYPE, Event, Message, event_model
from tallyho_contracts.jobs import Job, JobState
from tallyho_contracts.registry import COMMANDS, EVENTS, MESSAGES, TYPE_OF
from tallyho_messaging.wire import decode


def test_schemas_examples_and_asyncapi_are_as_the_registry_has_them(contracts_folder: Path) -> None:
    assert differences(contracts_folder, MESSAGES) == [], "run `python -m tallyho_contracts write`"


def test_every_type_has_a_schema_and_an_example(contracts_folder: Path, type_name: str) -> None:
    schema = json.loads((contracts_folder / "schemas" / f"{type_name}.json").read_text())
    example = json.loads((contracts_folder / "examples" / f"{type_name}.json").read_text())

    Draft202012Validator.check_schema(schema)
    assert example["type"] == type_name
    assert example["dataschema"] == schema["$id"]
    assert schema["title"]
    assert schema["description"]


def test_the_example_is_valid_against_its_schemas(
    contracts_folder: Path, type_name: str, example: Any, formats: FormatChecker
) -> None:
    schemas = contracts_folder / "schemas"
    envelope = json.loads((schemas / "event.json").read_text())
    data = json.loads((schemas / f"{type_name}.json").read_text())

    Draft202012Validator(envelope, format_checker=formats).validate(example)
    Draft202012Validator(data, format_checker=formats).validate(example["data"])


def test_the_example_is_a_valid_cloud_event(published: Path, example: Any, formats: FormatChecker) -> None:
    official = json.loads((published / "cloudevents-1.0.2.json").read_text())

    Draft7Validator(official, format_checker=formats).validate(example)
    assert all(re.fullmatch("[a-z0-9]+", attribute) for attribute in example)


def test_a_relative_dataschema_is_no_cloud_event(published: Path, formats: FormatChecker) -> None:
    official = json.loads((published / "cloudevents-1.0.2.json").read_text())
    event = {
        "id": "1",
        "source": "/crawler",
        "specversion": "1.0",
        "type": "a.b.v1",
        "dataschema": "/schemas/a.b.v1.json",
    }

    assert not Draft7Validator(official, format_checker=formats).is_valid(event)


def test_the_example_is_read_and_written_again_unchanged(type_name: str, example: Any) -> None:
    [event] = decode(json.dumps(example).encode(), EVENT_CONTENT_TYPE, type_name)

    assert isinstance(event, Event)
    assert type(event.data) is MESSAGES[type_name].data
    assert json.loads(event.model_dump_json()) == example


def test_a_batch_of_examples_is_read(type_name: str, example: Any) -> None:
    second = example | {"id": "00000000-0000-0000-0000-000000000002"}
    events = decode(json.dumps([example, second]).encode(), BATCH_CONTENT_TYPE, type_name)

    assert [json.loads(event.model_dump_json()) for event in events if isinstance(event, Event)] == [example, second]


def test_unknown_fields_are_ignored_at_every_depth(type_name: str, example: Any) -> None:
    newer = as_newer(example)
    [single] = decode(json.dumps(newer).encode(), EVENT_CONTENT_TYPE, type_name)
    batch = decode(json.dumps([newer, newer]).encode(), BATCH_CONTENT_TYPE, type_name)

    assert newer != example
    assert [single, *batch] == 3 * decode(json.dumps(example).encode(), EVENT_CONTENT_TYPE, type_name)


def test_an_example_can_not_be_changed(type_name: str, example: Any) -> None:
    event = event_model(MESSAGES[type_name].data).model_validate_json(json.dumps(example))

    with pytest.raises(ValidationError, match="frozen"):
        event.type = "another.v1"  # type: ignore[misc]  # that is the point
    with pytest.raises(ValidationError, match="frozen"):
        setattr(event.data, next(iter(example["data"])), None)


def test_every_message_is_frozen_and_ignores_unknown_fields() -> None:
    configs = [model.model_config for model in _subclasses(Message)]

    assert len(configs) > len(MESSAGES)
    assert all(config.get("frozen") and config.get("extra") == "ignore" for config in configs)


def _subclasses(model: type[Message]) -> Iterator[type[Message]]:
    for subclass in model.__subclasses__():
        if subclass.__module__.startswith("tallyho_contracts."):
            yield subclass
            yield from _subclasses(subclass)


def test_a_count_of_zero_is_sent_as_zero() -> None:
    counts = [name for name in JobState.model_fields if name.endswith(("_children", "_count"))]
    state = JobState.model_validate(
        dict.fromkeys(counts, 0)
        | {
            "job_id": "00000000-0000-0000-0000-000000000001",
            "revision": 0,
            "status": "pending",
            "progress_text": "0 pending, 0 running, 0 completed, 0 failed",
            "timestamp": "2026-03-02T09:30:00Z",
            "created_at": "2026-03-02T09:30:00Z",
            "documents_per_second": 0,
        }
    )

    sent = json.loads(state.model_dump_json())
    assert len(counts) == 8
    assert {name: sent[name] for name in counts} == dict.fromkeys(counts, 0)
    assert sent["documents_per_second"] == 0


def test_the_children_of_every_example_add_up(contracts_folder: Path) -> None:
    states = [
        state
        for path in (contracts_folder / "examples").glob("*.json")
        for state in _job_states(event_model(MESSAGES[path.stem].data).model_validate_json(path.read_bytes()).data)
    ]

    assert len(states) >= 4
    for state in states:
        parts = state.model_dump(include={name for name in JobState.model_fields if name.endswith("_children")})
        assert parts.pop("total_children") == sum(parts.values())


def _job_states(data: Message) -> Iterator[JobState]:
    if isinstance(data, JobState):
        yield data
    for _, value in data:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Message):
                yield from _job_states(one)


def test_a_type_names_one_model_and_its_version(type_name: str) -> None:
    row = MESSAGES[type_name]

    assert row.name == type_name
    assert re.fullmatch(r"[a-z]+(\.[a-z]+)+\.v[1-9][0-9]*", type_name)
    assert TYPE_OF[row.data] is row
    assert row.exchange in (EVENTS, COMMANDS, None)


def test_a_reply_is_a_registered_type_without_an_exchange() -> None:
    replies = {row.reply for row in MESSAGES.values() if row.reply}

    assert replies | {"request.refused.v1"} == {row.name for row in MESSAGES.values() if row.exchange is None}


def test_a_job_is_its_state_what_was_asked_for_and_what_it_waits_for() -> None:
    assert set(Job.model_fields) == {*JobState.model_fields, "seeds", "options", "waits_for"}
