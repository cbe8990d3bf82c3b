"""What was released of each message type, kept for ever: events of any release may still wait in a queue or outbox.

`reader` is what a service of that release accepts (it ignores fields that it does not know), `writer` what it may send.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from tallyho_contracts.event import Event, Message
from tallyho_contracts.registry import MessageType
from tallyho_contracts.schemas import ENVELOPE, closed, without_annotations


class AlreadyReleasedError(Exception):
    """The version was released with other contracts; raise it in pyproject.toml."""


class Contract(BaseModel):
    """All that the other side of a message relies on."""

    model_config = ConfigDict(frozen=True)

    exchange: str | None
    reply: str | None
    reader: dict[str, Any]
    writer: dict[str, Any]


class Release(BaseModel):
    """The contract of a type from this version on."""

    model_config = ConfigDict(frozen=True)

    version: str
    contract: Contract


_Releases = TypeAdapter(tuple[Release, ...])


def present_contract(row: MessageType) -> Contract:
    """The contract of a type as its model has it now."""
    return Contract(
        exchange=row.exchange,
        reply=row.reply,
        reader=without_annotations(row.data.model_json_schema(mode="validation")),
        writer=closed(without_annotations(row.data.model_json_schema(mode="serialization"))),
    )


def present_contracts(rows: Iterable[MessageType]) -> dict[str, Contract]:
    """The contracts of all types, and of the envelope, by name."""
    envelope = MessageType(ENVELOPE, Event[Message], exchange=None)
    return {row.name: present_contract(row) for row in (envelope, *rows)}


def read_releases(folder: Path) -> dict[str, tuple[Release, ...]]:
    """All that was released of each type, the oldest first."""
    return {path.stem: _Releases.validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))}


def release(folder: Path, rows: Iterable[MessageType], version: str) -> list[str]:
    """Add the contracts that differ from their last release, as of `version`; returns the names of their types.

    Raises AlreadyReleasedError, before anything is written.
    """
    before = read_releases(folder)
    changed = {
        name: contract
        for name, contract in present_contracts(rows).items()
        if name not in before or before[name][-1].contract != contract
    }
    for name in changed:
        if any(one.version == version for one in before.get(name, ())):
            raise AlreadyReleasedError(f"{name} of {version} is released: raise the version in pyproject.toml first")
    folder.mkdir(exist_ok=True)
    for name, contract in changed.items():
        releases = (*before.get(name, ()), Release(version=version, contract=contract))
        (folder / f"{name}.json").write_bytes(_Releases.dump_json(releases, indent=2) + b"\n")
    return list(changed)
