"""WARC 1.1 (ISO 28500:2017), each record compressed on its own.

A document is a `resource` record of its page's source where that was kept (no `response`, which would have to be the
server's own bytes), a `conversion` record of its text, and a `metadata` record that refers to that, with title, HTTP
status and links.
"""

from datetime import UTC, datetime
from importlib.metadata import version
from io import BytesIO
from uuid import UUID, uuid5

from tallyho_contracts.documents import JobDocument, StoredDocument
from warcio.recordbuilder import RecordBuilder  # type: ignore[import-untyped]  # ships no types
from warcio.warcwriter import WARCWriter  # type: ignore[import-untyped]  # ships no types

from tallyho.export_files import GrowingFile


class Writer(GrowingFile):
    """A file of WARC records. Ids and dates are the document's own, so that the same document gives the same bytes."""

    def head(self) -> bytes:
        """The record that describes the file."""
        job = self.job
        about = {
            "software": f"Tallyho {version('tallyho')}",
            "format": "WARC File Format 1.1",
            "conformsTo": "http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/",
            "isPartOf": str(job.job_id),
            "description": job.name,
        }
        return self._written("warcinfo", "", _fields(about), record_id=uuid5(job.job_id, "warcinfo"), at=job.created_at)

    def record(self, document: JobDocument) -> bytes:
        """The records of a document; nothing where its text is not stored any more."""
        stored = document.stored
        if stored is None:
            return b""
        listed, links = document.document, stored.links
        kinds = "resource", "conversion", "metadata"
        source, text, about = (uuid5(self.job.job_id, f"{kind} {listed.ordinal}") for kind in kinds)
        kind = "text/markdown" if self.job.options.markdown else "text/plain"
        kept = b""
        if stored.html is not None:
            kept = self._written(
                "resource",
                listed.source_url,
                stored.html.encode(),
                record_id=source,
                at=listed.saved_at,
                content_type="text/html; charset=utf-8",
            )
        converted = self._written(
            "conversion",
            listed.source_url,
            stored.content.encode(),
            record_id=text,
            at=listed.saved_at,
            content_type=f"{kind}; charset=utf-8",
            refers_to=source if kept else None,
        )
        described = self._written(
            "metadata",
            listed.source_url,
            _fields(_about(stored, listed.ordinal), links),
            record_id=about,
            at=listed.saved_at,
            refers_to=text,
        )
        return kept + converted + described

    def _written(
        self,
        kind: str,
        url: str,
        content: bytes,
        *,
        record_id: UUID,
        at: datetime,
        content_type: str = "application/warc-fields",
        refers_to: UUID | None = None,
    ) -> bytes:
        headers = {"WARC-Record-ID": f"<urn:uuid:{record_id}>", "WARC-Date": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        if refers_to:
            headers["WARC-Refers-To"] = f"<urn:uuid:{refers_to}>"
        record = RecordBuilder(warc_version="WARC/1.1").create_warc_record(
            url,
            kind,
            payload=BytesIO(content),
            length=len(content),
            warc_content_type=content_type,
            warc_headers_dict=headers,
        )
        written = BytesIO()
        WARCWriter(written, gzip=True, warc_version="WARC/1.1").write_record(record)
        return written.getvalue()


def _about(stored: StoredDocument, ordinal: int) -> dict[str, str]:
    about = {
        "ordinal": str(ordinal),
        "document-id": str(stored.document_id),
        "title": stored.title,
        "description": stored.description,
        "language": stored.language or "",
        "http-status": str(stored.status_code),
        "content-type-of-page": stored.content_type,
        "content-hash": stored.content_hash,
        "etag": stored.etag or "",
        "last-modified": stored.last_modified or "",
    }
    return {name: value for name, value in about.items() if value}


def _fields(values: dict[str, str], links: tuple[str, ...] = ()) -> bytes:
    """`application/warc-fields`: a line for each value, and for each link."""
    lines = [f"{name}: {' '.join(value.split())}\r\n" for name, value in values.items()]
    return "".join([*lines, *(f"outlink: {link}\r\n" for link in links)]).encode()
