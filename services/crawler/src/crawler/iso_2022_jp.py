"""ISO-2022-JP, read by the Encoding Standard's rules into EUC-JP, which has the same characters. Pure.

Source: https://encoding.spec.whatwg.org/#iso-2022-jp-decoder
"""

import re

# What the Roman set has instead of `\\` and `~` is not in EUC-JP; these two can't be in a page.
YEN, OVERLINE = "\x0e", "\x0f"
_WRONG = b"\xff"
_ESCAPE = re.compile(rb"\x1b(\([BIJ]|\$[@B])")
# Pairs that may be characters; else one byte or two that are wrong.
_PAIRS = re.compile(rb"((?:[\x21-\x7e]{2})++)|[\x21-\x7e](?:(?=\x1b)|[^\x1b]|\Z)|.", re.DOTALL)
_KATAKANA = re.compile(rb"([\xa1-\xdf])|[^\xa1-\xdf]", re.DOTALL)
_ASCII = bytes(0xFF if byte in (0x0E, 0x0F, 0x1B) or byte > 0x7F else byte for byte in range(256))
_ROMAN = _ASCII.translate(bytes.maketrans(b"\\~", (YEN + OVERLINE).encode()))
_UPPER_HALF = bytes(byte + 0x80 if byte < 0x80 else 0xFF for byte in range(256))


def in_euc_jp(body: bytes) -> bytes:
    """Return the body in EUC-JP; whatever is wrong in it is the byte FF, which is wrong there, too."""
    start, *parts = _ESCAPE.split(body)
    converted = [start.translate(_ASCII)]
    for number in range(0, len(parts), 2):
        if number and not parts[number - 1]:
            converted.append(_WRONG)  # an escape right after another one
        converted.append(_converted(parts[number], parts[number + 1]))
    return b"".join(converted)


def _converted(escape: bytes, part: bytes) -> bytes:
    """What stands after an escape sequence, up to the next one."""
    match escape:
        case b"(B":
            return part.translate(_ASCII)
        case b"(J":
            return part.translate(_ROMAN)
        case b"(I":
            return _KATAKANA.sub(lambda byte: b"\x8e" + byte[1] if byte[1] else _WRONG, part.translate(_UPPER_HALF))
        case _:
            return _PAIRS.sub(lambda pairs: pairs[1].translate(_UPPER_HALF) if pairs[1] else _WRONG, part)
