"""The AsyncAPI 3.0 document of the WebSocket, from the models that read and make its frames.

It stands beside that of the messages between the services (libs/contracts), since the frames are the gateway's own.
"""

import inspect
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from tallyho_contracts.jobs import JobState
from tallyho_contracts.logs import JobLog

from ws_gateway.closing import (
    ABUSE,
    FAILED,
    FORBIDDEN,
    RESTARTING,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_MESSAGES,
    TOO_SLOW,
    UNAUTHORIZED,
)
from ws_gateway.frames import (
    Error,
    Frame,
    Line,
    Received,
    SavedDocuments,
    Spawn,
    StatusChange,
    Subscribed,
    ToSubscribe,
    ToUnsubscribe,
    Unsubscribed,
)

Part = dict[str, Any]


class Nothing(Frame):
    """No fields."""


FROM_CLIENT: dict[str, type[BaseModel]] = {
    "subscribe": ToSubscribe,
    "unsubscribe": ToUnsubscribe,
    "ack": Received,
    "pong": Nothing,
}
TO_CLIENT: dict[str, type[BaseModel]] = {
    "subscribed": Subscribed,
    "unsubscribed": Unsubscribed,
    "parent_job_progress": JobState,
    "document_saved": SavedDocuments,
    "job_log": JobLog,
    "error": Error,
    "ping": Nothing,
    "job_status_change": StatusChange,
    "job_spawn": Spawn,
    "log": Line,
}
_ANSWERS = {"subscribe": ("subscribed", "error"), "unsubscribe": ("unsubscribed", "error")}
_CLOSINGS = (
    FAILED,
    RESTARTING,
    ABUSE,
    UNAUTHORIZED,
    FORBIDDEN,
    TOO_SLOW,
    TOO_MANY_CONNECTIONS,
    TOO_MANY_MESSAGES,
)
_ABOUT = """\
Frames are text: `{"type": …, "payload": …}`. `docs/protocol.md` tells the whole protocol.

A client that sends nothing gets `parent_job_progress` of every job. The first `subscribe` narrows it to what it
subscribes to. At `/ws`, clients that never subscribe also get the frames of the system before this one:
`job_status_change`, `job_spawn` and `log`.

The gateway closes with a reason in JSON (`reason`, `retry`, `retry_ms`):
"""


def document() -> Part:
    """The document, complete."""
    closings = "".join(f"\n- {one.code}: {one.reason}{', retry' if one.retry_ms else ''}" for one in _CLOSINGS)
    messages = {name: _message(name, model) for name, model in (FROM_CLIENT | TO_CLIENT).items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tallyho's WebSocket",
            "version": "1",
            "description": _ABOUT + closings,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {"host": "localhost:8080", "protocol": "ws", "security": [_ref("securitySchemes", "key")]}
        },
        "channels": {
            "socket": {
                "address": "/v1/ws",
                "messages": {name: _ref("messages", name) for name in messages},
                "bindings": {"ws": {"method": "GET", "query": _query(), "bindingVersion": "0.1.0"}},
            }
        },
        "operations": _operations(),
        "components": {
            "messages": messages,
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _query() -> Part:
    ticket = {"type": "string", "description": "In place of a key, for browsers; from `POST /v1/tickets`."}
    return {"type": "object", "properties": {"ticket": ticket}}


def _operations() -> Part:
    """From the gateway's side: it receives what clients send."""
    operations: Part = {}
    for action, names in (("receive", FROM_CLIENT), ("send", TO_CLIENT)):
        for name, model in names.items():
            operation = operations[f"{action}.{name}"] = {
                "action": action,
                "channel": {"$ref": "#/channels/socket"},
                "summary": _first_line(model),
                "messages": [{"$ref": f"#/channels/socket/messages/{name}"}],
            }
            if name in _ANSWERS:
                operation["reply"] = {
                    "channel": {"$ref": "#/channels/socket"},
                    "messages": [{"$ref": f"#/channels/socket/messages/{answer}"} for answer in _ANSWERS[name]],
                }
    return operations


def _message(name: str, model: type[BaseModel]) -> Part:
    frame: Part = {
        "type": "object",
        "required": ["type"] if model is Nothing else ["type", "payload"],
        "properties": {"type": {"const": name}, "payload": _ref("schemas", model.__name__)},
    }
    return {"name": name, "title": name, "summary": _first_line(model), "payload": frame}


def _schemas() -> Part:
    read: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in FROM_CLIENT.values()]
    written: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "serialization") for model in TO_CLIENT.values()]
    models = [*read, *(one for one in written if one[0] is not Nothing)]
    _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")
    definitions: Part = schemas["$defs"]
    return definitions


def _first_line(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").splitlines()[0]


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/components/" + "/".join(path)}
