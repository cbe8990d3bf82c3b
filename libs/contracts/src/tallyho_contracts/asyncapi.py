"""The AsyncAPI 3.0 document of the system: who sends which message to whom, through which exchange."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallyho_contracts.event import BATCH_CONTENT_TYPE, EVENT_CONTENT_TYPE, schema_address
from tallyho_contracts.registry import COMMANDS, EVENTS, MessageType
from tallyho_contracts.registry import REPLIES as REPLY_EXCHANGE
from tallyho_contracts.schemas import Schema, envelope_schema, shared_schemas

BINDING_VERSION = "0.3.0"
REPLIES = "replies"
REFUSED = "request.refused.v1"

Part = dict[str, Any]


@dataclass(frozen=True)
class Route:
    """Who sends a family of messages, and who receives it, the one it is meant for first.

    `per_job`: the routing key ends with the job's id.
    """

    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    per_job: bool = False


# By exchange and first word of the type, as the queues bind them.
_ROUTES = {
    (COMMANDS, "job"): Route(("ws-gateway",), ("job-tracker",)),
    (COMMANDS, "crawl"): Route(("job-tracker",), ("crawler",)),
    (COMMANDS, "document"): Route(("ws-gateway",), ("crawler",)),
    (COMMANDS, "url"): Route(("ws-gateway",), ("crawler",)),
    (EVENTS, "crawl"): Route(("crawler",), ("job-tracker",)),
    (EVENTS, "page"): Route(("crawler",), ("job-tracker",)),
    (EVENTS, "document"): Route(("crawler",), ("job-tracker",)),
    (EVENTS, "job"): Route(("job-tracker",), ("ws-gateway",), per_job=True),
}
# A gateway hears of new pages too, while it has clients of the old system.
_OF_NEW_PAGES = Route(("crawler",), ("job-tracker", "ws-gateway"))
_ROUTES_OF_TYPES = {
    "job.log.v1": Route(("job-tracker", "crawler"), ("job-tracker", "ws-gateway"), per_job=True),
    "crawl.started.v1": _OF_NEW_PAGES,
    "crawl.changed.v1": _OF_NEW_PAGES,
    "page.finished.v1": _OF_NEW_PAGES,
}

_DESCRIPTION = f"""\
Every message is a CloudEvents 1.0 event in structured JSON mode (`{EVENT_CONTENT_TYPE}`). Events and commands may also
come as a CloudEvents JSON batch (`{BATCH_CONTENT_TYPE}`: an array of events of one type), sent when several were
waiting; receivers take both. Requests and replies always come alone.

