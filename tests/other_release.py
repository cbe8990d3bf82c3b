"""`python -m other_release newer|first MODULE`: run a service that writes its messages as another release would.

`newer` adds fields that nobody knows, at every depth; `first` leaves out whatever the first release had not.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import aio_pika
from tallyho_contracts.released import read_releases
from tallyho_messaging.publisher import Publisher

NEWS = {"added_later": {"by": "a newer writer"}}
# The keys of these are data, not names of fields.
MAPS = ("skipped_links", "fields", "metadata")
FIRST = {
    name: releases[0].contract.writer
    for name, releases in read_releases(Path(__file__).parents[1] / "libs" / "contracts" / "released").items()
}


def as_newer(value: Any) -> Any:
    """An event, or what is in one, with unknown fields at every depth."""
    if isinstance(value, list):
        return [as_newer(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: one if key in MAPS else as_newer(one) for key, one in value.items()} | NEWS


def as_first(event: Any) -> Any:
    """An event as the first release wrote it; of a type that it had not, unchanged."""
    schema = FIRST.get(event["type"])
    return event | {"data": _known(event["data"], schema, schema)} if schema else event


def _known(value: Any, schema: Any, root: Any) -> Any:
    """What of a value has a place in its schema."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if isinstance(value, list) and "items" in schema:
        return [_known(item, schema["items"], root) for item in value]
    if isinstance(value, dict) and "properties" in schema:
        places = schema["properties"]
        return {key: _known(one, places[key], root) for key, one in value.items() if key in places}
    return value


def translated(body: bytes, release: str) -> bytes:
    """A message, one event or a batch, as that release would write it."""
    translate = {"newer": as_newer, "first": as_first}[release]
    message = json.loads(body)
    return json.dumps(
        [translate(event) for event in message] if isinstance(message, list) else translate(message)
    ).encode()


def _speak(release: str) -> None:
    publish = Publisher.publish

    async def publish_translated(
        self: Publisher, exchange: str, routing_key: str, message: aio_pika.Message, **named: Any
    ) -> None:
        message.body = translated(message.body, release)
        await publish(self, exchange, routing_key, message, **named)

    setattr(Publisher, "publish", publish_translated)  # noqa: B010  # mypy would not have it assigned


if __name__ == "__main__":
    _, release, module = sys.argv
    _speak(release)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
