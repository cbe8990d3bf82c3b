"""No change to a released message may break those who were not upgraded yet; and a test of this check itself.

jsoncompat compares the schemas, but it looks at neither formats nor patterns: those may not change at all.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from jsoncompat import check_compat
from pydantic import AwareDatetime, Field, create_model
from tallyho_contracts.event import Message, Text
from tallyho_contracts.registry import COMMANDS, EVENTS, MESSAGES, MessageType
from tallyho_contracts.released import Contract, Release, present_contract, present_contracts, read_releases
from tallyho_contracts.schemas import closed


def breaking_changes(released: Mapping[str, Iterable[Release]], present: Mapping[str, Contract]) -> list[str]:
    """What would break someone who is on any release; a new version of the type is the way to make such a change."""
    return [
        f"{name}: {problem} (released in {release.version})"
        for name, releases in released.items()
        for release in releases
        for problem in _problems(release.contract, present.get(name))
    ]


def _problems(old: Contract, new: Contract | None) -> Iterator[str]:
    if new is None:
        yield "is gone from the registry"
        return
    if (old.exchange, old.reply) != (new.exchange, new.reply):
        yield "has another exchange or reply"
    if not check_compat(json.dumps(old.reader), json.dumps(new.writer), "serializer"):
        yield "readers of then can't read what is written now"
    # Closed: a reader that has lost or renamed an optional field would ignore it silently.
    if not check_compat(json.dumps(old.writer), json.dumps(closed(new.reader)), "deserializer"):
        yield "readers of now don't read all that was written then"
    texts, were = _texts(new.reader, new.reader), _texts(old.reader, old.reader)
    for field in were.keys() & texts.keys():
        if were[field] != texts[field]:
            yield f"{field or 'data'} has another format or pattern"


def _texts(schema: Any, root: Any, path: str = "") -> dict[str, set[tuple[str, ...]]]:
    """The formats and patterns of strings, and the patterns of keys, by the path of the field that holds them."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    found: dict[str, set[tuple[str, ...]]] = {}
    if schema.get("type") == "string":
        found[path] = {(schema.get("format", ""), schema.get("pattern", ""))}
    if "patternProperties" in schema:
        found[path] = {("keys", *schema["patternProperties"])}
    inner = [(path, one) for one in schema.get("anyOf", ())]
    inner += [
        (f"{path}[]", schema[key]) for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)
    ]
    inner += [(f"{path}{{}}", one) for one in schema.get("patternProperties", {}).values()]
    inner += [(f"{path}.{name}".lstrip("."), one) for name, one in schema.get("properties", {}).items()]
    for where, one in inner:
        for field, texts in _texts(one, root, where).items():
            found[field] = found.get(field, set()) | texts
    return found


@pytest.fixture(scope="session")
def released(contracts_folder: Path) -> dict[str, tuple[Release, ...]]:
    return read_releases(contracts_folder / "released")


def test_the_messages_are_compatible_with_every_release(released: dict[str, tuple[Release, ...]]) -> None:
    assert released
    assert breaking_changes(released, present_contracts(MESSAGES.values())) == []


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Point(Message):
    x: int = Field(ge=0)
    label: Text = ""


FIELDS: dict[str, Any] = {
    "job_id": UUID,
    "title": (Text, ""),
    "count": (int, Field(ge=0, le=100)),
    "colour": Colour,
    "note": (Text | None, None),
    "points": tuple[Point, ...],
    "names": (tuple[Text, ...], Field(default=(), max_length=10)),
    "by_reason": (dict[Text, int], {}),
    "saved_at": AwareDatetime,
}


def _contract(**changes: Any) -> Contract:
    """The contract of a model with FIELDS, where `changes` replace, add, or with None remove a field."""
    fields = {name: one for name, one in (FIELDS | changes).items() if one is not None}
    fields = {name: one if isinstance(one, tuple) else (one, ...) for name, one in fields.items()}
    return present_contract(MessageType("thing.made.v1", create_model("Thing", __base__=Message, **fields), EVENTS))


def _changes_since_release(new: Contract) -> list[str]:
    released = {"thing.made.v1": (Release(version="0.1.0", contract=_contract()),)}
    return breaking_changes(released, {"thing.made.v1": new})


