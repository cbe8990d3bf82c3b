"""What is read of lists of URLs."""

import gzip
import time
import tracemalloc
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from crawler.sitemaps import MAX_BYTES, MAX_ENTRIES, Entry, Listed, moment, read_list

URL = "https://example.com/deep/sitemap.xml"
NS = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
DAY_AFTER = datetime(2026, 3, 2, tzinfo=UTC)


def urlset(*locations: str, tag: str = "url", root: str = "urlset") -> str:
    entries = "".join(f"<{tag}><loc>{location}</loc></{tag}>" for location in locations)
    return f'<?xml version="1.0" encoding="UTF-8"?><{root} {NS}>{entries}</{root}>'


def urls(body: str | bytes) -> list[str] | None:
    listed = read_list(body.encode() if isinstance(body, str) else body, URL)
    return None if listed is None else [entry.url for entry in listed.entries]


def test_sitemap_lists_pages_with_their_dates() -> None:
    body = (
        f"\n <urlset {NS}><url><lastmod> 2026-03-01 </lastmod><loc>\n https://example.com/a?x=1&amp;y=2#z\n</loc>"
        "<priority>1</priority></url><url><loc>/b</loc><lastmod>soon</lastmod></url></urlset>"
    )

    assert read_list(body.encode(), URL) == Listed(
        (Entry("https://example.com/a?x=1&y=2", DAY_AFTER), Entry("https://example.com/b"))
    )


def test_index_lists_lists() -> None:
    body = urlset("https://cdn.example/1.xml.gz", tag="sitemap", root="sitemapindex")

    assert read_list(body.encode(), URL) == Listed((Entry("https://cdn.example/1.xml.gz", is_list=True),))


@pytest.mark.parametrize(
    "body",
    [
        "<rss><channel><link>https://no.example/</link><item><title>t</title><link>https://example.com/a</link>"
        "<pubDate>Sun, 01 Mar 2026 24:00:00 GMT</pubDate><source><link>https://no.example/</link></source></item>"
        "</channel></rss>".replace("Sun, 01 Mar 2026 24:00:00", "Mon, 02 Mar 2026 00:00:00"),
        '<feed xmlns="http://www.w3.org/2005/Atom"><link href="https://no.example/"/><entry><link rel="edit" '
        'href="https://no.example/"/><link href="https://example.com/a"/><updated>2026-03-02T00:00:00Z</updated>'
        "</entry></feed>",
        '<rdf:RDF xmlns:rdf="r" xmlns="http://purl.org/rss/1.0/"><channel><link>https://no.example/</link></channel>'
        "<item><link>https://example.com/a</link><dc:date>2026-03-01T23:00:00-01:00</dc:date></item></rdf:RDF>",
        '<s:urlset xmlns:s="s" xmlns:image="i"><s:url><image:image><image:loc>https://no.example/</image:loc>'
        "</image:image><image:loc>https://no.example/</image:loc><s:loc>https://example.com/a</s:loc>"
        "<s:lastmod>2026-03-01</s:lastmod></s:url></s:urlset>",
    ],
    ids=["RSS", "Atom", "RSS 1.0", "prefixes"],
)
def test_only_the_address_of_an_entry_counts_in_every_form(body: str) -> None:
    assert read_list(body.encode(), URL) == Listed((Entry("https://example.com/a", DAY_AFTER),))


@pytest.mark.parametrize(
    ("dates", "modified"),
    [(("2026-03-01", "2020-01-01"), DAY_AFTER), (("2020-01-01", "2026-03-01"), DAY_AFTER), (("2020-01-01", ""), None)],
)
def test_address_that_is_listed_again_has_the_later_date_or_none(
    dates: tuple[str, str], modified: datetime | None
) -> None:
    entries = "".join(f"<url><loc>/a</loc><lastmod>{date}</lastmod></url>" for date in dates)

    assert read_list(f"<urlset {NS}>{entries}</urlset>".encode(), URL) == Listed(
        (Entry("https://example.com/a", modified),)
    )


def test_text_lists_a_url_a_line() -> None:
    body = b"\xef\xbb\xbfhttps://example.com/a\r\n\r\n  https://example.com/b \nno url\n/c\nhttps://example.com/a\n"

    assert urls(body) == ["https://example.com/a", "https://example.com/b"]


def test_compressed_list_is_read() -> None:
    half = gzip.compress(urlset("https://example.com/a", "https://example.com/b").encode())

    assert urls(half) == ["https://example.com/a", "https://example.com/b"]
    assert urls(b"\x1f\x8b rubbish") is None


@pytest.mark.parametrize(
    ("encoding", "character"),
    [
        *(("utf-8", "é"), ("utf-16", "é"), ("iso-8859-1", "é"), ("windows-1251", "я")),
        *(("gb2312", "中"), ("gbk", "中"), ("gb18030", "中"), ("big5", "中"), ("shift_jis", "本"), ("euc-jp", "本")),
        *(("iso-2022-jp", "本"), ("euc-kr", "한")),
    ],
)
def test_encoding_is_the_declared_one(encoding: str, character: str) -> None:
    body = urlset(f"https://example.com/{character}", "https://example.com/?a=1&b=2")
    found = urls(body.replace("UTF-8", encoding).encode(encoding))

    assert found == [f"https://example.com/{quote(character)}", "https://example.com/?a=1&b=2"]


