"""What a page says about other URLs."""

import time

import pytest
from crawler.elements import Elements
from crawler.links import MAX_LINKS, PageLinks, Refresh, canonical_in_header, page_links
from selectolax.lexbor import LexborHTMLParser

URL = "https://example.com/docs/page.html"


def links(html: str) -> PageLinks:
    return page_links(Elements.of(LexborHTMLParser(html)), URL)


def test_frames_are_links_and_images_are_not() -> None:
    found = links(
        '<iframe src="a"></iframe><iframe></iframe><img src="b.png" srcset="c.png 1x, d.png 2x">'
        '<picture><source srcset="e.webp"></picture><link rel="next" href="f"><script src="g.js"></script>'
    )

    assert found.urls == ("https://example.com/docs/a",)
    assert links('<frameset><frame src="menu.html"></frameset>').urls == ("https://example.com/docs/menu.html",)


@pytest.mark.parametrize("rel", ["nofollow", "noopener NoFollow", "ugc\tnofollow", "ugc,nofollow"])
def test_link_with_nofollow_is_known_as_such(rel: str) -> None:
    found = links(f'<a href="a" rel="{rel}">a</a><a href="b" rel="noopener">b</a><a href="c" rel="nofollowing">c</a>')

    assert [url[-1] for url in found.urls] == ["a", "b", "c"]
    assert found.nofollow == {"https://example.com/docs/a"}


@pytest.mark.parametrize("hrefs", [("a", "a"), ("a#x", "a#y"), ("a", "./a"), ("./a", "a")])
def test_one_link_without_nofollow_is_enough(hrefs: tuple[str, str]) -> None:
    first, second = hrefs
    for order in (("nofollow", ""), ("", "nofollow")):
        found = links(f'<a href="{first}" rel="{order[0]}">1</a><a href="{second}" rel="{order[1]}">2</a>')

        assert found.urls == ("https://example.com/docs/a",)
        assert not found.nofollow


@pytest.mark.parametrize(
    ("content", "refresh"),
    [
        ("0; url=a", (0, "a")),
        ("0;URL='a'", (0, "a")),
        (' 5 , Url = "a" rest', (5, "a")),
        ("1.5;a", (1, "a")),
        (".9 a", (0, "a")),
        ("0; url=a b", (0, "a%20b")),
        ("10; url=//other.example/x#y", (10, "//other.example/x")),
        ("0", None),
        ("0; url=", None),
        ("0; url=page.html", None),
        ("0; url=#part", None),
        ("soon; url=a", None),
        ("0a; url=b", None),
        ("0; url=javascript:x()", None),
        ("\u0660; url=a", None),
        ("0; url=a\xa0", (0, "a%C2%A0")),
        ("0;;url=a", (0, ";url=a")),
        ("1.9..5.; url=a", (1, "a")),
        ("1e0; url=a", None),
        ("-0; url=a", None),
        ("0; url a", (0, "url%20a")),
    ],
)
def test_refresh_is_read_as_browsers_do(content: str, refresh: tuple[int, str] | None) -> None:
    found = links(f"<meta http-equiv=Refresh content='{content}'>" if "'" not in content else _quoted(content))
    wanted = None
    if refresh:
        start = "https:" if refresh[1].startswith("//") else "https://example.com/docs/"
        wanted = Refresh(refresh[0], start + refresh[1])

    assert found.refresh == wanted


def _quoted(content: str) -> str:
    return f'<meta http-equiv="refresh" content="{content}">'


def test_refresh_for_browsers_without_scripts_is_ignored() -> None:
    refresh = '<meta http-equiv="refresh" content="0; url=/turn-scripts-on">'

    assert links(f"<head><noscript>{refresh}</noscript></head>").refresh is None
    assert links(f"<head><noscript></noscript>{refresh}</head>").refresh is not None


def test_canonical_address_and_words_to_crawlers_are_read() -> None:
    found = links(
        '<base href="/root/"><link rel="stylesheet" href="s"><link rel="x Canonical" href="a#b"><link rel="canonical" '
        'href="second"><meta name=" Robots " content="noindex"><meta name="description" content="d"><meta name="a">'
    )

    assert found.canonical == "https://example.com/root/a"
    assert found.robots == (("robots", "noindex"), ("description", "d"))
    assert links('<link rel="canonical" href="mailto:a@b.c"><link rel="shortlink" href="a">').canonical is None


@pytest.mark.parametrize(
    ("values", "canonical"),
    [
        (['</a>; rel="canonical"'], "https://example.com/a"),
        (["<b,c#part>;rel=canonical; title=x"], "https://example.com/docs/b,c"),
        (
            ['<s.css>; rel=preload; title="a, <x>; rel=canonical", <//other.example>; REL="x Canonical"'],
            "https://other.example/",
        ),
        (["<x>; rel=next", "<y>; rel=canonical"], "https://example.com/docs/y"),
        (["<x>; rel=alternate", "<x>", "canonical", "", "<" * 8000], None),
        (["<\udcff>; rel=canonical"], None),
    ],
)
def test_canonical_address_is_read_from_the_header(values: list[str], canonical: str | None) -> None:
    assert canonical_in_header(values, URL) == canonical


def test_hostile_header_costs_little() -> None:
    started = time.process_time()

    assert canonical_in_header(['<>\\"' * 2_000] * 30, URL) is None
    assert time.process_time() - started < 2


@pytest.mark.parametrize(("number", "beyond"), [(MAX_LINKS, 0), (MAX_LINKS + 7, 7)])
def test_of_very_many_links_the_first_are_read_and_the_others_counted_once_each(number: int, beyond: int) -> None:
    many = [f"/{n}" for n in range(number)]
    found = links("".join(f"<a href={link}>x</a><a href={link}#part>x</a>" for link in many))

    assert found.urls == tuple(f"https://example.com{link}" for link in many[:MAX_LINKS])
    assert found.beyond == beyond
