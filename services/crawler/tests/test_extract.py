"""What is kept of a page."""

import hashlib

import pytest
from crawler.extract import MAX_TITLE, Extracted, extract, to_markdown
from crawler.links import MAX_LINKS

URL = "https://example.com/docs/page.html"


def extracted(html: str, **options: bool) -> Extracted:
    return extract(html.encode(), "text/html; charset=utf-8", URL, **options)


def test_title_is_one_short_line() -> None:
    page = extracted("<title> A\n  page &amp; more </title><body><svg><title>icon</title></svg>")

    assert page.title == "A page & more"
    assert len(extracted(f"<title>{'x' * 5000}</title>").title) == MAX_TITLE


def test_page_without_title_is_called_by_its_heading() -> None:
    assert extracted("<h1>The <i>heading</i></h1><h1>Another</h1>").title == "The heading"
    assert extracted("<body><svg><title>icon</title></svg><h1>The heading</h1>").title == "The heading"
    assert extracted("<p>text").title == ""


@pytest.mark.parametrize(
    "before",
    ["<noscript><img src=x></noscript>", "<noscript><iframe src=x></iframe></noscript>", "<img>", "<div></div>"],
)
def test_title_is_found_where_something_else_ended_the_head_before(before: str) -> None:
    icon = "<svg><g><title>icon</title></g></svg>"
    page = extracted(f"<head>{before}{icon}<title>Real</title></head>hello", keep_main=True)

    assert (page.title, page.text) == ("Real", "hello")
    assert "Real" not in page.main


def test_empty_title_is_none() -> None:
    assert extracted("<title> </title><h1>Head</h1>").title == "Head"
    assert extracted("<title></title><div><title>Second</title></div><h1>Head</h1>").title == "Second"


def test_self_closed_elements_of_xhtml_hold_nothing() -> None:
    html = (
        "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><head><title/><script src='a.js' defer='/>'/>"
        "</head><body><p>one<br/>two<a id='x'/></p><textarea rows='1' /><a href='/y'>three</a></body></html>"
    )
    page = extract(html.encode(), "application/xhtml+xml; charset=utf-8", URL, keep_main=True)

    assert page.text == "one two three"
    assert page.links.urls == ("https://example.com/y",)
    assert page.main.count("<br") == 1
    assert extracted(html).text == ""


def test_text_is_the_main_content_only() -> None:
    page = extracted(
        "<head><title>T</title><style>p {}</style></head><body><nav>menu</nav><script>code()</script>"
        "<main><h1>Head</h1><p>One\n  two</p><p>three</p><noscript>no</noscript></main>"
        "<div>beside</div><footer>foot</footer>"
    )

    assert page.text == "Head One two three"


@pytest.mark.parametrize(
    ("beside", "text"),
    [
        ('<a href="#x">¶</a>', "Use"),
        ('<a class="anchor" href="#x"><svg><path></svg></a>', "Use"),
        ('<a href="#x"></a>', "Use"),
        ('<a href="/x">¶</a>', "Use ¶"),
        ('<a href="#x">§ 7</a>', "Use § 7"),
        ('<a href="#x"><code>see</code></a>', "Use see"),
    ],
)
def test_links_of_headings_to_themselves_are_no_content(beside: str, text: str) -> None:
    assert extracted(f"<main><h2>Use{beside}</h2></main>").text == text


def test_link_that_is_a_picture_is_content() -> None:
    page = '<main><a href="#x"><img src="a.png" alt="a map"></a></main>'

    assert '<a href="#x"><img' in extracted(page, keep_main=True).main


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ('<template shadowrootmode="open"><h2>Card</h2><a href="/x">x</a></template>of all', "Card x of all"),
        ("<TEMPLATE shadowrootmode=closed><template>no</template>Card</TEMPLATE><template>no</template>", "Card"),
        ("<template>no</template></template>", ""),
    ],
)
def test_shadow_root_is_content_and_another_template_is_none(inside: str, text: str) -> None:
    kept = extracted(f"<!-- shadowrootmode --><x-card>{inside}</x-card>")

    assert kept.text == text
    assert kept.links.urls == (("https://example.com/x",) if "/x" in inside else ())


def test_page_without_main_element_keeps_its_body() -> None:
    assert extracted("<nav>menu</nav><p>One<br>two<div>three").text == "One two three"
    assert extracted("<main> </main><p>One").text == "One"