class Recoloured(StrEnum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class WithRequiredField(Point):
    y: int


class WithoutLabel(Message):
    x: int = Field(ge=0)


class WithOptionalField(Point):
    y: int | None = None


BREAKING: dict[str, dict[str, Any]] = {
    "a removed field": {"count": None},
    "a removed optional field": {"title": None},
    "a removed nullable field": {"note": None},
    "a renamed field": {"count": None, "total": (int, Field(ge=0, le=100))},
    "a renamed optional field": {"title": None, "heading": (Text, "")},
    "a new required field": {"url": Text},
    "an optional field made required": {"title": Text},
    "a required field made optional": {"count": (int, Field(default=0, ge=0, le=100))},
    "a field removed within a list": {"points": tuple[WithoutLabel, ...]},
    "a required field added within a list": {"points": tuple[WithRequiredField, ...]},
    "an enum with a value less": {"colour": Literal["red"]},
    "an enum with a value more": {"colour": Recoloured},
    "a higher minimum": {"count": (int, Field(ge=1, le=100))},
    "a lower maximum": {"count": (int, Field(ge=0, le=99))},
    "a wider range": {"count": (int, Field(ge=0, le=101))},
    "a text with a length": {"title": (Text, Field(default="", max_length=50))},
    "a text with another pattern": {"title": (str, Field(default="", pattern="^[a-z]*$"))},
    "a text without its pattern": {"title": (str, "")},
    "a shorter list": {"names": (tuple[Text, ...], Field(default=(), max_length=9))},
    "a list that may not be empty": {"points": (tuple[Point, ...], Field(min_length=1))},
    "a nullable field that is not any more": {"note": (Text, "")},
    "a field that may be null now": {"count": (int | None, Field(ge=0, le=100))},
    "a number for an integer": {"count": (float, Field(ge=0, le=100))},
    "a text for a number": {"count": Text},
    "a text for an id": {"job_id": Text},
    "an id for a text": {"title": (UUID, UUID(int=0))},
    "a text or an id for a text": {"title": (Text | UUID, "")},
    "a text for a time": {"saved_at": Text},
    "a number for a time": {"saved_at": float},
    "other items in a list": {"names": (tuple[int, ...], Field(default=(), max_length=10))},
    "ids for texts in a list": {"names": (tuple[UUID, ...], Field(default=(), max_length=10))},
    "one value for a list": {"names": (Text, "")},
    "other values by key": {"by_reason": (dict[Text, Text], {})},
    "other keys": {"by_reason": (dict[UUID, int], {})},
}

HARMLESS: dict[str, dict[str, Any]] = {
    "no change": {},
    "a new optional field": {"url": (Text, "")},
    "a new nullable field": {"parent_id": (UUID | None, None)},
    "a new optional message": {"origin": (Point | None, None)},
    "an optional field added within a list": {"points": tuple[WithOptionalField, ...]},
    "a description": {"title": (Text, Field(default="", description="What the page calls itself."))},
    "a default": {"title": (Text, "untitled")},
    "the class of an enum": {"colour": Literal["red", "blue"]},
    "a time that is not checked for its zone by the schema": {"saved_at": datetime},
}


@pytest.mark.parametrize("change", BREAKING)
def test_the_check_catches(change: str) -> None:
    assert _changes_since_release(_contract(**BREAKING[change])), change


@pytest.mark.parametrize("change", HARMLESS)
def test_the_check_lets_pass(change: str) -> None:
    assert _changes_since_release(_contract(**HARMLESS[change])) == []


def test_a_change_of_exchange_or_reply_is_breaking() -> None:
    released = {"thing.made.v1": (Release(version="0.1.0", contract=_contract()),)}
    moved = _contract().model_copy(update={"exchange": COMMANDS})
    answered = _contract().model_copy(update={"reply": "thing.reply.v1"})

    for contract in (moved, answered):
        assert breaking_changes(released, {"thing.made.v1": contract}) == [
            "thing.made.v1: has another exchange or reply (released in 0.1.0)"
        ]


def test_a_message_must_stay_compatible_with_older_releases_too() -> None:
    releases = (
        Release(version="0.1.0", contract=_contract()),
        Release(version="0.2.0", contract=_contract(title=None)),
    )
    found = breaking_changes({"thing.made.v1": releases}, {"thing.made.v1": _contract(title=None)})

    assert found == ["thing.made.v1: readers of now don't read all that was written then (released in 0.1.0)"]


def test_a_released_type_may_not_leave_the_registry(released: dict[str, tuple[Release, ...]]) -> None:
    without = [row for row in MESSAGES.values() if row.name != "document.saved.v1"]

    assert breaking_changes(released, present_contracts(without)) == [
        f"document.saved.v1: is gone from the registry (released in {released['document.saved.v1'][0].version})"
    ]


def test_a_new_type_in_the_registry_is_no_breaking_change(released: dict[str, tuple[Release, ...]]) -> None:
    saved = MESSAGES["document.saved.v1"]
    rows = [*MESSAGES.values(), MessageType("document.saved.v2", saved.data, saved.exchange)]

    assert breaking_changes(released, present_contracts(rows)) == []


def test_any_field_taken_from_any_released_message_is_noticed(released: dict[str, tuple[Release, ...]]) -> None:
    present = present_contracts(MESSAGES.values())
    for name, releases in released.items():
        contract = present[name]
        for field in releases[-1].contract.reader["properties"]:
            changed = Contract(
                exchange=contract.exchange,
                reply=contract.reply,
                reader=_without(contract.reader, field),
                writer=_without(contract.writer, field),
            )

            assert breaking_changes({name: released[name]}, {name: changed}), f"{name}: {field}"


def _without(schema: dict[str, Any], field: str) -> dict[str, Any]:
    properties = {name: one for name, one in schema["properties"].items() if name != field}
    required = [name for name in schema.get("required", ()) if name != field]
    return schema | {"properties": properties, "required": required}
