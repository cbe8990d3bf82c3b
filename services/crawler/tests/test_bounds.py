"""Pages made to exhaust a parser cost little and keep their text and links."""

import time
import tracemalloc
from itertools import count, takewhile

import pytest
from crawler.bounds import bounded
from crawler.extract import extract, to_markdown
from crawler.parsing import ToParse, read
from selectolax.lexbor import LexborHTMLParser

SIZE = 400_000
LINK = '<p>seen <a href="/x">link</a>'


def repeated(unit: str) -> str:
    return unit * (SIZE // len(unit))


def numbered(unit: str) -> str:
    return "".join(unit.format(number) for number in range(SIZE // (len(unit) + 3)))


FORMATTING = "".join(f"<{name}>" * 3 for name in ("b", "big", "code", "em", "font", "i", "s", "small", "tt", "u"))

# Each of these takes the parser minutes or gigabytes when it is let through.
TRAPS = {
    "nesting": repeated("<div>"),
    "unmatched end tags": "<div>" * 40_000 + "</p>" * 40_000,
    "wrong end tags": repeated("<div></span>"),
    "end tags behind a barrier": repeated("<div><object></div>"),
    "lists": repeated("<ul><li>"),
    "list items of two kinds": repeated("<li><dd>"),
    "ruby": repeated("<rp>"),
    "option groups": repeated("<option><optgroup>"),
    "cells in MathML": "<math>" + "<td>" * 60_000 + "</x>" * 40_000,
    "cells in SVG": "<svg>" + repeated("<td>"),
    "formatting that differs": numbered("<font size={}>"),
    "end tags inside and outside of a barrier": repeated("<div><object></div></object>"),
    "end tags in comments": repeated("<div><!-- </div> -->") + repeated("</p>"),
    "end tags in bogus comments": repeated("<div><?</div>") + repeated("</p>"),
    "end tags in text areas": repeated("<div><textarea></div></textarea>") + repeated("</p>"),
    "end tags in attributes": repeated("<div x='</div>'>") + repeated("</p>"),
    "titles deep in a drawing": "<svg>" + "<g>" * 9_000 + "<title>x</title>" * 5_000,
    "unclosed titles": repeated("<title><div a='>'>"),
    "items behind a barrier": repeated("<li><dd><object></li></dd></object>") + repeated("</p>"),
    "self-closed shapes in a paragraph": "<svg><p>" + repeated("<path/>") + repeated("</p>"),
    "formatting ended by another element": "<p>" + numbered("<span><font size={}></span>") + repeated("<p>x"),
    "formatting repeated in paragraphs": "<p>" + FORMATTING + repeated("<p>x"),
    "few tags, formatting repeated": "<p>" + "".join(f"<b x={n}>" for n in range(4_900)) + "<p>x" * 5_000,
    "attributes": "<i " + numbered("a{} ") + ">",
    "attributes of a link": "<a " + numbered("a{} ") + ">",
    "attributes without spaces": "<i " + numbered("a{}/") + ">",
    "attributes behind quoted brackets": "<i " + numbered('a{}=">" ') + ">",
    "attributes in the title of a drawing": "<svg><title><i a='>' " + numbered("a{} ") + "></title></svg>",
    "attributes in raw text of a drawing": "<svg><xmp><i a='>' " + numbered("a{} ") + "></xmp></svg>",
    "attributes behind a misleading quote": "<i =' x y" + numbered(" a{}") + "'>",
}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS.keys())
def test_trap_costs_little_and_gives_up_its_links(trap: str) -> None:
    started = time.process_time()
    page = extract((LINK + trap).encode(), "text/html; charset=utf-8", "https://example.com/", keep_main=True)

    assert page.links.urls == ("https://example.com/x",)
    assert page.text.startswith("seen link")
    assert time.process_time() - started < 2
    assert len(page.main) < 2 * SIZE


@pytest.mark.parametrize(
    "trap",
    [
        "<p x='<'><script>" + "</script " * 3_900 + "x" * 220_000,
        f"<body class='{'a ' * 100_000}'>" + "<pre></pre>" * 1_990,
    ],
    ids=["end tags that do not end", "code blocks in one long class"],
)
def test_light_page_costs_little(trap: str) -> None:
    page = ToParse((LINK + trap).encode(), "text/html; charset=utf-8", "https://example.com/")
    started = time.process_time()
    links = read(page).links

    assert page.is_light
    assert links.urls == ("https://example.com/x",)
    assert time.process_time() - started < 0.25


@pytest.mark.parametrize(
    "unclosed", ["<!-- ", "<svg>", "<script>", "<a b='", '<a b="', "<![CDATA[", "</", "<a", "&#", "=' "]
)
def test_unclosed_construct_costs_little(unclosed: str) -> None:
    started = time.process_time()
    page = extract((LINK + repeated(unclosed)).encode(), "text/html; charset=utf-8", "https://example.com/")

    assert page.text.startswith("seen link")
    assert time.process_time() - started < 2


def test_largest_page_is_bounded() -> None:
    body = (LINK + "<p>" + FORMATTING + "<div><b>x</div>" * 250_000).encode()
    tracemalloc.start()
    started = time.process_time()
    extract(body, "text/html; charset=utf-8", "https://example.com/")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert time.process_time() - started < 10  # tracing included
    assert peak < 25 * len(body)


@pytest.mark.parametrize(
    "page",
    [
        "<table><tr>" + "<td>x" * 20_000 + "<tr><td>y" * 20_000 + "</table>",
        "<table>" + "<tr><td colspan=1000>x" * 20_000 + "</table>",
        "<blockquote>" * 400 + "<p>x" * 20_000,
        "<ul><li>" * 400 + "x<br>" * 20_000,
        "<ol><!-- </ol> --><li>" * 400 + "x<br>" * 10_000,
        "<ol><xmp></ol></xmp><li>" * 400 + "x<br>" * 10_000,
    ],
    ids=["wide table", "spanning cells", "quotes", "lists", "lists hidden by comments", "lists hidden by raw text"],
)
def test_page_whose_markdown_would_be_huge_keeps_its_text(page: str) -> None:
    html = extract(page.encode(), "text/html; charset=utf-8", "https://example.com/", keep_main=True).main

    assert to_markdown(html, url="https://example.com/", otherwise="text") == "text"


def test_page_of_very_many_addresses_that_are_relative_to_a_long_one_keeps_its_text() -> None:
    html = "<img src=1>" * 20_000

    assert to_markdown(html, url=f"https://example.com/{'x' * 2_000}/", otherwise="text") == "text"


@pytest.mark.parametrize(
    "page",
    [
        "<ul><li>x</ul>" * 2000 + "<blockquote><ul><li><ol><li>y</ol></ul></blockquote>" * 500,
        "<table>" + ("<tr>" + "<td>x" * 20) * 3000 + "<tr><td colspan=20>y</table>",
    ],
    ids=["lists", "table"],
)
def test_large_page_of_lists_or_tables_becomes_markdown(page: str) -> None:
    html = extract(page.encode(), "text/html; charset=utf-8", "https://example.com/", keep_main=True).main

    assert to_markdown(html, url="https://example.com/", otherwise="text") != "text"


def test_page_of_too_many_tags_is_cut() -> None:
    assert bounded("<p>x" * 400_000).count(b"<") == 300_000


def test_ordinary_page_is_left_alone() -> None:
    page = "<ul>" + "<li><p>text <b class=x><code>x</code></b> <font color=red>y</font><br>" * 1500 + "</ul>"

    assert bounded(page).decode() == page


def test_large_page_with_unclosed_items_and_void_elements_is_left_alone() -> None:
    rows = "".join(f"<tr><td><a href='/{n}'>x<td><img src=x><input><p>y" for n in range(3000))
    page = f"<dl>{'<dt>x<dd>y' * 3000}</dl><table>{rows}</table>"

    assert bounded(page).decode() == page


def test_page_with_long_attributes_is_left_alone() -> None:
    page = f"<img src=\"data:image/png;base64,{'a/b+' * 5000}\"><a data-x='{'{} ' * 500}'>x</a>"
    page += f'<svg><path d="{"M 0 " * 500}"/></svg>'

    assert bounded(page).decode() == page


def test_comparison_in_a_long_script_is_no_tag() -> None:
    script = f"<script>for (i = 0; i <n; i++) {{ {'a = b + c; ' * 300} }} if (a > b) c()</script>"
    page = f"<!-- <b {'word ' * 300} -->{script}<ul><li>{LINK}</ul>"

    assert bounded(page).decode().split() == f"<ul><li>{LINK}</ul>".split()


def test_brackets_in_attributes_keep_their_meaning() -> None:
    page = f'<a title="a > b <!-- <script>" href="/?x=<y>">x</a><p data-x=\'{"<b>" * 500}\' class=y>{LINK}'
    original, rewritten = LexborHTMLParser(page), LexborHTMLParser(bounded(page))

    assert bounded(page).decode() != page
    assert rewritten.html == original.html


@pytest.mark.parametrize("beside", ["", "<p>x" * 20_001], ids=["short page", "long page"])
def test_unclosed_tag_in_text_that_holds_none_hides_nothing(beside: str) -> None:
    html = (
        "<title>Is a <b ok &amp; so</title><textarea>if a <b</textarea><xmp>if c <d</xmp>"
        f"<iframe src=/frame><p </iframe>{LINK}{beside}"
    )
    page = extract(html.encode(), "text/html; charset=utf-8", "https://example.com/")

    assert page.title == "Is a <b ok & so"
    assert page.text.startswith("if a <b if c < d seen link")
    assert page.links.urls == ("https://example.com/frame", "https://example.com/x")


@pytest.mark.parametrize("beside", ["<a title='>'>", "<p>x" * 20_001], ids=["short page", "long page"])
def test_element_whose_name_begins_like_script_is_content(beside: str) -> None:
    html = f"<style-guide>custom</style-guide><script-x>y</script-x><title-bar>z</title-bar>{beside}"

    assert extract(html.encode(), "text/html", "https://example.com/").text.startswith("custom y z")


def test_long_page_loses_only_what_is_never_seen() -> None:
    rows = "".join(f"<div><p>{n}</p></div>" for n in takewhile(lambda n: n < 6000, count()))
    page = f"<!-- <div> --><script>'<div>'</script><svg><path/><title>icon</title></svg>{rows}"

    assert bounded(page).decode().split() == f"<svg><path/><title>icon</title></svg>{rows}".split()