def test_links_are_canonical_unique_and_in_document_order() -> None:
    page = extracted(
        '<nav><a href="/b">b</a></nav><a href="a.html#x">1</a><a href="a.html#y">2</a><a HREF=" ./a.html">3</a>'
        '<map><area href="//other.example"></map><a href="mailto:a@b.c">m</a><a href="http://[">bad</a>'
        '<a name="anchor">no href</a><a href>empty</a><a href="#top">top</a><a href="page.html">self</a>'
        '<a href="last?a=1&amp;b=2" rel="nofollow">4</a><link href="/style.css"><img src="/i.png">'
    )

    assert page.links.urls == (
        "https://example.com/b",
        "https://example.com/docs/a.html",
        "https://other.example/",
        "https://example.com/docs/last?a=1&b=2",
    )


@pytest.mark.parametrize(
    ("base", "link"),
    [
        ("/root/", "https://example.com/root/a"),
        ("https://other.example/x/y", "https://other.example/x/a"),
        ("javascript:void(0)", "https://example.com/docs/a"),
        ("http://[", "https://example.com/docs/a"),
        (f"/{'x' * 2_048}/", "https://example.com/docs/a"),
    ],
)
def test_base_element_moves_relative_links(base: str, link: str) -> None:
    assert extracted(f'<base target=x><base href="{base}"><base href="/second/"><a href="a">').links.urls == (link,)


@pytest.mark.parametrize(
    "base", ["ftp://other.example/", "mailto:a@b.example", "about:blank", "blob:https://example.com/1"]
)
def test_page_with_a_base_that_is_no_page_has_absolute_links_only(base: str) -> None:
    page = extracted(f'<base href="{base}"><a href="a"></a><a href="/b"></a><a href="http://other.example/"></a>')

    assert page.links.urls == ("http://other.example/",)


def test_fragment_on_a_page_with_another_base_leads_to_that_base() -> None:
    assert extracted('<base href="/other"><a href="#part">').links.urls == ("https://example.com/other",)


def test_link_in_svg_is_followed_if_it_is_a_plain_one() -> None:
    page = extracted('<svg><a href="/plain">a</a><a xlink:href="/xlink">b</a></svg>')

    assert page.links.urls == ("https://example.com/plain",)


def test_links_are_capped() -> None:
    page = extracted("".join(f"<a href=/{number}>" for number in range(MAX_LINKS + 100)))

    assert len(page.links.urls) == MAX_LINKS
    assert page.links.urls[-1] == f"https://example.com/{MAX_LINKS - 1}"


def test_content_hash_covers_title_and_text_and_nothing_else() -> None:
    page = extracted("<title>T</title><p class=a>text<!-- 1 --><script>1</script>")

    assert page.content_hash == hashlib.sha256(b"T\ntext").hexdigest()
    assert page.content_hash == extracted("<title>T</title> <p class=b>text<!-- 2 --><script>2</script>").content_hash
    assert page.content_hash != extracted("<title>T2</title><p>text").content_hash
    assert page.content_hash != extracted("<title>T</title><p>text2").content_hash


def test_charset_of_the_header_is_obeyed() -> None:
    page = extract("<title>я</title>".encode("cp1251"), "text/html; charset=windows-1251", URL)

    assert page.title == "я"


@pytest.mark.parametrize(
    ("charset", "query"),
    [
        ("shift_jis", "?q=%93%FA%96{&x=1%20%26%238364%3B"),
        ("euc-jp", "?q=%C6%FC%CB%DC&x=1%20%26%238364%3B"),
        ("utf-16le", "?q=%E6%97%A5%E6%9C%AC&x=1%20%E2%82%AC"),
    ],
)
def test_query_of_a_link_is_in_the_encoding_of_its_page_and_its_path_is_not(charset: str, query: str) -> None:
    html = '<a href="/日?q=日本&amp;x=1 &euro;"></a><meta http-equiv=refresh content="0;/r?q=日本&amp;x=1 &euro;">'
    links = extract(html.encode(charset), f"text/html; charset={charset}", URL).links

    assert links.urls == (f"https://example.com/%E6%97%A5{query}",)
    assert links.refresh
    assert links.refresh.target == f"https://example.com/r{query}"


def test_plain_text_is_a_document_without_links() -> None:
    page = extract(
        b"Line <a href='/x'>\r\nnext  \n", "Text/Plain; charset=utf-8", "https://example.com/a/read%20me.txt?x=/y"
    )

    assert (page.title, page.text, page.links.urls, page.main) == ("read me.txt", "Line <a href='/x'>\nnext", (), "")


