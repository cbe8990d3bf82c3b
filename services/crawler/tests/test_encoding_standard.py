"""The encoding tests of html5lib, and the labels and tables of the WHATWG Encoding Standard."""

import json
import re
from collections.abc import Callable
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from crawler.text_encoding import decode, encoding_name

DATA = Path(__file__).parent / "encoding_data"
STANDARD: dict[str, Any] = json.loads((DATA / "whatwg.json").read_text())


# The byte sequences of the multi-byte encodings, by pointer into the standard's index.
def _big5(pointer: int) -> bytes:
    lead, trail = divmod(pointer, 157)
    return bytes((lead + 0x81, trail + (0x40 if trail < 0x3F else 0x62)))


def _euc_kr(pointer: int) -> bytes:
    lead, trail = divmod(pointer, 190)
    return bytes((lead + 0x81, trail + 0x41))


def _gb18030(pointer: int) -> bytes:
    lead, trail = divmod(pointer, 190)
    return bytes((lead + 0x81, trail + (0x40 if trail < 0x3F else 0x41)))


def _euc_jp(pointer: int) -> bytes:
    lead, trail = divmod(pointer, 94)
    return bytes((lead + 0xA1, trail + 0xA1))


def _euc_jp_three_bytes(pointer: int) -> bytes:
    return b"\x8f" + _euc_jp(pointer)


def _shift_jis(pointer: int) -> bytes:
    lead, trail = divmod(pointer, 188)
    return bytes((lead + (0x81 if lead < 0x1F else 0xC1), trail + (0x40 if trail < 0x3F else 0x41)))


def _iso_2022_jp(pointer: int) -> bytes:
    lead, trail = divmod(pointer, 94)
    return b"\x1b$B" + bytes((lead + 0x21, trail + 0x21)) + b"\x1b(B"


# By the name of the test's data: the encoding, and the bytes of a pointer.
SEQUENCES: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "big5": ("big5", _big5),
    "euc-kr": ("euc-kr", _euc_kr),
    "gb18030": ("gb18030", _gb18030),
    "gbk": ("gbk", _gb18030),
    "euc-jp": ("euc-jp", _euc_jp),
    "euc-jp, jis0212": ("euc-jp", _euc_jp_three_bytes),
    "shift_jis": ("shift_jis", _shift_jis),
    "iso-2022-jp": ("iso-2022-jp", _iso_2022_jp),
}


def html5lib_cases() -> list[tuple[bytes, str]]:
    files = sorted(DATA.glob("html5lib-*.dat"))
    found = chain.from_iterable(
        re.findall(rb"#data\n(.*?)\n#encoding\n(.*?)(?:\n|\Z)", file.read_bytes(), re.DOTALL) for file in files
    )
    return [(page, name.decode().strip().lower()) for page, name in found]


def test_all_82_encoding_tests_of_html5lib_pass() -> None:
    cases = html5lib_cases()
    found = [(page, encoding_name(page, "text/html"), name) for page, name in cases]
    # A page that is ASCII and declares nothing means the same in UTF-8, which is tried first here.
    undeclared_ascii = ("utf-8", "windows-1252")
    wrong = [case for case in found if case[1] != case[2] and not (case[0].isascii() and case[1:] == undeclared_ascii)]

    assert len(cases) == 82
    assert wrong == []


def test_all_228_labels_mean_what_the_standard_says() -> None:
    labels = [(label, name) for name, known in STANDARD["labels"].items() for label in known]
    wrong = [label for label, name in labels if encoding_name(b"", f"text/html; charset={label.upper()}") != name]

    assert len(labels) == 228
    assert wrong == []


@pytest.mark.parametrize("name", STANDARD["single_byte"])
def test_every_byte_of_a_single_byte_encoding_means_what_the_standard_says(name: str) -> None:
    upper_half = bytes(range(0x80, 0x100))

    assert decode(upper_half, f"text/html; charset={name}") == STANDARD["single_byte"][name]


@pytest.mark.parametrize("table", SEQUENCES)
def test_characters_of_a_multi_byte_encoding_are_those_of_the_standard(table: str) -> None:
    name, sequence = SEQUENCES[table]
    agreeing = chain.from_iterable(range(first, last + 1) for first, last in STANDARD["multi_byte"][table]["agree"])
    text = "".join(decode(sequence(pointer), f"text/html; charset={name}") for pointer in agreeing)

    assert sha256(text.encode()).hexdigest() == STANDARD["multi_byte"][table]["sha256"]


