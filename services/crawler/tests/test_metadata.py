"""What a page says about itself."""

import pytest
from crawler.extract import Extracted, extract
from crawler.metadata import MAX_ENTRIES, MAX_VALUE

URL = "https://example.com/page.html"


def extracted(html: str) -> Extracted:
    return extract(html.encode(), "text/html; charset=utf-8", URL)


def test_description_is_the_pages_own_before_that_for_social_networks() -> None:
    og = '<meta property="og:description" content="For networks">'

    assert extracted(f'{og}<meta NAME=Description content=" Its\n own ">').description == "Its own"
    assert extracted(f'{og}<meta name=description content="">').description == "For networks"
    assert extracted("<meta name=description><p>text").description == ""


@pytest.mark.parametrize(
    ("html", "language"),
    [
        ("<html lang=en><p>", "en"),
        ("<html lang=' pt-BR '><p>", "pt-BR"),
        ("<meta http-equiv=Content-Language content=de>", "de"),
        ("<meta property=og:locale content=fr_CA>", "fr-CA"),
        ("<html lang=en><meta property=og:locale content=fr_CA>", "en"),
        ("<html xml:lang=nl><p>", "nl"),
        ("<html lang=en xml:lang=nl><p>", "en"),
        ("<html lang=en_GB><p>", "en-GB"),
        ("<html lang='no such language'><p>", None),
        ("<html lang><p>", None),
        ("<p>", None),
    ],
)
def test_language_is_the_one_that_the_page_declares(html: str, language: str | None) -> None:
    assert extracted(html).language == language


@pytest.mark.parametrize(
    "html",
    [
        "<meta name=author content='A. Author'><meta property=article:published_time content=2024-01-02T03:04:05Z>",
        "<meta name=DC.creator content='A. Author'><meta name=date content=2024-01-02T03:04:05Z>",
        """<script type="application/ld+json">{"@type": "Article", "datePublished": "2024-01-02T03:04:05Z",
           "author": [{"@type": "Person", "name": "A. Author"}]}</script>""",
        """<script type="application/ld+json">{"@graph": [{"author": {"name": "A. Author"}},
           {"datePublished": "2024-01-02T03:04:05Z"}]}</script>""",
    ],
)
def test_author_and_date_are_found_wherever_the_page_tells_them(html: str) -> None:
    metadata = extracted(html).metadata

    assert metadata["author"] == "A. Author"
    assert metadata["published_at"] == "2024-01-02T03:04:05+00:00"


JSON_LD = """<SCRIPT type="Application/LD+JSON">{"author": "A <b> & </i> \\"<!--\\""}</SCRIPT>"""


@pytest.mark.parametrize(
    "beside",
    [
        "<script>for(var i=0;i<n.length;i++){if(i<m)x()}</script>",
        "<a title='Home > News'>",
        "<p>x" * 20_001,
        "<p>x" * 20_001 + "<a title='Home > News'>",
        "<div>" * 20_001,
        "<p " + " ".join(f"x{number}" for number in range(300)) + ">",
    ],
    ids=["minified script", "bracket in an attribute", "long page", "both", "trap", "trap of attributes"],
)
def test_json_ld_is_read_whatever_stands_beside_it(beside: str) -> None:
    page = extracted(f"{beside}{JSON_LD}<p>text")

    assert page.metadata == {"author": 'A <b> & </i> "<!--"'}
    assert "author" not in page.text


def test_what_is_no_date_is_none() -> None:
    html = "<meta name=date content='last Tuesday'><meta name=dc.date content=2024-99-99><meta name=pubdate content={}>"

    assert "published_at" not in extracted(html.format("2024-13-01T")).metadata
    assert extracted(html.format("2024-01-02")).metadata["published_at"] == "2024-01-02"


def test_metadata_is_kept_under_the_pages_own_names() -> None:
    page = extracted(
        "<meta property=og:title content=T><meta property=og:title content=Second><meta name=twitter:card content=c>"
        "<meta name=viewport content=wide><meta name=keywords content='a,  b'><meta itemprop=x content=y>"
    )

    assert page.metadata == {"og:title": "T", "twitter:card": "c", "keywords": "a, b"}


def test_metadata_is_bounded_whatever_a_page_says() -> None:
    many = "".join(f"<meta property=og:{number} content={'x' * 5000}>" for number in range(400))
    metadata = extracted(f"<meta property=og:{'k' * 200} content=long>{many}").metadata

    assert len(metadata) == MAX_ENTRIES
    assert max(map(len, metadata)) < 20
    assert {len(value) for value in metadata.values()} == {MAX_VALUE}


@pytest.mark.parametrize("script", ["{", "[" * 50_000, "[1, null]", '{"author": {"name": {}}}', '{"author": 5}'])
def test_broken_json_ld_says_nothing(script: str) -> None:
    assert extracted(f'<script type="application/ld+json">{script}</script>').metadata == {}


def test_nothing_that_a_page_says_holds_nul_or_a_surrogate() -> None:
    page = extracted(
        "<html lang='e\0n'><meta name=description content='a&#0;\0&#xD800;'><meta name=keywords content='b\0'>"
        r"""<script type="application/ld+json">{"datePublished": "2024\u0000", "author": "\ud800 \u0000bad"}</script>"""
    )

    assert page.metadata["author"] == "? bad"

    for kept in (page.description, page.language or "", *page.metadata, *page.metadata.values()):
        assert "\0" not in kept
        kept.encode()
