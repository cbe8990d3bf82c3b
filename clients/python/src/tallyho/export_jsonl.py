"""JSON Lines: an object for each document."""

from pydantic_core import to_json
from tallyho_contracts.documents import JobDocument

from tallyho.export_files import GrowingFile, row


class Writer(GrowingFile):
    """A file of lines."""

    def record(self, document: JobDocument) -> bytes:
        """A line."""
        return to_json(row(document)) + b"\n"
