"""The AsyncAPI document of the WebSocket: valid, complete, and true to the frames that are sent."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from jsonschema import Draft7Validator, Draft202012Validator  # type: ignore[import-untyped]
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from tallyho_contracts.jobs import JobState
from ws_gateway import asyncapi, frames

State = Callable[..., JobState]
OFFICIAL = Path(__file__).parents[3] / "tests" / "contract" / "data" / "asyncapi-3.0.0.json"
ONE = UUID(int=1)


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(json.dumps(asyncapi.document()))


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def validator(document: Any, name: str) -> Draft202012Validator:
    registry = Registry().with_resource(
        "urn:document", Resource.from_contents(document, default_specification=DRAFT202012)
    )
    return Draft202012Validator({"$ref": f"urn:document#/components/messages/{name}/payload"}, registry=registry)


def test_document_is_valid_against_the_official_schema(document: Any) -> None:
    Draft7Validator(json.loads(OFFICIAL.read_text())).validate(document)


def test_references_of_the_document_lead_somewhere(document: Any) -> None:
    for reference in references(document):
        found = document
        for key in reference.removeprefix("#/").split("/"):
            found = found[key]


async def test_document_is_served(gateway: Any, document: Any) -> None:
    response = await gateway.http.get("/v1/asyncapi.json")

    assert await response.json() == document


def test_every_frame_that_a_client_may_send_is_described() -> None:
    types = {get_args(frame.model_fields["type"].annotation)[0] for frame in get_args(frames.AnyFrame)}

    assert types == set(asyncapi.FROM_CLIENT)


async def test_frames_that_are_sent_are_as_described(gateway: Any, state: State, document: Any) -> None:
    gateway.hub.offer(gateway.tracker.add(state(1, 5, "pending")))
    watcher = await gateway.watch("/ws")
    received = [await watcher.next()]
    gateway.hub.offer(gateway.tracker.add(state(1, 6, documents=0)))
    received += [await watcher.next(), await watcher.next()]
    for answered in (
        ("subscribe", {}),
        ("subscribe", {"job_id": str(ONE), "revision": 6}),
        ("subscribe", {"job_id": str(ONE), "stream": "job_log"}),
        ("unsubscribe", {"job_id": str(ONE), "stream": "job_log"}),
        ("subscribe", {"job_id": "x"}),
        ("shout", {}),
    ):
        received.append(await watcher.answer_to(answered[0], **answered[1]))

    assert {"parent_job_progress", "job_status_change", "subscribed", "unsubscribed", "error"} == {
        frame["type"] for frame in received
    }
    for frame in received:
        validator(document, frame["type"]).validate(frame)
        assert not validator(document, "job_spawn").is_valid(frame)
