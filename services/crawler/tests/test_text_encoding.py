"""How bytes become text."""

import pytest
from crawler.text_encoding import decode, encoding_name

META = '<meta charset="{}"><p>'


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("é".encode(), "text/html", "é"),
        (b"\xe9", "text/html", "é"),
        (b"\x80", "text/html; charset=iso-8859-1", "€"),
        (b"\xe9", 'text/html; Charset="ISO-8859-2"', "é"),
        ("привет".encode("cp1251"), "text/html;charset=windows-1251", "привет"),
        ("日本".encode("cp932"), "text/html; charset=Shift_JIS", "日本"),
        ("中文".encode("gb18030"), "text/html; charset=gb2312", "中文"),
        (b"\xef\xbb\xbf" + "é".encode(), "text/html; charset=iso-8859-1", "é"),
        (b"\xff\xfe" + "é".encode("utf-16-le"), "text/html", "é"),
        (b"\xfe\xff" + "é".encode("utf-16-be"), "text/html", "é"),
    ],
)
def test_bom_then_header_then_utf_8_then_windows_1252(body: bytes, content_type: str, text: str) -> None:
    assert decode(body, content_type) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (META.format("koi8-r").encode() + "привет".encode("koi8-r"), "привет"),
        (b'<META HTTP-EQUIV=Content-Type CONTENT="text/html; charset=windows-1251">' + "я".encode("cp1251"), "я"),
        (META.format("utf-16").encode() + "é".encode(), "é"),
        (META.format("nonsense").encode() + "é".encode(), "é"),
        (b" " * 1024 + b"<script>'<meta charset=koi8-r>'</script>" + META.format("cp1251").encode() + b"\xff", "я"),
        (b" " * 1024 + b"<!-- <script> -->" + META.format("cp1251").encode() + b"\xff", "я"),
        (b" " * 65536 + META.format("koi8-r").encode() + "é".encode(), "é"),
    ],
)
def test_meta_charset_near_the_start_is_obeyed(body: bytes, text: str) -> None:
    assert decode(body, "text/html").endswith(text)


def test_header_wins_over_meta() -> None:
    assert decode(META.format("koi8-r").encode() + "é".encode(), "text/html; charset=utf-8").endswith("é")


@pytest.mark.parametrize("codec", ["utf-7", "unicode_escape", "idna", "punycode", "rot13", "hex", "zip", "mbcs"])
def test_codec_that_is_no_encoding_of_the_web_is_ignored(codec: str) -> None:
    assert decode(b"+ADw-script+AD4- \\u0041", f"text/html; charset={codec}") == "+ADw-script+AD4- \\u0041"


@pytest.mark.parametrize(
    ("content_type", "name"),
    [
        ('text/html;Charset="koi8-r"', "koi8-r"),
        ("text/html; version=1 ;charset=koi8-r ", "koi8-r"),
        ('text/html; charset="koi8-r', "koi8-r"),
        ("text/html; charset=koi8-r; charset=utf-8", "koi8-r"),
        ("text/html; charset='koi8-r'", "windows-1251"),
        ("text/html; charset = koi8-r", "windows-1251"),
        ('text/html; x="; charset=koi8-r"', "windows-1251"),
        ('text/html; charset=koi8-r"', "windows-1251"),
        ("text/html; charset=bogus; charset=koi8-r", "windows-1251"),
        ("text/html; charset", "windows-1251"),
        ("text/html charset=koi8-r", "windows-1251"),
        ("text/html", "windows-1251"),
        ("", "windows-1251"),
        ("application/xhtml+xml", "utf-8"),
        ("text/plain", "utf-8"),
    ],
)
def test_charset_of_the_header_is_read_as_browsers_do(content_type: str, name: str) -> None:
    assert encoding_name(b"<meta charset=windows-1251>", content_type) == name


@pytest.mark.parametrize(
    ("body", "content_type", "name"),
    [
        (b'<?xml version="1.0" encoding="koi8-r"?><meta charset="koi8-u"/>', "application/xhtml+xml", "koi8-r"),
        (b'<?xml version="1.0" encoding="koi8-r"?><meta charset="koi8-u"/>', "text/html", "koi8-u"),
        ("<?xml version='1.0'?><p>".encode("utf-16-be"), "text/html", "utf-16be"),
        ("<?xml version='1.0'?><p>".encode("utf-16-le"), "application/xhtml+xml", "utf-16le"),
        (b'<meta charset=bogus http-equiv=content-type content="charset=koi8-r">', "text/html", "utf-8"),
        (b'<meta http-equiv=content-type content="charset=bogus; charset=koi8-r">', "text/html", "utf-8"),
        (b"<meta charset=bogus><meta charset=koi8-r>", "text/html", "koi8-r"),
        (b"<meta charset=x-user-defined>", "text/html", "windows-1252"),
        (b"<script>".ljust(990) + b"<meta charset=koi8-r></script>", "text/html", "koi8-r"),
        (b"<script>".ljust(1010) + b"<meta charset=koi8-r></script>", "text/html", "utf-8"),
    ],
)
def test_page_declares_its_encoding_in_one_place(body: bytes, content_type: str, name: str) -> None:
    assert encoding_name(body, content_type) == name


def test_what_can_not_be_decoded_is_replaced() -> None:
    assert decode(b"a\xff\0b", "text/html; charset=utf-8") == "a\ufffd\ufffdb"
