"""Queries in files."""

import sys
from pathlib import Path

import pytest
from tallyho_postgres import named_sql


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty package with a folder for its queries."""
    (tmp_path / "some_service" / "sql").mkdir(parents=True)
    (tmp_path / "some_service" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_service", raising=False)
    return "some_service"


def test_each_query_is_found_by_its_name(package: str, tmp_path: Path) -> None:
    text = "-- name: one\n-- What a row means.\nSELECT 1\n\n-- name: two\nSELECT 2\n"
    (tmp_path / package / "sql" / "queries.sql").write_text(text)

    queries = named_sql.load(package, "queries.sql")

    assert dict(queries) == {"one": "-- What a row means.\nSELECT 1", "two": "SELECT 2"}


def test_two_queries_of_one_name_are_an_error(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "sql" / "queries.sql").write_text("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")

    with pytest.raises(ValueError, match=r"two queries are named 'one' in some_service/sql/queries\.sql"):
        named_sql.load(package, "queries.sql")
