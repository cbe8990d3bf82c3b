"""From the body of a page to what is kept of it; synchronous, for whichever process does it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crawler.extract import Extracted, extract, extracted, media_type, name_of, to_markdown
from crawler.links import PageLinks
from crawler.metadata import About
from crawler.text_encoding import decode

PDF = "application/pdf"
_PDF_MAGIC = b"%PDF-"
_HTML = ("", "text/html", "application/xhtml+xml")
# What takes the event loop no longer than some 40 ms, however it is made.
_MAX_LIGHT_BYTES = 256 * 1024
_MAX_LIGHT_TAGS = 4_000
# And what takes it no longer than some 5 ms: most pages.
_MAX_QUICK_BYTES = 32 * 1024
_MAX_QUICK_TAGS = 1_000


class UnreadablePdfError(Exception):
    """The file is no PDF that can be read: `pdf_encrypted` or `pdf_damaged`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ToParse:
    """A body to parse, fetched from the canonical `url`, and what its job wants of it. `is_list`: the URLs in it."""

    body: bytes
    content_type: str
    url: str
    markdown: bool = True
    keep_html: bool = False
    is_list: bool = False

    @property
    def is_html(self) -> bool:
        """Whether its source is HTML, as far as its server says."""
        return media_type(self.content_type) in _HTML and not self.is_pdf

    @property
    def is_pdf(self) -> bool:
        """Whether it is a PDF file; some servers call it something else."""
        return media_type(self.content_type) == PDF or self.body.startswith(_PDF_MAGIC)

    @property
    def is_light(self) -> bool:
        """Whether reading it is so little work that it may be done between other things."""
        return not self.is_pdf and len(self.body) <= _MAX_LIGHT_BYTES and self.body.count(b"<") <= _MAX_LIGHT_TAGS

    @property
    def is_quick(self) -> bool:
        """Whether reading it is so little work that many may be read without a pause."""
        return len(self.body) <= _MAX_QUICK_BYTES and self.body.count(b"<") <= _MAX_QUICK_TAGS


@dataclass(frozen=True, slots=True)
class Parsed:
    """What is kept of a page: `content` is its main text, as markdown if that was wanted; `html` its whole source."""

    title: str
    content: str
    links: PageLinks
    content_hash: str
    description: str = ""
    language: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    html: str | None = None


def parse(page: ToParse) -> Parsed:
    """Parse a page. What a heavy one takes nobody knows beforehand. Raises UnreadablePdfError."""
    return finish(page, read(page))


def read(page: ToParse) -> Extracted:
    """The first half: what holds the interpreter's lock. Raises UnreadablePdfError."""
    if not page.is_pdf:
        return extract(page.body, page.content_type, page.url, keep_main=page.markdown)
    from crawler.pdf import read_pdf  # a library of 10 MB: for the process that reads PDFs only

    title, text, metadata = read_pdf(page.body)
    return extracted(title or name_of(page.url), text, said=About("", None, metadata))


def finish(page: ToParse, kept: Extracted) -> Parsed:
    """The second half: what releases the lock, and so may be done in a thread."""
    return Parsed(
        title=kept.title,
        content=to_markdown(kept.main, url=kept.links.base, otherwise=kept.text) if kept.main else kept.text,
        links=kept.links,
        content_hash=kept.content_hash,
        description=kept.description,
        language=kept.language,
        metadata=kept.metadata,
        html=decode(page.body, page.content_type) if page.keep_html and page.is_html else None,
    )