def test_nothing_kept_holds_nul_or_a_surrogate() -> None:
    page = extracted("<title>a\0b&#0;&#xD800;</title><p>c\0d&#0;&#xDFFF;<a href='/x\0y&#0;'>e</a>", keep_main=True)
    plain = extract(b"a\0b", "text/plain", "https://example.com/a%00b%ED%A0%80")
    markdown = to_markdown(page.main, url=URL, otherwise="")

    for kept in (page.title, page.text, page.main, *page.links.urls, plain.title, plain.text, markdown):
        assert "\0" not in kept
        kept.encode()


@pytest.mark.parametrize("body", [b"", b"<", b"<!DOCTYPE html>", b"\0\1\2\xff" * 1000, b"<html><frameset><frame>"])
def test_page_without_content_is_empty_and_no_error(body: bytes) -> None:
    page = extract(body, "text/html", URL, keep_main=True)

    assert page.links.urls == ()
    assert to_markdown(page.main, url=URL, otherwise=page.text) is not None


def test_markdown_keeps_structure_and_absolute_links() -> None:
    page = extracted(
        '<nav>menu</nav><main><h1>Head</h1><p>a <b>bold</b> <a href="x.html">link</a></p></main>', keep_main=True
    )

    assert to_markdown(page.main, url=URL, otherwise="") == (
        "# Head\n\na **bold** [link](https://example.com/docs/x.html)\n"
    )


def markdown(html: str) -> str:
    page = extracted(html, keep_main=True)
    return to_markdown(page.main, url=page.links.base, otherwise="")


def test_links_in_markdown_are_relative_to_the_base_of_the_page() -> None:
    page = markdown('<base href="/root/"><p><a href="x.html">link</a> <img src="i.png" alt="image"></p>')

    assert page == "[link](https://example.com/root/x.html) ![image](https://example.com/root/i.png)\n"


def test_markdown_keeps_what_stands_in_forms_and_headers() -> None:
    assert markdown("<header><h1>Head</h1></header><form><p>one</p></form><p>two") == "# Head\n\none\n\ntwo\n"
    assert markdown("<form><h1>Head</h1><p>one</p></form>") == "# Head\n\none\n"


def test_image_in_markdown_is_its_address_and_never_its_data() -> None:
    data = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    page = markdown(
        f'<p><img src="{data}" alt="one"> <img src="{data}" srcset="{data}, 2.png 2x" alt="two"> '
        '<img srcset="3,small.png 100w, 3.png 200w" alt="three"></p>'
    )

    assert page == "one ![two](https://example.com/docs/2.png) ![three](https://example.com/docs/3.png)\n"


@pytest.mark.parametrize(
    ("html", "language"),
    [
        ('<pre><code class="hljs language-js">x</code></pre>', "js"),
        ('<pre class="lang-js">x</pre>', "js"),
        ('<div class="highlight-c++ notranslate"><div class="highlight"><pre><span></span>x</pre></div></div>', "c++"),
        ('<div class="highlight highlight-source-shell"><pre>x</pre></div>', "shell"),
        ('<div class="language-ruby"><div class="highlight"><pre><code>x</code></pre></div></div>', "ruby"),
        ('<div class="language-ruby"><pre><code class="language-js">x</code></pre></div>', "js"),
        ('<pre class="sourceCode haskell"><code class="sourceCode haskell">x</code></pre>', "haskell"),
        ('<pre class="brush: php">x</pre>', "php"),
        ('<pre data-lang="go">x</pre>', "go"),
        ('<div class="highlight-default notranslate"><div class="highlight"><pre>x</pre></div></div>', ""),
        ('<div class="highlight-text"><pre>x</pre></div>', ""),
        ('<pre class="highlighted">x</pre>', ""),
        ("<pre>x</pre>", ""),
    ],
)
def test_code_block_is_in_the_language_that_its_generator_names(html: str, language: str) -> None:
    assert markdown(html) == f"```{language}\nx\n```\n"


def test_main_content_is_kept_as_html_only_if_asked_for() -> None:
    assert extracted("<p>text").main == ""
    assert extracted("<p>text", keep_main=True).main == "<body><p>text</p></body>"


def test_failing_markdown_falls_back_to_the_text() -> None:
    assert to_markdown("", url=URL, otherwise="the text") == "the text"
    assert to_markdown("\0" * 100, url=URL, otherwise="the text") == "the text"


def test_navigation_that_calls_itself_the_main_content_is_none() -> None:
    page = extract(b"<nav role=main>menu<aside>more</aside></nav><p>text", "text/html", "http://example.com/")

    assert page.text == "text"
