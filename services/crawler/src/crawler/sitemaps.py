"""Lists of URLs: sitemaps and their indexes, RSS and Atom feeds, and text files; each perhaps compressed. Pure.

Sources: https://www.sitemaps.org/protocol.html, RFC 4287 (Atom), https://www.rssboard.org/rss-specification
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO, TextIOWrapper
from itertools import islice
from xml.parsers import expat

from crawler.content_encoding import Decoder, UndecodableError
from crawler.meta_charset import declared_label
from crawler.text_encoding import decode
from crawler.urls import MAX_LENGTH, canonical, join

MAX_BYTES = 50 * 1024 * 1024  # once decompressed, as the protocol has it
MAX_ENTRIES = 50_000
_MAX_DEPTH = 50  # of nested elements; a list has four
_MAX_ELEMENTS = 3_000_000
_MAX_LINES = 1_000_000
_MAX_AMPERSANDS = 500_000  # put right; each takes a hundred bytes meanwhile
_MAX_TAG = 1024 * 1024  # bytes; the parser's work on one grows faster than its length
_CHUNK = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
# The elements that hold an entry, by the name of the document's element, and those that say where and when.
_ENTRIES = {"urlset": "url", "sitemapindex": "sitemap", "rss": "item", "RDF": "item", "feed": "entry"}
_ADDRESSES = frozenset({"loc", "link"})
_DATES = frozenset({"lastmod", "pubDate", "updated", "dc:date"})
# Often forgotten in handwritten lists, and fatal to a parser of XML; inside CDATA, the group, it means itself.
_BARE_AMPERSAND = re.compile(
    rb"(<!\[CDATA\[.*?(?:\]\]>|\Z))|&(?!(?:[A-Za-z]{2,8}|#\d{1,7}|#x[0-9A-Fa-f]{1,6});)", re.DOTALL
)
_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """A canonical URL of a list. `is_list`: it leads to another list. `modified` is the latest time it can mean."""

    url: str
    modified: datetime | None = None
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list lists, each URL once; `beyond` more of its addresses, as they are written, were not looked at."""

    entries: tuple[Entry, ...]
    beyond: int = 0


@dataclass
class _Reader:
    """What has been read of an XML document; the methods are called by the parser."""

    url: str
    entries: dict[str, Entry] = field(default_factory=dict)
    beyond: int = 0
    root: str = ""
    prefix: str = ""
    depth: int = 0
    elements: int = 0
    entry_depth: int = 0  # of the open entry; 0 when there is none
    address: str = ""
    date: str = ""
    name: str = ""  # of the open element that says where or when
    text: str = ""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.depth += 1
        self.elements += 1
        if self.depth > _MAX_DEPTH or self.elements > _MAX_ELEMENTS:
            raise _EnoughError
        if self.depth == 1:
            prefix, colon, local = name.rpartition(":")
            self.root, self.prefix = local, "" if local == "RDF" else prefix + colon
            if local not in _ENTRIES:
                raise _EnoughError
        elif not self.entry_depth:
            if name == self.prefix + _ENTRIES[self.root]:
                self.entry_depth, self.address, self.date = self.depth, "", ""
        elif self.depth == self.entry_depth + 1:
            self._start_field(name.removeprefix(self.prefix), attributes)

    def _start_field(self, name: str, attributes: Mapping[str, str]) -> None:
        if name not in _ADDRESSES | _DATES:
            return
        self.name, self.text = name, ""
        if self.root == "feed" and name == "link" and attributes.get("rel", "alternate") == "alternate":
            self.address = self.address or attributes.get("href", "")

    def data(self, text: str) -> None:
        if self.name and len(self.text) <= MAX_LENGTH:
            self.text += text

    def end(self, _: str) -> None:
        if self.entry_depth and self.depth == self.entry_depth + 1 and self.name:
            if self.name in _ADDRESSES:
                self.address = self.address or self.text.strip()
            else:
                self.date = self.text.strip()
            self.name = ""
        elif self.depth == self.entry_depth:
            self._add()
            self.entry_depth = 0
        self.depth -= 1

    def _add(self) -> None:
        if len(self.entries) == MAX_ENTRIES:
            self.beyond += bool(self.address)
            return
        url = join(self.url, self.address) if self.address else None
        if url is None:
            return
        modified, before = moment(self.date), self.entries.get(url)
        # Listed again, the later date counts; what has none may be of any time.
        if before is None or (before.modified and (modified is None or modified > before.modified)):
            self.entries[url] = Entry(url, modified, is_list=self.root == "sitemapindex")

    def entity(self, *_: object) -> None:
        raise _EnoughError  # no list needs entities of its own, and a few can stand for gigabytes


