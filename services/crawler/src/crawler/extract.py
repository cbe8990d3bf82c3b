"""Bodies of pages to what is kept of them. Pure and synchronous; a hostile page costs bounded time and memory."""

import hashlib
from dataclasses import dataclass
from urllib.parse import unquote

from html_to_markdown import ConversionError, ConversionOptions, convert
from selectolax.lexbor import LexborHTMLParser, LexborNode

from crawler.bounds import bounded, expands
from crawler.text_encoding import decode
from crawler.urls import join

MAX_LINKS = 5_000
MAX_TITLE = 1_000
_NOT_CONTENT = "script,style,noscript,noembed,noframes,template,svg,iframe,nav,footer,aside"
_MAIN = "main,[role=main]"
_PLAIN_TEXT = ("text/plain", "text/markdown")


@dataclass(frozen=True, slots=True)
class Extracted:
    """What is kept of a page. None of it holds NUL or a lone surrogate.

    `html` is the main content, only if it was asked for; `content_hash` is the SHA-256 of title and text.
    """

    title: str
    text: str
    links: list[str]
    content_hash: str
    html: str = ""


def extract(body: bytes, content_type: str, url: str, *, keep_html: bool = False) -> Extracted:
    """Extract title, main text and links from an HTML or plain-text page fetched from the canonical `url`.

    Links are canonical URLs in document order, each once, without the page itself.
    """
    content = decode(body, content_type)
    if content_type.partition(";")[0].strip().lower() in _PLAIN_TEXT:
        text = "\n".join(line.rstrip() for line in content.splitlines()).strip()
        name = unquote(url.partition("?")[0].rpartition("/")[2])
        return _extracted(name.replace("\0", "\ufffd"), text, [])
    page = LexborHTMLParser(bounded(content))
    title, links = _title(page), _links(page, url)
    for node in page.css(_NOT_CONTENT):
        node.decompose()
    main, text = _main(page)
    return _extracted(title, text, links, html=(main.html or "") if main and keep_html else "")


def to_markdown(html: str, *, url: str, otherwise: str) -> str:
    """Convert the main content of the page `url` to markdown; `otherwise` is returned where that fails.

    It releases the GIL: run it in a thread.
    """
    if expands(html):
        return otherwise
    options = ConversionOptions(extract_metadata=False, base_url=url)
    try:
        markdown = convert(html, options).content
    except ConversionError:
        return otherwise
    return markdown.replace("\0", "") if markdown else otherwise


def _extracted(title: str, text: str, links: list[str], *, html: str = "") -> Extracted:
    title = _collapsed(title)[:MAX_TITLE]
    content_hash = hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()
    return Extracted(title, text, links, content_hash, html)


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def _title(page: LexborHTMLParser) -> str:
    # The head stands first and is small: looking there first spares most pages a walk through all of it.
    node = (page.head and page.head.css_first("title")) or page.css_first("h1")
    return node.text() if node else ""


def _links(page: LexborHTMLParser, url: str) -> list[str]:
    base_node = page.css_first("base[href]")
    base = (base_node and join(url, base_node.attributes.get("href") or "")) or url
    # Most links of a page differ in their fragment only, and joining is the cost: look at each spelling once.
    hrefs = dict.fromkeys(
        (node.attributes.get("href") or "").partition("#")[0] for node in page.css("a[href],area[href]")
    )
    links: dict[str, None] = {}
    for href in hrefs:
        link = join(base, href)
        if link is not None and link != url:
            links[link] = None
            if len(links) == MAX_LINKS:
                break
    return list(links)


def _main(page: LexborHTMLParser) -> tuple[LexborNode | None, str]:
    """Return the element that holds the main content, and its text; an empty <main> (filled by a script) is none."""
    main = page.css_first(_MAIN)
    if main is not None and (text := _text(main)):
        return main, text
    return page.body, _text(page.body) if page.body else ""


def _text(node: LexborNode) -> str:
    return _collapsed(node.text(separator=" "))
