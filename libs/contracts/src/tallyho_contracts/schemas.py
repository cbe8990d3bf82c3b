"""The JSON Schemas of the messages (2020-12), generated from their models."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, cast

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from tallyho_contracts.event import Event, Message, schema_address
from tallyho_contracts.registry import MessageType

Schema = dict[str, Any]

ENVELOPE = "event"

# The keys within these are names that we gave, not keywords.
_KEYED_BY_NAME = ("properties", "patternProperties", "$defs")


class WithoutFieldTitles(GenerateJsonSchema):
    """Leaves out the titles that would only repeat the names of the fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False


def data_schema(row: MessageType) -> Schema:
    """What the data of a type looks like: the schema that `dataschema` names."""
    return _headed(row.name, row.data.model_json_schema(schema_generator=WithoutFieldTitles))


def envelope_schema() -> Schema:
    """What all events look like around their data."""
    schema = Event[Message].model_json_schema(schema_generator=WithoutFieldTitles)
    del schema["$defs"]
    schema["properties"]["data"] = {"type": "object", "description": "What happened; `dataschema` names its schema."}
    return _headed(ENVELOPE, schema | {"title": "Event", "description": Event.__doc__})


def _headed(name: str, schema: Schema) -> Schema:
    head = {key: schema[key] for key in ("title", "description")}
    return {"$schema": GenerateJsonSchema.schema_dialect, "$id": schema_address(name), **head, **schema}


def shared_schemas(rows: Iterable[MessageType], ref_template: str) -> dict[str, Schema]:
    """The schemas of all data models and what they are made of, by model name, referring to each other."""
    models: list[tuple[type[Message], Literal["validation"]]] = [(row.data, "validation") for row in rows]
    _, schemas = models_json_schema(models, ref_template=ref_template, schema_generator=WithoutFieldTitles)
    definitions: dict[str, Schema] = schemas["$defs"]
    return definitions


def without_annotations(schema: Schema) -> Schema:
    """Only what decides whether a message is valid."""

    def bare(one: Schema) -> Schema:
        return {key: value for key, value in one.items() if key not in ("title", "description", "default")}

    return cast("Schema", _rewritten(schema, bare))


def closed(schema: Schema) -> Schema:
    """The same, refusing fields that it does not name."""

    def close(one: Schema) -> Schema:
        return one | {"additionalProperties": False} if one.get("properties") else one

    return cast("Schema", _rewritten(schema, close))


def _rewritten(schema: Any, rewrite: Callable[[Schema], Schema]) -> Any:
    if isinstance(schema, list):
        return [_rewritten(item, rewrite) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return rewrite(
        {
            key: {name: _rewritten(one, rewrite) for name, one in value.items()}
            if key in _KEYED_BY_NAME
            else _rewritten(value, rewrite)
            for key, value in schema.items()
        }
    )
