"""Encodings of several bytes a character: Python's codecs, put right where the Encoding Standard differs. Pure.

What they can't decode is taken as the standard has it, so that half a character swallows no tag.

Source: https://encoding.spec.whatwg.org/#legacy-multi-byte-chinese-(simplified) and what follows there
"""

import codecs
import re
from collections.abc import Callable, Container
from functools import partial

import webencodings

from crawler.iso_2022_jp import OVERLINE, YEN, in_euc_jp

LEGACY = frozenset(("euc-jp", "iso-2022-jp", "shift_jis", "big5", "gbk", "gb18030", "euc-kr"))
# Of a page with more, nobody reads the text, and each costs a microsecond.
_MOST_ERRORS = 10_000
_HIGH = range(0x80, 0x100)
_LEADS = range(0x81, 0xFF)
_EUC = range(0xA1, 0xFF)
_EUC_JP_LEADS = frozenset((0x8E, 0x8F, *_EUC))
_SHIFT_JIS_LEADS = frozenset((*range(0x81, 0xA0), *range(0xE0, 0xFD)))
_DIGITS = range(0x30, 0x3A)
# What the codecs decode to other characters than the standard does: those of the bodies that registered the encodings,
# or such for private use.
_JAPANESE = str.maketrans("\u301c\u2016\u2212\xa2\xa3\xac", "\uff5e\u2225\uff0d\uffe0\uffe1\uffe2")
_CHINESE = str.maketrans(
    "\ue5e5\ue78d\ue78e\ue78f\ue790\ue791\ue792\ue793\ue794\ue795\ue796\ue7c7\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864",
    "\u3000\ufe10\ufe12\ufe11\ufe13\ufe14\ufe15\ufe16\ufe17\ufe18\ufe19\u1e3f\u9fb4\u9fb5\u9fb6\u9fb7\u9fb8\u9fb9\u9fba\u9fbb",
)
_CORRECTIONS = {
    "euc-jp": _JAPANESE,
    "shift_jis": str.maketrans("\uf8f0\uf8f1\uf8f2\uf8f3", "\ufffd" * 4),
    "big5": str.maketrans("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡"),  # noqa: RUF001  # that they look alike is the matter
    "gbk": _CHINESE,
    "gb18030": _CHINESE,
}
# What Hong Kong added to Big5 in 2008 and the codec does not know: the number of a character in the standard's index,
# and the characters from there on.
_HONG_KONG = re.findall(
    r"(\d+)(\D+)",
    "1000㡵𡵓𣚞𦀡㻬𥣞㫵竼龗𤅡𨤍𣇪𠪊𣉞䌊蒄龖鐯䤰蘓墖靊鈘秐稲晠権袝瑌篅枂稬剏遆㓦珄𥶹瓆鿇垳䤯呌䄱𣚎堘穲𧭥讏䚮𦺈"
    "䆁𥶙箮𢒼鿈𢓁𢓉𢓌鿉蔄𣖻䂴鿊䓡𪷿拁灮鿋2082箸2088簆2103糎2114緒2123縝2148者2151耨2221菁2239蒨2244萏2303覦覩"
    "2354起2400都2413銹2477靜2498響2605鼖2673蔃2746兙兛兝兞2771鍮2780瑹2990浧3087禛3259邗3301靝3436瀞3451嬨"
    "4136爁4138矗4141纇4182駖4206釔4220惞4230澶4241輶4258侻4273營4279鄄4282鷰4294菏4329尐秣4349婧4419輋4422筑"
    "4494拐4624恢4694痹4708汊4742鬮4748鼗4815僭4828弌4902蠏4922拎4982瑨4992煢4997牐5432␀␁␂␃␄␅␆␇␈␉␊␋␌␍␎␏␐␑␒␓␔␕"
    "␖␗␘␙␚␛␜␝␞␟␡€10942廴10946无10948癶10950隶10957〃仝19028倩19035偽19088包19096卄19112卿19162嘅19240婷"
    "19299幵19305廐19326彘19355悤19398撐19439晴19454杞19553沜渝19557港19611煮19643猪19672瑜19697瓩19748砉",
)


