"""The AsyncAPI document: valid, complete, and true to the topology."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7
from tallyho_contracts.asyncapi import route_of
from tallyho_contracts.registry import EVENTS, MESSAGES, MessageType
from tallyho_contracts.replies import Refused
from tallyho_messaging.accounts import ACCOUNTS
from tallyho_messaging.topology import WORK_QUEUES


@pytest.fixture(scope="session")
def document(contracts_folder: Path) -> Any:
    return json.loads((contracts_folder / "asyncapi.json").read_text())


@pytest.fixture(scope="session")
def official(published: Path) -> Draft7Validator:
    """The official schema as it is; it lets dangling references pass."""
    return Draft7Validator(json.loads((published / "asyncapi-3.0.0.json").read_text()))


def test_the_document_is_valid_against_the_official_schema(document: Any, official: Draft7Validator) -> None:
    official.validate(document)


@pytest.mark.parametrize(
    ("path", "broken"),
    [
        (("asyncapi",), "2.6.0"),
        (("operations", "crawler.send.document.saved.v1", "action"), "publish"),
        (("channels", "job.get.v1", "bindings", "amqp", "is"), "topic"),
        (("components", "messages", "job.get.v1", "payload"), "text"),
    ],
)
def test_the_official_schema_catches_a_broken_document(
    document: Any, official: Draft7Validator, path: tuple[str, ...], broken: str
) -> None:
    changed = copy.deepcopy(document)
    *parents, last = path
    target = changed
    for key in parents:
        target = target[key]
    target[last] = broken

    assert not official.is_valid(changed)


def dangling_references(document: Any) -> list[str]:
    """The `$ref`s of a document that lead nowhere; it may refer only to itself."""
    return sorted({ref for ref in _references(document) if not _leads_somewhere(document, ref)})


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


def _leads_somewhere(document: Any, ref: str) -> bool:
    start, *keys = ref.split("/")
    found = document
    for key in keys:
        name = key.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            return False
        found = found[name]
    return start == "#"


def test_no_reference_dangles(document: Any) -> None:
    assert len(list(_references(document))) > 100
    assert dangling_references(document) == []


@pytest.mark.parametrize(
    "ref", ["#/components/schemas/Gone", "#/components/schemas/A/properties", "other.json#/components/schemas/A", "#/x"]
)
def test_a_dangling_reference_is_found_wherever_it_is(ref: str) -> None:
    document = {
        "channels": [{"messages": {"event": {"$ref": ref}}}, {"$ref": "#/components/schemas/A"}],
        "components": {"schemas": {"A": {"type": "object"}}},
    }

    assert dangling_references(document) == [ref]


def test_removing_any_component_leaves_a_dangling_reference(document: Any) -> None:
    for kind, name in ((kind, name) for kind, parts in document["components"].items() for name in parts):
        changed = copy.deepcopy(document)
        del changed["components"][kind][name]

        assert dangling_references(changed) == [f"#/components/{kind}/{name}"]


def test_every_type_is_a_message_with_its_example(document: Any, type_name: str, example: Any) -> None:
    message = document["components"]["messages"][type_name]

    assert message["examples"] == [{"name": "golden", "payload": example}]
    assert message["contentType"] == "application/cloudevents+json"
    assert message["bindings"]["amqp"]["messageType"] == type_name


def test_an_example_is_valid_against_its_own_payload_only(document: Any, type_name: str, example: Any) -> None:
    registry = Registry().with_resource("urn:document", Resource.from_contents(document, default_specification=DRAFT7))
    valid = [
        name
        for name in MESSAGES
        if Draft7Validator({"$ref": f"urn:document#/components/messages/{name}/payload"}, registry=registry).is_valid(
            example
        )
    ]

    assert valid == [type_name]


def test_events_and_commands_come_in_batches_too_and_requests_do_not(document: Any) -> None:
    batched = {name.removesuffix(".batch") for name in document["components"]["messages"] if name.endswith(".batch")}

    assert batched == {row.name for row in MESSAGES.values() if row.exchange and not row.reply}
    for name in batched:
        batch = document["components"]["messages"][f"{name}.batch"]
        assert batch["contentType"] == "application/cloudevents-batch+json"
        assert batch["payload"]["type"] == "array"


def test_a_message_is_sent_by_those_whom_the_broker_lets_send_it(type_name: str) -> None:
    row = MESSAGES[type_name]
    if row.exchange is None:
        return
    allowed = {
        name
        for name, account in ACCOUNTS.items()
        if re.search(account.write, row.exchange) and re.search(account.topics.get(row.exchange, ""), type_name)
    }

    assert set(route_of(row).senders) == allowed


def test_every_routed_type_is_sent_and_received_by_its_services(document: Any, type_name: str) -> None:
    operations = {
        name: one for name, one in document["operations"].items() if one["channel"]["$ref"] == f"#/channels/{type_name}"
    }

    if MESSAGES[type_name].exchange is None:
        assert operations == {}
    else:
        route = route_of(MESSAGES[type_name])
        assert {name: one["action"] for name, one in operations.items()} == {
            **{f"{sender}.send.{type_name}": "send" for sender in route.senders},
            **{f"{receiver}.receive.{type_name}": "receive" for receiver in route.receivers},
        }


def test_a_request_has_its_reply_or_a_refusal(document: Any) -> None:
    requests = [row for row in MESSAGES.values() if row.reply]

    assert len(requests) == 18
    for row in requests:
        reply = document["operations"][f"ws-gateway.send.{row.name}"]["reply"]
        names = [one["$ref"].removeprefix("#/channels/replies/messages/") for one in reply["messages"]]
        assert names == [row.reply, "request.refused.v1"]
        assert reply["address"]["location"] == "$message.header#/reply_to"
    assert document["channels"]["replies"]["address"] is None


def test_the_address_of_a_channel_is_its_routing_key(document: Any, type_name: str) -> None:
    row = MESSAGES[type_name]
    if row.exchange is None:
        assert type_name not in document["channels"]
        return
    channel = document["channels"][type_name]

    assert channel["bindings"]["amqp"]["exchange"]["name"] == row.exchange
    if type_name in ("job.progress.v1", "job.log.v1"):
        assert channel["address"] == type_name + ".{job_id}"
        assert list(channel["parameters"]) == ["job_id"]
    else:
        assert channel["address"] == type_name


def test_a_message_reaches_the_queue_of_its_receiver_and_no_other(type_name: str) -> None:
    row = MESSAGES[type_name]
    reached = [
        queue.name.partition(".")[0]
        for queue in WORK_QUEUES
        if row.exchange == queue.exchange and any(type_name.startswith(key[:-1]) for key in queue.binding_keys)
    ]

    # A gateway has a queue of its own.
    expected = (
        [] if row.exchange is None or route_of(row).receivers[0] == "ws-gateway" else [route_of(row).receivers[0]]
    )
    assert reached == expected


def test_a_family_that_nobody_receives_has_no_route() -> None:
    with pytest.raises(LookupError, match=r"payment\.made\.v1"):
        route_of(MessageType("payment.made.v1", Refused, EVENTS))
