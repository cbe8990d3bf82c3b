"""What the contract tests read: the files of libs/contracts, and schemas that others published."""

import json
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from jsonschema import FormatChecker  # type: ignore[import-untyped]
from tallyho_contracts.registry import MESSAGES


@pytest.fixture(scope="session")
def contracts_folder() -> Path:
    """libs/contracts."""
    return Path(__file__).parents[2] / "libs" / "contracts"


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of the schemas that others published."""
    return Path(__file__).parent / "data"


@pytest.fixture(params=list(MESSAGES))
def type_name(request: pytest.FixtureRequest) -> str:
    """Each message type in turn."""
    return str(request.param)


@pytest.fixture
def example(contracts_folder: Path, type_name: str) -> Any:
    """The golden example of the type, as JSON values."""
    return json.loads((contracts_folder / "examples" / f"{type_name}.json").read_text())


@pytest.fixture(scope="session")
def formats() -> FormatChecker:
    """The formats that our schemas and CloudEvents name; on its own, jsonschema would check few of them."""
    checker = FormatChecker(formats=())
    parsers: dict[str, Callable[[str], object]] = {
        "uuid": UUID,
        "date-time": _time_with_zone,
        "uri": _absolute,
        "uri-reference": urlsplit,
    }
    for name, parse in parsers.items():
        checker.checks(name, raises=ValueError)(partial(_parses, parse))
    return checker


def _parses(parse: Callable[[str], object], value: object) -> bool:
    return not isinstance(value, str) or bool(parse(value))


def _time_with_zone(value: str) -> bool:
    return datetime.fromisoformat(value).tzinfo is not None


def _absolute(value: str) -> bool:
    return bool(urlsplit(value).scheme)
