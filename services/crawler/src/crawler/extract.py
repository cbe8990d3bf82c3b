"""Bodies of pages to what is kept of them. Pure and synchronous; a hostile page costs bounded time and memory."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from html_to_markdown import ConversionError, ConversionOptions, InlineDataMedia, PreprocessingOptions, convert
from selectolax.lexbor import LexborHTMLParser, LexborNode

from crawler.bounds import VOID, bounded, expands
from crawler.elements import Elements
from crawler.links import PageLinks, page_links
from crawler.metadata import About, about
from crawler.text_encoding import decoded

MAX_TITLE = 1_000
_MAX_TITLES = 20  # to look at: each may stand deep in a drawing
_NO_LINKS = PageLinks()
# By itself the library drops all forms and some headers: whole pages stand in a form.
_AS_IT_IS = PreprocessingOptions(enabled=False)
_SAYS_NOTHING = About("", None, {})
_PLAIN_TEXT = ("text/plain", "text/markdown")
_XHTML = "application/xhtml+xml"
# For a parser of HTML a slash ends no element: <script/> would take all that follows.
_SELF_CLOSED = re.compile(
    rf"<(?!(?:{'|'.join(sorted(VOID))})[\s/])([a-zA-Z][^\s/<>]*+)((?:\"[^\"]*+\"|'[^']*+'|[^<>\"'/]|/(?!>))*+)/>"
)
_TEMPLATE = re.compile(r"<(/?)template\b([^<>]*+)>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Extracted:
    """What is kept of a page. None of it holds NUL or a lone surrogate.

    `main` is the HTML of the main content, only if it was asked for; `content_hash` is the SHA-256 of title and text.
    """

    title: str
    text: str
    links: PageLinks
    content_hash: str
    main: str = ""
    description: str = ""
    language: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def extract(body: bytes, content_type: str, url: str, *, keep_main: bool = False) -> Extracted:
    """Extract what is kept of an HTML or plain-text page fetched from the canonical `url`."""
    content, encoding = decoded(body, content_type)
    if media_type(content_type) in _PLAIN_TEXT:
        text = "\n".join(line.rstrip() for line in content.splitlines()).strip()
        return extracted(name_of(url), text)
    if media_type(content_type) == _XHTML:
        content = _SELF_CLOSED.sub(r"<\1\2></\1>", content)
    if "shadowrootmode" in content:
        content = _with_shadow_roots(content)
    page = LexborHTMLParser(bounded(content))
    elements = Elements.of(page)
    title, links, said = _title(elements), page_links(elements, url, encoding), about(elements)
    if keep_main:
        elements.name_languages()
    main, text = _main(elements)
    html = (main.html or "") if main and keep_main else ""
    return extracted(title, text, links, html, said)


def _with_shadow_roots(content: str) -> str:
    """Let what components show, as browsers and servers write it, be content like all else."""
    are_shown: list[bool] = []

    def opened(tag: re.Match[str]) -> str:
        if tag[1]:
            is_shown = bool(are_shown) and are_shown.pop()
        else:
            is_shown = "shadowrootmode" in tag[2]
            are_shown.append(is_shown)
        return f"<{tag[1]}div>" if is_shown else tag[0]

    return _TEMPLATE.sub(opened, content)


def media_type(content_type: str) -> str:
    """Return what a Content-Type header names: `text/html` for `Text/HTML; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def name_of(url: str) -> str:
    """Return the file name in a URL, which is the title of what has no other."""
    return unquote(url.partition("?")[0].rpartition("/")[2]).replace("\0", "\ufffd")


def to_markdown(html: str, *, url: str, otherwise: str) -> str:
    """Convert the main content of a page, whose links are relative to `url`; return `otherwise` where that fails.

    It releases the GIL: run it in a thread.
    """
    if expands(html, url):
        return otherwise
    options = ConversionOptions(
        extract_metadata=False,
        base_url=url,
        preprocessing=_AS_IT_IS,
        inline_data_media=InlineDataMedia.ALT_TEXT_ONLY,  # the data of a picture is no text
    )
    try:
        markdown = convert(html, options).content
    except ConversionError:
        return otherwise
    return markdown.replace("\0", "") if markdown else otherwise


def extracted(
    title: str,
    text: str,
    links: PageLinks = _NO_LINKS,
    main: str = "",
    said: About = _SAYS_NOTHING,
) -> Extracted:
    """What is kept, with its hash."""
    title = _collapsed(title)[:MAX_TITLE]
    content_hash = hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()
    return Extracted(title, text, links, content_hash, main, said.description, said.language, said.metadata)


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def _title(elements: Elements) -> str:
    for node in elements.titles[:_MAX_TITLES]:
        if (title := node.text().strip()) and not _is_in_drawing(node):
            return title
    heading = elements.page.css_first("h1")
    return heading.text() if heading else ""


def _is_in_drawing(node: LexborNode) -> bool:
    while (parent := node.parent) is not None:
        if parent.tag in ("svg", "math"):
            return True
        node = parent
    return False


def _main(elements: Elements) -> tuple[LexborNode | None, str]:
    """Return the element that holds the main content, and its text; an empty <main> (filled by a script) is none."""
    main, body = elements.main(), elements.page.body
    if main is not None and (text := _text(main)):
        return main, text
    return body, _text(body) if body else ""


def _text(node: LexborNode) -> str:
    return _collapsed(node.text(separator=" "))