def decode_legacy(body: bytes, name: str) -> str:
    """Decode a body in one of the encodings of `LEGACY`."""
    if name == "iso-2022-jp":
        return decode_legacy(in_euc_jp(body), "euc-jp").replace(YEN, "\xa5").replace(OVERLINE, "\u203e")
    encoding = webencodings.lookup("gb18030" if name == "gbk" else name)
    assert encoding is not None, "every name comes from there"
    decode = encoding.codec_info.decode
    text: str = decode(body, "replace")[0]
    if 0 < text.count("\ufffd") < _MOST_ERRORS:
        text = decode(body, _handler(encoding.name))[0]
    for wrong, right in _CORRECTIONS.get(name, {}).items():
        text = text.replace(chr(wrong), chr(right))  # far faster than to translate each character
    return text


def _handler(name: str) -> str:
    return f"crawler-{name}"


def _two_bytes(
    error: UnicodeError, leads: Container[int], missing: Callable[[bytes], str] = lambda _: ""
) -> tuple[str, int]:
    """One U+FFFD for two bytes that mean nothing, but a second one that is ASCII means itself."""
    data, at = _place(error)
    pair = data[at : at + 2]
    if character := missing(pair):
        return character, at + 2
    is_pair = len(pair) == 2 and pair[0] in leads and pair[1] in _HIGH
    return "\ufffd", at + 1 + is_pair


def _euc_jp(error: UnicodeError) -> tuple[str, int]:
    data, at = _place(error)
    if data[at] == 0x8F and data[at + 1 : at + 2] and data[at + 1] in _EUC:
        return "\ufffd", at + 2 + (data[at + 2 : at + 3] >= b"\x80")
    return _two_bytes(error, _EUC_JP_LEADS, _of_nec)


def _gb18030(error: UnicodeError) -> tuple[str, int]:
    data, at = _place(error)
    if data[at] == 0x80:
        return "€", at + 1
    rest = data[at + 1 : at + 4]
    if data[at] not in _LEADS or not rest or rest[0] not in _DIGITS:
        return _two_bytes(error, _LEADS)
    is_whole = all(byte in allowed for byte, allowed in zip(rest[1:], (_LEADS, _DIGITS), strict=False))
    return "\ufffd", at + 1 + is_whole * len(rest)


def _place(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object, error.start


def _of_nec(pair: bytes) -> str:
    """A character of NEC, such as a number in a circle: it is in the same place of the table that Shift_JIS writes."""
    if len(pair) < 2 or not all(byte in _EUC for byte in pair):
        return ""
    row, cell = divmod(pair[0] - 0xA1, 2), pair[1] - 0xA1
    lead = row[0] + (0x81 if row[0] < 31 else 0xC1)
    trail = cell + (0x9F if row[1] else 0x40 + (cell >= 63))
    character = codecs.decode(bytes((lead, trail)), "cp932", "replace")
    return "" if "\ufffd" in character else character


def _big5(pointer: int) -> bytes:
    """The bytes of the character with that number."""
    lead, trail = divmod(pointer, 157)
    return bytes((lead + 0x81, trail + (0x40 if trail < 0x3F else 0x62)))


_OF_HONG_KONG: dict[bytes, str] = {
    _big5(int(first) + place): character
    for first, characters in _HONG_KONG
    for place, character in enumerate(characters)
}


def _of_hong_kong(pair: bytes) -> str:
    return _OF_HONG_KONG.get(pair, "")


codecs.register_error(_handler("big5"), partial(_two_bytes, leads=_LEADS, missing=_of_hong_kong))
codecs.register_error(_handler("euc-jp"), _euc_jp)
codecs.register_error(_handler("euc-kr"), partial(_two_bytes, leads=_LEADS))
codecs.register_error(_handler("gb18030"), _gb18030)
codecs.register_error(_handler("shift_jis"), partial(_two_bytes, leads=_SHIFT_JIS_LEADS))
