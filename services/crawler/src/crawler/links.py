"""What a parsed page says about other URLs: its links, where it sends browsers on to, and how it would be called."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from selectolax.lexbor import LexborNode

from crawler.elements import Attributes, Elements
from crawler.urls import base_url, join

MAX_LINKS = 5_000
_NAMES_IN_LIST = re.compile(r"[ \t\n\f\r,]+")  # with commas, too, as search engines take rel=nofollow
# The shared declarative refresh steps of the HTML standard: seconds, a separator, `url=`, a perhaps quoted URL.
_REFRESH = re.compile(
    r"[ \t\n\f\r]*(?:(?P<seconds>\d{1,9})[\d.]*|\.[\d.]*)(?:[ \t\n\f\r]*[;,]|[ \t\n\f\r])[ \t\n\f\r]*"
    r"(?:url[ \t\n\f\r]*=[ \t\n\f\r]*)?(?:\"(?P<double>[^\"]*)|'(?P<single>[^']*)|(?P<bare>.*))",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)
# One link of a Link header (RFC 8288): its target, and its parameters up to a comma that is in no quotes.
_HEADER_LINK = re.compile(r"<([^<>]*+)>((?:[^,\"]|\"(?:\\.|[^\"\\])*+(?:\"|\Z))*+)", re.DOTALL)
_HEADER_REL = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)


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
    `base` is what the addresses on the page are relative to.
    """

    urls: tuple[str, ...] = ()
    nofollow: frozenset[str] = frozenset()
    refresh: Refresh | None = None
    canonical: str | None = None
    robots: tuple[tuple[str, str], ...] = ()
    beyond: int = 0
    base: str = ""


def page_links(elements: Elements, url: str, encoding: str = "utf-8") -> PageLinks:
    """Collect the links of the page at the canonical `url`, which is in that encoding; at most 5,000 of them."""
    base = base_url(url, _value(elements.bases[0], "href")) if elements.bases else url
    links, beyond = _links(elements.linking, url, base, encoding)
    return PageLinks(
        urls=tuple(links),
        nofollow=frozenset(link for link, is_followed in links.items() if not is_followed),
        refresh=_refresh(elements, url, base, encoding),
        canonical=_canonical(elements.relations, base, encoding),
        robots=tuple(
            (name, _value(attributes, "content"))
            for _, attributes in elements.metas
            if (name := _value(attributes, "name").strip().lower())
        ),
        beyond=beyond,
        base=base,
    )


def _links(linking: Iterable[Attributes], url: str, base: str, encoding: str) -> tuple[dict[str, bool], int]:
    """Each link, and whether it may be followed somewhere; and how many addresses are left when there are enough."""
    # Most links of a page differ in their fragment only, and joining is the cost: look at each spelling once.
    hrefs: dict[str, bool] = {}
    for attributes in linking:
        href = (attributes.get("href") or attributes.get("src") or "").partition("#")[0]
        rel = attributes.get("rel")
        is_followed = not rel or "nofollow" not in _NAMES_IN_LIST.split(rel.lower())
        hrefs[href] = is_followed or hrefs.get(href, False)
    links: dict[str, bool] = {}
    for looked_at, (href, is_followed) in enumerate(hrefs.items(), 1):
        link = join(base, href, encoding)
        if link is not None and link != url:
            links[link] = is_followed or links.get(link, False)
            if len(links) == MAX_LINKS:
                return links, len(hrefs) - looked_at
    return links, 0


def _refresh(elements: Elements, url: str, base: str, encoding: str) -> Refresh | None:
    for node, attributes in elements.metas:
        pragma = attributes.get("http-equiv")
        if not pragma or pragma.strip().lower() != "refresh" or _is_for_browsers_without_scripts(node):
            continue
        if refresh := refresh_of(_value(attributes, "content"), url, base, encoding):
            return refresh
    return None


def refresh_of(content: str, url: str, base: str, encoding: str = "utf-8") -> Refresh | None:
    """Return where a refresh in a page or in its header leads, if it leads to another page."""
    match = _REFRESH.match(content)
    target = match and join(base, match["double"] or match["single"] or match["bare"] or "", encoding)
    return Refresh(int(match["seconds"] or 0), target) if match and target and target != url else None


def _is_for_browsers_without_scripts(node: LexborNode) -> bool:
    # Such a page says "turn scripts on": it is no better place to be.
    return node.parent is not None and node.parent.tag == "noscript"


def _canonical(relations: Iterable[Attributes], base: str, encoding: str) -> str | None:
    for attributes in relations:
        if "canonical" in _NAMES_IN_LIST.split(_value(attributes, "rel").lower()):
            return join(base, _value(attributes, "href"), encoding)
    return None


def canonical_in_header(values: Iterable[str], url: str) -> str | None:
    """Return what the Link headers of the page `url` name as its canonical address (RFC 6596), if they do."""
    for target, parameters in chain.from_iterable(map(_HEADER_LINK.findall, values)):
        rel = _HEADER_REL.search(parameters)
        if rel and "canonical" in (rel[1] or rel[2] or "").lower().split():
            return join(url, target)
    return None


def _value(attributes: Attributes, name: str) -> str:
    return attributes.get(name) or ""
