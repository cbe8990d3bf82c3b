"""Bytes to text, the way browsers choose the encoding, except that undeclared text is tried as UTF-8 first."""

import re

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';>]+)", re.IGNORECASE)
_META_CHARSET = re.compile(rb"<meta[^>]{1,500}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_PRESCAN = 1024  # where the standard stops looking for <meta charset>
# Labels mean what browsers take them for: the superset that pages really use.
_SUPERSETS = {
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "latin1": "cp1252",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "macintosh": "mac-roman",
    "utf8": "utf-8",
    "utf-16": "utf-16-le",
}
# Of Python's codecs, those that a page may name; others (utf-7, unicode_escape, idna) are no encodings of the web.
_ALLOWED = re.compile(
    r"utf-8|utf-16-?[lb]e|windows-(?:874|125[0-8])|cp(?:874|932|949|125[0-8]|866)|ibm866|iso-8859-(?:[2-8]|1[03-6])"
    r"|koi8-[ru]|mac-(?:roman|cyrillic)|gb18030|big5hkscs|euc-jp|iso-2022-jp"
)


def decode(body: bytes, content_type: str) -> str:
    """Decode a body by its byte order mark, its Content-Type, its <meta charset>, else as UTF-8 or windows-1252.

    Never fails: what can't be decoded becomes U+FFFD, and so does NUL.
    """
    for bom, bom_encoding in _BOMS:
        if body.startswith(bom):
            return _decoded(body[len(bom) :], bom_encoding)
    declared = _CHARSET.search(content_type)
    encoding: str | None = _codec(declared[1]) if declared else None
    if encoding is None and (meta := _META_CHARSET.search(body, 0, _PRESCAN)):
        encoding = _codec(meta[1].decode("ascii", "replace"))
        if encoding and encoding.startswith("utf-16"):
            encoding = "utf-8"  # a <meta> that could be read is not UTF-16
    if encoding is None:
        try:
            return body.decode("utf-8").replace("\0", "\ufffd")
        except UnicodeDecodeError:
            encoding = "cp1252"
    return _decoded(body, encoding)


def _codec(label: str) -> str | None:
    name = label.strip().lower()
    name = _SUPERSETS.get(name, name)
    return name if _ALLOWED.fullmatch(name) else None


def _decoded(body: bytes, encoding: str) -> str:
    return body.decode(encoding, "replace").replace("\0", "\ufffd")