def test_rate_of_agreement_is_the_one_that_is_documented() -> None:
    tables = STANDARD["multi_byte"].values()
    agree = sum(last - first + 1 for table in tables for first, last in table["agree"])
    differ = sum(last - first + 1 for table in tables for first, last in table["differ"])
    documented = (Path(__file__).parents[3] / "docs/crawling.md").read_text()

    assert f"{agree:,} of {agree + differ:,}" in documented


# Escapes of ISO-2022-JP: ASCII, the Roman set, katakana, and the two tables of characters of two bytes.
A, R, K, T, U = b"\x1b(B", b"\x1b(J", b"\x1b(I", b"\x1b$@", b"\x1b$B"


@pytest.mark.parametrize(
    ("name", "broken", "text"),
    [
        ("shift_jis", b"\xfa", "\ufffd"),
        ("shift_jis", b"\xfa\x6e\xfa", "佖\ufffd"),
        ("shift_jis", b"\xff\xa0\xfd\x80A", "\ufffd\ufffd\ufffd\x80A"),
        ("shift_jis", b"\xfa\xfd\x81\xb5\xfa<b>", "\ufffd\ufffd\ufffd<b>"),
        ("shift_jis", b"\x81\xad\xb1", "\ufffdｱ"),
        ("euc-jp", b"\xff\xa0\x8ea\x8e\xe0b", "\ufffd\ufffd\ufffda\ufffdb"),
        ("euc-jp", b"\x8f\xa1\xa1a\x8f\xa1<\x8f<\x8f\xa1", "\ufffda\ufffd<\ufffd<\ufffd"),
        ("euc-jp", b"\xa9\xa1\xab\xd0\xb0<\xb0", "\ufffd\ufffd\ufffd<\ufffd"),
        ("big5", b"\xff\x80\x81\x40\x81\xff\x83\xa1<\xa4", "\ufffd\ufffd\ufffd@\ufffd\ufffd<\ufffd"),
        ("big5", b"\x87\x7a\x88\x62\xa2\x44", "㡵Ê̄￥"),
        ("euc-kr", b"\xff\x80\x81<\xc9\xa1\xb0\xa1\x81", "\ufffd\ufffd\ufffd<\ufffd가\ufffd"),
        ("gbk", b"\x80\xffA\x81\xff<\x81<", "€\ufffdA\ufffd<\ufffd<"),
        ("gb18030", b"\x82\x30<\x81\x30\x81<\x84\x31\xa5\x30", "\ufffd0<\ufffd0\ufffd<\ufffd"),
        ("gb18030", b"a\x81\x30", "a\ufffd"),
        ("iso-2022-jp", U[:2], "\ufffd$"),
        ("iso-2022-jp", A + A + b"P", "\ufffdP"),
        ("iso-2022-jp", b"P" + A + b"P" + R + b"\\]~" + A + b"\\]~", "PP¥]‾\\]~"),
        ("iso-2022-jp", b"\r\x0e\x0f\x10" + R + b"\r\x0e\x0f\x10", "\r\ufffd\ufffd\x10" * 2),
        ("iso-2022-jp", K + b"P\x1bP\r\x0e" + T + b"PP", "ﾐ\ufffdﾐ\ufffd\ufffd佩"),
        ("iso-2022-jp", K + T + b"PP" + T + U + b"PP", "\ufffd佩\ufffd佩"),
        ("iso-2022-jp", T + b"P" + T + b"\x1bPP", "\ufffd\ufffd佩"),
        ("iso-2022-jp", U + b"\x1b$PP P\nP", "\ufffdば\ufffd\ufffd\ufffd"),
        ("iso-2022-jp", R + b"\x1b" + K + b"P", "\ufffdﾐ"),
        ("iso-2022-jp", U + b"-!" + A + b"<\xff", "①<\ufffd"),
    ],
)
def test_broken_characters_are_read_as_the_standard_has_it(name: str, broken: bytes, text: str) -> None:
    assert decode(broken, f"text/html; charset={name}") == text


def test_encodings_that_are_dangerous_to_decode_show_nothing() -> None:
    assert decode(b"<script>", "text/html; charset=iso-2022-kr") == "\ufffd"
    assert decode(b"", "text/html; charset=hz-gb-2312") == ""


def test_characters_of_nec_are_known_in_euc_jp() -> None:
    assert decode(b"\xad\xa1a\xad\xe2\xff\xad", "text/html; charset=euc-jp") == "①a№\ufffd\ufffd"
