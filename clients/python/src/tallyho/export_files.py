"""What the formats share: a file that only grows, and a document as a row."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tallyho_contracts.documents import JobDocument
from tallyho_contracts.jobs import Job

from tallyho.errors import TallyhoError


class GrowingFile:
    """A file that is a sequence of records: what stands behind the saved position is dropped and written anew."""

    def __init__(self, unfinished: Path, job: Job, position: int) -> None:
        self.job = job
        self._path = unfinished
        if position and not (unfinished.exists() and unfinished.stat().st_size >= position):
            raise incomplete(unfinished)
        self._file = unfinished.open("r+b" if position else "wb")
        self._file.truncate(position)
        self._file.seek(position)
        if not position:
            self._file.write(self.head())

    def head(self) -> bytes:
        """What the file begins with."""
        return b""

    def record(self, document: JobDocument) -> bytes:
        """A document as the file has it."""
        raise NotImplementedError

    def add(self, document: JobDocument) -> None:
        """Add a document."""
        self._file.write(self.record(document))

    def save(self) -> int:
        """Make durable what was added; returns the position behind it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def finish(self, finished: Path) -> None:
        """Give the file its name."""
        self._file.close()
        self._path.replace(finished)

    def close(self) -> None:
        """Let go of the file. What was not saved is lost."""
        with suppress(OSError):  # a full disk was told of before
            self._file.close()


def incomplete(unfinished: Path) -> TallyhoError:
    """The error for an export that lacks what its note says it has."""
    return TallyhoError(f"{unfinished} is not what its note tells of: begin anew, without --resume")


def row(document: JobDocument) -> dict[str, Any]:
    """A document by the names of its columns. What is not stored any more is None."""
    listed, stored = document.document, document.stored
    return {
        "ordinal": listed.ordinal,
        "document_id": str(listed.document_id),
        "url": listed.source_url,
        "title": stored.title if stored else listed.title,
        "content": stored.content if stored else None,
        "html": stored.html if stored else None,
        "description": stored.description if stored else None,
        "language": stored.language if stored else None,
        "metadata": dict(stored.metadata) if stored else None,
        "links": list(stored.links) if stored else None,
        "content_hash": stored.content_hash if stored else listed.content_hash,
        "change": listed.change.value if listed.change else None,
        "status_code": stored.status_code if stored else None,
        "content_type": stored.content_type if stored else None,
        "etag": stored.etag if stored else None,
        "last_modified": stored.last_modified if stored else None,
        "created_at": stored.created_at if stored else None,
        "saved_at": listed.saved_at,
        "truncated": stored.truncated if stored else False,
    }
