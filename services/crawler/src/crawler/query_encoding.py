"""The query of a link on a page that is in no Unicode encoding: browsers send it in the encoding of the page.

Source: https://url.spec.whatwg.org/#query-state, https://encoding.spec.whatwg.org/#encode-or-fail
"""

import codecs
import re

import webencodings

_NOT_ASCII = re.compile(r"[^\0-\x7f]+")
# Besides controls and what is no ASCII; all other bytes of an encoding stand in a URL as they are.
_ESCAPED = frozenset(b" \"#<>'")
# Python's codecs name some characters as other standards do; see text_encoding.py for the way back.
_JAPANESE: dict[int, int | str] = {
    0xFF5E: "\u301c", 0x2225: "\u2016", 0xFF0D: "\u2212", 0xFFE0: "\xa2", 0xFFE1: "\xa3", 0xFFE2: "\xac",
}  # fmt: skip
_CORRECTIONS: dict[str, dict[int, int | str]] = {
    "euc-jp": _JAPANESE,
    "iso-2022-jp": _JAPANESE,
    "shift_jis": {0x2212: "\uff0d"},
}


def with_query_in(encoding: str, href: str) -> str:
    """Return the address with what is no ASCII in its query percent-encoded in the encoding of that name."""
    known = webencodings.lookup(encoding)
    if known is None or known.name in ("utf-8", "utf-16le", "utf-16be", "replacement"):
        return href
    address, mark, query = href.partition("?")
    return f"{address}{mark}{_NOT_ASCII.sub(lambda run: _escaped(run[0], known), query)}"


def _escaped(text: str, encoding: webencodings.Encoding) -> str:
    encoded = encoding.codec_info.encode(text.translate(_CORRECTIONS.get(encoding.name, {})), _AS_REFERENCE)[0]
    return "".join(f"%{byte:02X}" if not 0x20 < byte < 0x7F or byte in _ESCAPED else chr(byte) for byte in encoded)


def _as_reference(error: UnicodeError) -> tuple[str, int]:
    """What the encoding has not, is written as a character reference, percent-encoded already."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(f"%26%23{ord(character)}%3B" for character in missing), error.end


_AS_REFERENCE = "crawler-as-reference"
codecs.register_error(_AS_REFERENCE, _as_reference)