@pytest.mark.parametrize("encoding", ["made-up", "hex", "utf-16", "utf-7"])
def test_list_that_declares_no_encoding_that_it_can_have_is_read_as_utf_8(encoding: str) -> None:
    body = urlset("https://example.com/é").replace("UTF-8", encoding)

    assert urls(body) == ["https://example.com/%C3%A9"]


def test_encoding_of_a_page_in_a_list_is_not_that_of_the_list() -> None:
    page = '<description><![CDATA[<meta charset="windows-1251">]]></description>'

    assert urls(f"<rss><item>{page}<link>https://example.com/é</link></item></rss>") == ["https://example.com/%C3%A9"]


def test_forgotten_escape_costs_nothing() -> None:
    found = urls(urlset("https://example.com/?a=1&b=2&amp;c=3&#38;d=4&copy=5"))

    assert found == ["https://example.com/?a=1&b=2&c=3&d=4&copy=5"]


def test_address_in_cdata_is_taken_as_it_is_written() -> None:
    one, other = "https://example.com/?a=1&b=2&amp;c=3", "https://example.com/?a=1&b=2"
    found = urls(urlset(f"<![CDATA[{one}]]>", other, f"\n<![CDATA[\n{other}&c\n]]>\n", f"{other}&d"))

    assert found == [one, other, f"{other}&c", f"{other}&d"]


@pytest.mark.parametrize("rest", ["<url><loc>https://example.com/b", "</wrong>", "&undefined;<url/>", "\0"])
def test_what_comes_before_a_fault_is_read(rest: str) -> None:
    assert urls(f"<urlset {NS}><url><loc>https://example.com/a</loc></url>{rest}") == ["https://example.com/a"]


@pytest.mark.parametrize("body", ["<html><body><a href='/'>", "", "{}", "not found", "<a/>", "<urlset", "<!-- x -->"])
def test_what_is_no_list_is_told_from_an_empty_one(body: str) -> None:
    assert urls(body) is None
    assert urls("<urlset></urlset>") == []


def test_of_more_than_the_protocol_allows_the_rest_is_counted_only() -> None:
    many = [f"https://example.com/{number}" for number in range(MAX_ENTRIES + 3)]
    first = Listed(tuple(map(Entry, many[:MAX_ENTRIES])), beyond=3)

    assert read_list(urlset(*many).encode(), URL) == first
    assert read_list("\n".join(many).encode(), URL) == first


BOMBS = {
    "entities": '<!DOCTYPE u [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + f"]><urlset {NS}><url><loc>https://example.com/&i;</loc></url></urlset>",
    "external entity": '<!DOCTYPE u [<!ENTITY a SYSTEM "file:///etc/passwd">]><urlset><url><loc>https://e.com/&a;</loc>'
    "</url></urlset>",
    "nesting": "<urlset>" + "<a>" * 5_000_000,
    "elements": "<urlset>" + "<a/>" * 10_000_000,
    "attributes": "<urlset " + " ".join(f'a{number}=""' for number in range(1_000_000)) + ">",
    "address": "<urlset><url><loc>https://example.com/" + "a" * 30_000_000,
    "line": "https://example.com/" + "a" * 30_000_000,
    "gzip": gzip.compress(b"<urlset>" + b" " * (4 * MAX_BYTES), 1),
    "lines": gzip.compress(b"aa\n" * (MAX_BYTES // 3), 1),
    "gzip members": gzip.compress(b"") * (MAX_BYTES // 20),
    "ampersands": gzip.compress(b"<urlset>" + b"&" * MAX_BYTES),
    "open CDATA": "<urlset>" + "<![CDATA[" * 5_000_000,
    "CDATA": "<urlset>" + "<![CDATA[]]>" * 4_000_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_costs_little(name: str) -> None:
    bomb = BOMBS[name]
    body = bomb.encode() if isinstance(bomb, str) else bomb
    started = time.process_time()
    found = urls(body)

    assert not found
    assert time.process_time() - started < 30  # without their bounds some take many minutes


@pytest.mark.parametrize("name", ["gzip", "ampersands", "lines"])
def test_compressed_bomb_takes_no_more_memory_than_a_list_may(name: str) -> None:
    bomb = BOMBS[name]
    assert isinstance(bomb, bytes)
    tracemalloc.start()
    try:
        urls(bomb)
        assert tracemalloc.get_traced_memory()[1] < 5 * MAX_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-02", datetime(2026, 3, 4, tzinfo=UTC)),
        ("2026-03-01", DAY_AFTER),
        ("2026-03-02T00:00:00", DAY_AFTER),
        ("2026-03-02T00:00:00.000Z", DAY_AFTER),
        ("2026-03-02T01:00+01:00", DAY_AFTER),
        ("Mon, 02 Mar 2026 00:00:00 GMT", DAY_AFTER),
        ("2026-03-02T23:59:59.5+23:59:59.5", DAY_AFTER),
        ("2026-02-31", None),
        ("9999-12-31", None),
        ("9999-12-31T23:59:59-23:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_date_means_the_latest_time_that_it_can(text: str, time: datetime | None) -> None:
    assert moment(text) == time
