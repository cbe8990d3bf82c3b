"""docs/protocol.md is true: its transcript is made of valid frames, its codes are those that exist."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from ws_gateway import asyncapi, closing
from ws_gateway.closing import Closing

TEXT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
FRAMES = re.findall(r"^(→|←) (\{.*\})$", TEXT, re.MULTILINE)
DOCUMENT = json.loads(json.dumps(asyncapi.document()))


def validator(name: str) -> Draft202012Validator:
    resource = Resource.from_contents(DOCUMENT, default_specification=DRAFT202012)
    registry = Registry().with_resource("urn:document", resource)
    return Draft202012Validator({"$ref": f"urn:document#/components/messages/{name}/payload"}, registry=registry)


@pytest.mark.parametrize(("direction", "text"), FRAMES)
def test_frame_of_the_transcript_is_valid(direction: str, text: str) -> None:
    frame: dict[str, Any] = json.loads(text)
    known = asyncapi.FROM_CLIENT if direction == "→" else asyncapi.TO_CLIENT

    assert frame["type"] in known
    validator(frame["type"]).validate(frame)


def test_every_frame_and_every_close_code_is_told_of() -> None:
    codes = {one.code for one in vars(closing).values() if isinstance(one, Closing)} | {1009}

    assert len(FRAMES) > 10
    assert {name for name in asyncapi.FROM_CLIENT | asyncapi.TO_CLIENT if name not in TEXT} == set()
    assert {int(code) for code in re.findall(r"^\| (\d{4}) \|", TEXT, re.MULTILINE)} == codes
