"""PDF files to their text. Only for a process that may be killed: see `parser_process.py`."""

import re
from datetime import datetime

import pypdfium2  # type: ignore[import-untyped]  # pypdfium2 ships no types
from pypdfium2 import raw

MAX_PAGES = 2_000
MAX_CHARACTERS = 5_000_000
_DATE = re.compile(
    r"D:(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(?:(?P<utc>Z)|(?P<offset>[-+]\d{2})(?:'(?P<minutes>\d{2}))?)?",
    re.ASCII,
)


class UnreadablePdfError(Exception):
    """The file is no PDF that can be read: `pdf_encrypted` or `pdf_damaged`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_pdf(body: bytes) -> tuple[str, str, dict[str, str]]:
    """Return title, text and metadata of a PDF; the text of its first 2,000 pages, a blank line between two.

    A file that holds nothing but pictures of text has none. Raises UnreadablePdfError.
    """
    try:
        document = pypdfium2.PdfDocument(body)
    except pypdfium2.PdfiumError as error:
        encrypted = raw.FPDF_GetLastError() in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY)
        raise UnreadablePdfError("pdf_encrypted" if encrypted else "pdf_damaged") from error
    said = {key: _clean(value) for key, value in document.get_metadata_dict(skip_empty=True).items()}
    metadata = {"pages": str(len(document))}
    for key, names in (("author", ("Author",)), ("generator", ("Creator", "Producer")), ("keywords", ("Keywords",))):
        value = next((said[name] for name in names if said.get(name)), "")
        if value:
            metadata[key] = value[:1_000]
    for key, name in (("published_at", "CreationDate"), ("modified_at", "ModDate")):
        if date := _iso(said.get(name, "")):
            metadata[key] = date
    return said.get("Title", ""), _text(document), metadata


def _text(document: pypdfium2.PdfDocument) -> str:
    pages: list[str] = []
    characters = 0
    for number in range(min(len(document), MAX_PAGES)):
        try:
            page = document[number]
        except pypdfium2.PdfiumError:
            continue  # one page is damaged; the others are worth having
        textpage = page.get_textpage()
        text = textpage.get_text_range()
        textpage.close()
        page.close()
        lines = "\n".join(line.rstrip() for line in _clean(text).splitlines()).strip()
        if lines:
            pages.append(lines)
            characters += len(lines)
        if characters > MAX_CHARACTERS:
            break
    return "\n\n".join(pages)[:MAX_CHARACTERS]


def _clean(text: str) -> str:
    """Text that can be stored: without NUL and without halves of characters. PDFs mark a hyphen at a line's end so."""
    text = text.replace("\ufffe\r\n", "").replace("\ufffe\n", "").replace("\0", "")
    return text.encode("utf-8", "replace").decode()


def _iso(date: str) -> str:
    match = _DATE.match(date)
    if match is None:
        return ""
    year, month, day, hour, minute, second = (
        part or default for part, default in zip(match.groups()[:6], ("", "01", "01", "00", "00", "00"), strict=True)
    )
    zone = "+00:00" if match["utc"] else f"{match['offset']}:{match['minutes'] or '00'}" if match["offset"] else ""
    try:
        return datetime.fromisoformat(f"{year}-{month}-{day}T{hour}:{minute}:{second}{zone}").isoformat()
    except ValueError:
        return ""
