"""The files beside this package that show its contracts: schemas/, examples/ and asyncapi.json.

Schemas and the AsyncAPI document are generated from the registry. Examples are written by hand, one of each type; here
they are only read by their models and laid out anew.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tallyho_contracts import asyncapi
from tallyho_contracts.event import event_model, schema_address
from tallyho_contracts.registry import MessageType
from tallyho_contracts.schemas import ENVELOPE, data_schema, envelope_schema


class ExampleError(Exception):
    """A hand-written example is missing, or is no event of its type."""


def contracts_version(folder: Path) -> str:
    """The version of the contracts, from their pyproject.toml."""
    version: str = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
    return version


def expected_files(folder: Path, rows: Mapping[str, MessageType]) -> dict[str, str]:
    """What each file must hold, by its path within `folder`. Raises ExampleError."""
    examples = {name: read_example(folder, row) for name, row in rows.items()}
    schemas = {ENVELOPE: envelope_schema()} | {name: data_schema(row) for name, row in rows.items()}
    document = asyncapi.document(rows, version=contracts_version(folder), examples=examples)
    contents = (
        {f"schemas/{name}.json": schema for name, schema in schemas.items()}
        | {f"examples/{name}.json": example for name, example in examples.items()}
        | {"asyncapi.json": document}
    )
    return {path: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for path, content in contents.items()}


def read_example(folder: Path, row: MessageType) -> Any:
    """The example of a type as its model writes it, as JSON values. Raises ExampleError."""
    path = f"examples/{row.name}.json"
    try:
        event = event_model(row.data).model_validate_json((folder / path).read_bytes())
    except FileNotFoundError:
        raise ExampleError(f"{path} is missing: write one by hand") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ExampleError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if (event.type, event.dataschema) != (row.name, schema_address(row.name)):
        raise ExampleError(f"{path} must be of type {row.name} and dataschema {schema_address(row.name)}")
    return event.model_dump(mode="json")


def write(folder: Path, rows: Mapping[str, MessageType]) -> None:
    """Bring all files up to date; a schema that belongs to no type any more is removed. Raises ExampleError."""
    expected = expected_files(folder, rows)
    for path, text in expected.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    for path in _present(folder) - expected.keys():
        if path.startswith("schemas/"):
            (folder / path).unlink()


def differences(folder: Path, rows: Mapping[str, MessageType]) -> list[str]:
    """What is not as the registry has it, one line a file. Raises ExampleError."""
    expected = expected_files(folder, rows)
    present = _present(folder)
    stale = {path: f"{path} belongs to no message type" for path in present - expected.keys()}
    missing = {path: f"{path} is missing" for path in expected.keys() - present}
    changed = {
        path: f"{path} differs" for path in expected.keys() & present if (folder / path).read_text() != expected[path]
    }
    return [line for _, line in sorted((stale | missing | changed).items())]


def _present(folder: Path) -> set[str]:
    found = [*folder.glob("schemas/*.json"), *folder.glob("examples/*.json"), *folder.glob("asyncapi.json")]
    return {path.relative_to(folder).as_posix() for path in found}
