"""What an HTML page says of its own encoding: the prescan of the HTML Standard, section 13.2.3.2."""

import re
from collections.abc import Iterator

import webencodings

_PRESCAN = 1024
# A browser whose parser meets a <meta> with another charset later reads the page again with that.
_LATE = 64 * 1024
_TOKEN = re.compile(
    rb"<!--(?:-?>|.*?(?:-->|\Z))|<(?:(meta)(?=[ \t\n\f\r/])|/?[a-zA-Z][^ \t\n\f\r>]*+|([!/?])[^>]*+(?:>|\Z))",
    re.IGNORECASE | re.DOTALL,
)
# What a browser that has gone so far takes for text; the prescan of the standard does not.
_RAW = re.compile(
    rb"<!--(?:-?>|.*?(?:-->|\Z))|<(script|style|title|textarea|xmp|iframe|noembed|noframes)(?=[ \t\n\f\r/>])[^>]*+"
    rb".*?(?:</\1(?=[ \t\n\f\r/>])|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_SPACES = rb"[ \t\n\f\r]*+"
_VALUE = rb"\"([^\"]*+)\"|'([^']*+)'|([^ \t\n\f\r>\"'][^ \t\n\f\r>]*+)(?=[ \t\n\f\r>])|(?=>)"
_ATTRIBUTE = re.compile(
    rb"[ \t\n\f\r/]*+(?:>|([^ \t\n\f\r/>][^ \t\n\f\r/>=]*+)"
    rb"(?:" + _SPACES + rb"=" + _SPACES + rb"(?:" + _VALUE + rb")|(?=[^=])(?![ \t\n\f\r]++=)))"
)
_XML = re.compile(rb"<\?xml[^>]*?encoding[\0-\x20]*=[\0-\x20]*(?:\"([^\"\0-\x20>]*)\"|'([^'\0-\x20>]*)')[^>]*>")
_CHARSET = re.compile(
    rb"charset[ \t\n\f\r]*+=[ \t\n\f\r]*+(?:\"([^\"]*+)\"|'([^']*+)'|([^ \t\n\f\r;\"'][^ \t\n\f\r;]*+))", re.IGNORECASE
)


def declared_label(body: bytes) -> str:
    """Return the name of the encoding that a page declares near its beginning, or "" when it declares none."""
    name = _prescanned(body[:_PRESCAN])
    if not name and b"charset" in body[:_LATE].lower():
        name = _prescanned(_RAW.sub(b" ", body[:_LATE]))
    return name or label_in_xml(body)


def label_in_xml(body: bytes) -> str:
    """Return the name of the encoding that the XML declaration of a page names, or ""."""
    if body.startswith((b"<\0?\0x\0", b"\0<\0?\0x")):
        return "utf-16le" if body[0] else "utf-16be"
    xml = _XML.match(body[:_PRESCAN])
    return _name(_first(xml.groups())) if xml else ""


def _prescanned(beginning: bytes) -> str:
    at = 0
    while (token := _TOKEN.search(beginning, at)) is not None:
        at = token.end()
        if token[0].startswith(b"<!--") or token[2]:
            continue
        attributes: dict[bytes, bytes] = {}
        for name, value, end in _attributes(beginning, at):
            attributes.setdefault(name, value)
            at = end
        if not beginning.startswith(b">", at - 1):
            return ""  # the end came first
        if token[1] and (label := _named_by_meta(attributes)):
            return label
    return ""


def _attributes(source: bytes, at: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Each attribute of a tag, with where it ends; at the end of the tag one without a name."""
    while (found := _ATTRIBUTE.match(source, at)) is not None:
        at = found.end()
        yield (found[1] or b"").lower(), _first(found.groups()[1:]), at
        if found[1] is None:
            return


def _named_by_meta(attributes: dict[bytes, bytes]) -> str:
    if b"charset" in attributes:
        return _name(attributes[b"charset"])
    is_pragma = attributes.get(b"http-equiv", b"").lower() == b"content-type"
    if is_pragma and (charset := _CHARSET.search(attributes.get(b"content", b""))):
        return _name(_first(charset.groups()))
    return ""


def _name(label: bytes) -> str:
    encoding = webencodings.lookup(label.decode("latin-1"))
    if encoding is None:
        return ""
    if encoding.name in ("utf-16le", "utf-16be"):
        return "utf-8"  # what could be read as ASCII is not UTF-16
    return "windows-1252" if encoding.name == "x-user-defined" else str(encoding.name)


def _first(groups: tuple[bytes | None, ...]) -> bytes:
    return next((group for group in groups if group is not None), b"")
