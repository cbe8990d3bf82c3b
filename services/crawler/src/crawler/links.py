"""What a parsed page says about other URLs: its links, where it sends browsers on to, and how it would be called."""

import re
from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser, LexborNode

from crawler.urls import join

MAX_LINKS = 5_000
# Images (`src`, `srcset`), scripts and style sheets are no documents, so they are no links either.
_LINKING = "a[href],area[href],frame[src],iframe[src]"
_NAMES_IN_LIST = re.compile(r"[ \t\n\f\r]+")
# The shared declarative refresh steps of the HTML standard: seconds, a separator, `url=`, a perhaps quoted URL.
_REFRESH = re.compile(
    r"[ \t\n\f\r]*(?:(?P<seconds>\d{1,9})[\d.]*|\.[\d.]*)(?:[ \t\n\f\r]*[;,]|[ \t\n\f\r])[ \t\n\f\r]*"
    r"(?:url[ \t\n\f\r]*=[ \t\n\f\r]*)?(?:\"(?P<double>[^\"]*)|'(?P<single>[^']*)|(?P<bare>.*))",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Refresh:
    """A `<meta http-equiv=refresh>` that leads to another page after some seconds."""

    seconds: int
    target: str


@dataclass(frozen=True, slots=True)
class PageLinks:
    """Canonical URLs. `urls` are in document order, each once, without the page itself.

    `nofollow` are those of them that stand in links with rel=nofollow only. `robots` are the pairs (name, content) of
    the <meta> elements that may speak to crawlers. `beyond` more addresses, as they are written, were not looked at.
    """

    urls: tuple[str, ...] = ()
    nofollow: frozenset[str] = frozenset()
    refresh: Refresh | None = None
    canonical: str | None = None
    robots: tuple[tuple[str, str], ...] = ()
    beyond: int = 0


def page_links(page: LexborHTMLParser, url: str) -> PageLinks:
    """Collect the links of the page at the canonical `url`, at most 5,000 of them."""
    base_node = page.css_first("base[href]")
    base = (base_node and join(url, _attribute(base_node, "href"))) or url
    links, beyond = _links(page, url, base)
    return PageLinks(
        urls=tuple(links),
        nofollow=frozenset(link for link, is_followed in links.items() if not is_followed),
        refresh=_refresh(page, url, base),
        canonical=_canonical(page, base),
        robots=tuple(
            (name, _attribute(node, "content"))
            for node in page.css("meta[name][content]")
            if (name := _attribute(node, "name").strip().lower())
        ),
        beyond=beyond,
    )


def _links(page: LexborHTMLParser, url: str, base: str) -> tuple[dict[str, bool], int]:
    """Each link, and whether it may be followed somewhere; and how many addresses are left when there are enough."""
    # Most links of a page differ in their fragment only, and joining is the cost: look at each spelling once.
    hrefs: dict[str, bool] = {}
    for node in page.css(_LINKING):
        attributes = node.attributes
        href = (attributes.get("href") or attributes.get("src") or "").partition("#")[0]
        is_followed = "nofollow" not in _NAMES_IN_LIST.split((attributes.get("rel") or "").lower())
        hrefs[href] = is_followed or hrefs.get(href, False)
    links: dict[str, bool] = {}
    for looked_at, (href, is_followed) in enumerate(hrefs.items(), 1):
        link = join(base, href)
        if link is not None and link != url:
            links[link] = is_followed or links.get(link, False)
            if len(links) == MAX_LINKS:
                return links, len(hrefs) - looked_at
    return links, 0


def _refresh(page: LexborHTMLParser, url: str, base: str) -> Refresh | None:
    for node in page.css("meta[http-equiv][content]"):
        if _attribute(node, "http-equiv").strip().lower() != "refresh" or _is_for_browsers_without_scripts(node):
            continue
        match = _REFRESH.match(_attribute(node, "content"))
        target = match and join(base, match["double"] or match["single"] or (match["bare"] or "").strip())
        if match and target and target != url:
            return Refresh(int(match["seconds"] or 0), target)
    return None


def _is_for_browsers_without_scripts(node: LexborNode) -> bool:
    # Such a page says "turn scripts on": it is no better place to be.
    return node.parent is not None and node.parent.tag == "noscript"


def _canonical(page: LexborHTMLParser, base: str) -> str | None:
    for node in page.css("link[rel][href]"):
        if "canonical" in _NAMES_IN_LIST.split(_attribute(node, "rel").lower()):
            return join(base, _attribute(node, "href"))
    return None


def _attribute(node: LexborNode, name: str) -> str:
    return node.attributes.get(name) or ""
