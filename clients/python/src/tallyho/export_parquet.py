"""Parquet, compressed with zstd.

A Parquet file can't be added to once it is closed, nor be read before. So each step is a file of its own, and all of
them become the row groups of one file at the end.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
from tallyho_contracts.documents import JobDocument
from tallyho_contracts.jobs import Job

from tallyho.export_files import incomplete, row

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("content", pa.string()),
        pa.field("html", pa.string()),
        pa.field("description", pa.string()),
        pa.field("language", pa.string()),
        pa.field("metadata", pa.map_(pa.string(), pa.string())),
        pa.field("links", pa.list_(pa.string())),
        pa.field("content_hash", pa.string()),
        pa.field("change", pa.string()),
        pa.field("status_code", pa.int32()),
        pa.field("content_type", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("last_modified", pa.string()),
        pa.field("created_at", _TIME),
        pa.field("saved_at", _TIME, nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
    ]
)


class Writer:
    """A folder of parts, numbered from 0; the position is how many there are."""

    def __init__(self, unfinished: Path, job: Job, position: int) -> None:  # as all writers have it
        self._folder = unfinished
        if not all(self._part(number).exists() for number in range(position)):
            raise incomplete(unfinished)
        unfinished.mkdir(exist_ok=True)
        self._parts = position
        self._rows: list[dict[str, Any]] = []

    def add(self, document: JobDocument) -> None:
        """Add a document."""
        columns = row(document)
        if columns["metadata"] is not None:
            columns["metadata"] = list(columns["metadata"].items())  # as Arrow wants a map
        self._rows.append(columns)

    def save(self) -> int:
        """Write what was added as a part; returns how many parts there are."""
        if self._rows:
            with self._part(self._parts).open("wb") as file:
                pq.write_table(pa.Table.from_pylist(self._rows, SCHEMA), file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            self._parts += 1
            self._rows.clear()
        return self._parts

    def finish(self, finished: Path) -> None:
        """Make one file of the parts, a row group of each."""
        whole = self._folder / "whole.parquet"
        with pq.ParquetWriter(whole, SCHEMA, compression="zstd") as writer:
            for number in range(self._parts):
                writer.write_table(pq.read_table(self._part(number), schema=SCHEMA, use_threads=False))
        whole.replace(finished)
        shutil.rmtree(self._folder)

    def close(self) -> None:
        """Nothing is held open."""

    def _part(self, number: int) -> Path:
        return self._folder / f"{number:06}.parquet"
