"""Bytes to text as browsers do it, except that undeclared text is tried as UTF-8 before windows-1252.

The labels are those of the WHATWG Encoding Standard. A byte order mark wins over the Content-Type, and that over what
the page declares (`meta_charset.py`). docs/crawling.md tells how far the decoders agree with the standard.
"""

import codecs
import re
from functools import cache

import webencodings

from crawler.legacy_decoders import LEGACY, decode_legacy
from crawler.meta_charset import declared_label, label_in_xml

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16le"), (b"\xfe\xff", "utf-16be"))
# The parameters of a MIME type, as https://mimesniff.spec.whatwg.org/#parsing-a-mime-type reads them.
_PARAMETER = re.compile(r";[ \t\n\r]*([^;=]*)(?:=(?:\"((?:[^\"\\]|\\.)*)[^;]*|([^;]*)))?", re.DOTALL)
_DECLARES_NOTHING = ("text/plain", "text/markdown")
_WINDOWS = re.compile(r"windows-\d+")
_C1_CONTROLS = range(0x80, 0xA0)
_KOI8_U = str.maketrans("╝╬", "ўЎ")


def decode(body: bytes, content_type: str) -> str:
    """Decode a body by the value of its Content-Type header and by what it says itself.

    Never fails: what can't be decoded becomes U+FFFD, and so does NUL.
    """
    return decoded(body, content_type)[0]


def decoded(body: bytes, content_type: str) -> tuple[str, str]:
    """Return what `decode` does, and the name of the encoding, as the standard has it, in lower case."""
    body, encoding = _encoding(body, content_type)
    return _decoded(body, encoding).replace("\0", "\ufffd"), encoding


def encoding_name(body: bytes, content_type: str) -> str:
    """Return the name of the encoding that `decode` uses, as the standard has it, in lower case."""
    return _encoding(body, content_type)[1]


def _encoding(body: bytes, content_type: str) -> tuple[bytes, str]:
    """Return the body without its byte order mark, and the name of its encoding."""
    for bom, name in _BOMS:
        if body.startswith(bom):
            return body[len(bom) :], name
    encoding = webencodings.lookup(_charset(content_type)) or webencodings.lookup(_declared(body, content_type))
    if encoding is not None:
        return body, encoding.name
    return body, "utf-8" if _is_utf_8(body) else "windows-1252"


def _charset(content_type: str) -> str:
    """The first parameter of that name, in quotes or not; what else stands in quotes is none."""
    for name, quoted, bare in _PARAMETER.findall(content_type):
        if name.lower() == "charset":
            return str(quoted or bare)
    return ""


def _declared(body: bytes, content_type: str) -> str:
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _DECLARES_NOTHING:
        return ""
    return label_in_xml(body) if kind.endswith("xml") else declared_label(body)


def _is_utf_8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded(body: bytes, name: str) -> str:
    if name == "replacement":  # of encodings that are dangerous to decode the standard lets nothing be seen
        return "\ufffd" if body else ""
    if _WINDOWS.fullmatch(name):
        return codecs.charmap_decode(body, "replace", _windows_table(name))[0]
    if name in LEGACY:
        return decode_legacy(body, name)
    text = str(_codec(name).decode(body, "replace")[0])
    return text.translate(_KOI8_U) if name == "koi8-u" else text


def _codec(name: str) -> codecs.CodecInfo:
    encoding = webencodings.lookup(name)
    assert encoding is not None, "every name comes from there"
    return encoding.codec_info


@cache
def _windows_table(name: str) -> str:
    """Return what each byte means: where Python's codec has no character, the standard has a control."""
    codec = _codec(name)
    characters = [codec.decode(bytes([byte]), "replace")[0] for byte in range(256)]
    for byte in _C1_CONTROLS:
        if characters[byte] == "\ufffd":
            characters[byte] = chr(byte)
    if name == "windows-1255":
        characters[0xCA] = "\u05ba"  # Windows knows it, Python does not
    return "".join(characters)