class _EnoughError(Exception):
    """Nothing more is read of this document."""


def read_list(body: bytes, url: str) -> Listed | None:
    """Return what the list at the canonical `url` lists; None when it is no list.

    Of a list that is cut off, broken or too long, what comes before that is returned.
    """
    if body.startswith(_GZIP_MAGIC):
        try:
            body = _decompressed(body)
        except UndecodableError:
            return None
    body = body[:MAX_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    is_xml = body.startswith((b"<", b"\xff\xfe", b"\xfe\xff"))
    return _read_xml(body, url) if is_xml else _read_text(body)


def _decompressed(body: bytes) -> bytes:
    """In pieces: what follows a member of the gzip file is copied for each of them."""
    decoder = Decoder("gzip")
    decoded = bytearray()
    for start in range(0, len(body), _CHUNK):
        decoded += decoder.decode(body[start : start + _CHUNK], MAX_BYTES - len(decoded))
    return bytes(decoded)


def _read_xml(body: bytes, url: str) -> Listed | None:
    body = _BARE_AMPERSAND.sub(lambda match: match[1] or b"&amp;", _as_utf_8(body), _MAX_AMPERSANDS)
    reader = _Reader(url)
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.EntityDeclHandler = reader.entity
    try:
        for start in range(0, len(body), _CHUNK):
            parser.Parse(body[start : start + _CHUNK], False)  # noqa: FBT003  # takes no keywords
            if start - parser.CurrentByteIndex > _MAX_TAG:
                break
    except (_EnoughError, expat.ExpatError):
        pass  # what was read until then is what there is
    return Listed(tuple(reader.entries.values()), reader.beyond) if reader.root in _ENTRIES else None


def _as_utf_8(body: bytes) -> bytes:
    """The document in UTF-8: of most encodings with several bytes a character the parser knows nothing."""
    declaration = body[: body.find(b">") + 1]
    return decode(body, f"text/xml; charset={declared_label(declaration) or 'utf-8'}").encode()


def _read_text(body: bytes) -> Listed | None:
    entries: dict[str, Entry] = {}
    beyond = 0
    lines = TextIOWrapper(BytesIO(body), "utf-8", "replace")  # all at once would take a gigabyte
    for line in islice(lines, _MAX_LINES):
        if len(entries) == MAX_ENTRIES:
            beyond += bool(line.strip())
            continue
        url = canonical(line.strip()) if len(line) <= MAX_LENGTH else None
        if url is not None:
            entries.setdefault(url, Entry(url))
    return Listed(tuple(entries.values()), beyond) if entries else None


def moment(text: str) -> datetime | None:
    """Return the latest time that a date means: a day is over at its end. None for what is no date."""
    try:
        if match := _DATE.fullmatch(text):
            year, month, day = int(match[1]), int(match[2] or 12), int(match[3] or 1)
            start = datetime(year, month, day, tzinfo=UTC)
            return start + timedelta(days=1 if match[3] else 31)
        time = datetime.fromisoformat(text) if text[:4].isdecimal() else parsedate_to_datetime(text)
        return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