The AMQP properties `type` and `message_id` repeat the event's type and id (of a batch: its first id). A request names
its reply queue in `reply_to`; its reply is published to `{REPLY_EXCHANGE}` with that name as the routing key, and
carries the same `correlation_id`.
"""


def document(rows: Mapping[str, MessageType], *, version: str, examples: Mapping[str, Any]) -> Part:
    """The document of all registered messages; `examples` has an event of each."""
    routed = [row for row in rows.values() if row.exchange]
    replies = [row for row in rows.values() if not row.exchange]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tallyho",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": EVENT_CONTENT_TYPE,
        "servers": {"broker": {"host": "localhost:5672", "protocol": "amqp", "protocolVersion": "0.9.1"}},
        "channels": {row.name: _channel(row) for row in routed} | {REPLIES: _reply_channel(replies)},
        "operations": {name: one for row in routed for name, one in _operations(row).items()},
        "components": {
            "messages": {name: one for row in rows.values() for name, one in _messages(row, examples).items()},
            "schemas": _schemas(rows),
        },
    }


def route_of(row: MessageType) -> Route:
    """Who sends and who receives messages of this type. Raises LookupError for a family that nobody receives."""
    if row.name in _ROUTES_OF_TYPES:
        return _ROUTES_OF_TYPES[row.name]
    try:
        return _ROUTES[row.exchange or "", row.name.split(".")[0]]
    except KeyError:
        raise LookupError(f"{row.name}: no service is known to receive it from {row.exchange}") from None


def _comes_in_batches(row: MessageType) -> bool:
    return row.exchange is not None and row.reply is None


def _channel(row: MessageType) -> Part:
    messages = {"event": _ref("components", "messages", row.name)}
    if _comes_in_batches(row):
        messages["batch"] = _ref("components", "messages", f"{row.name}.batch")
    exchange = {"name": row.exchange, "type": "topic", "durable": True, "autoDelete": False}
    channel: Part = {
        "address": row.name,
        "messages": messages,
        "bindings": _amqp({"is": "routingKey", "exchange": exchange}),
    }
    if route_of(row).per_job:
        channel["address"] = f"{row.name}.{{job_id}}"
        channel["parameters"] = {"job_id": {"description": "The parent job's id, the event's `subject`."}}
    return channel


def _reply_channel(replies: list[MessageType]) -> Part:
    return {
        "address": None,
        "description": f"The exclusive queue that a request names in its property `reply_to`, bound to the exchange"
        f" `{REPLY_EXCHANGE}` with its own name.",
        "messages": {row.name: _ref("components", "messages", row.name) for row in replies},
        "bindings": _amqp({"is": "queue", "queue": {"durable": False, "exclusive": True}}),
    }


def _operations(row: MessageType) -> dict[str, Part]:
    route = route_of(row)
    shared: Part = {"channel": _ref("channels", row.name), "summary": _first_line(row)}
    if row.reply:
        shared["reply"] = {
            "address": {"location": "$message.header#/reply_to", "description": "The AMQP property."},
            "channel": _ref("channels", REPLIES),
            "messages": [_ref("channels", REPLIES, "messages", name) for name in (row.reply, REFUSED)],
        }
    send = {"action": "send", **shared, "bindings": _amqp({"mandatory": not route.per_job})}
    receive = {"action": "receive", **shared, "bindings": _amqp({"ack": not route.per_job})}
    sent = {f"{sender}.send.{row.name}": send for sender in route.senders}
    return sent | {f"{receiver}.receive.{row.name}": receive for receiver in route.receivers}


def _messages(row: MessageType, examples: Mapping[str, Any]) -> dict[str, Part]:
    shared = {
        "title": row.data.__name__,
        "summary": _first_line(row),
        "bindings": _amqp({"messageType": row.name}),
    }
    event: Part = {
        "name": row.name,
        **shared,
        "contentType": EVENT_CONTENT_TYPE,
        "payload": _ref("components", "schemas", row.name),
        "examples": [{"name": "golden", "payload": examples[row.name]}],
    }
    if not _comes_in_batches(row):
        event["correlationId"] = {"location": "$message.header#/correlation_id", "description": "The AMQP property."}
        return {row.name: event}
    batch = {
        "name": f"{row.name}.batch",
        **shared,
        "contentType": BATCH_CONTENT_TYPE,
        "payload": {"type": "array", "minItems": 1, "items": _ref("components", "schemas", row.name)},
        "examples": [{"name": "golden", "payload": [examples[row.name]]}],
    }
    return {row.name: event, f"{row.name}.batch": batch}


def _schemas(rows: Mapping[str, MessageType]) -> dict[str, Schema]:
    envelope = {key: value for key, value in envelope_schema().items() if not key.startswith("$")}
    events = {row.name: _event_schema(row) for row in rows.values()}
    return {"Event": envelope} | events | shared_schemas(rows.values(), "#/components/schemas/{model}")


def _event_schema(row: MessageType) -> Schema:
    fixed = {"type": {"const": row.name}, "dataschema": {"const": schema_address(row.name)}}
    data = {"data": _ref("components", "schemas", row.data.__name__)}
    return {"allOf": [_ref("components", "schemas", "Event"), {"type": "object", "properties": fixed | data}]}


def _first_line(row: MessageType) -> str:
    return inspect.cleandoc(row.data.__doc__ or "").splitlines()[0]


def _amqp(binding: Part) -> Part:
    return {"amqp": binding | {"bindingVersion": BINDING_VERSION}}


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}
