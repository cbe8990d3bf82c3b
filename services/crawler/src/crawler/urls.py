"""URLs by the WHATWG standard: one canonical spelling and one identity for each page."""

import re
from functools import lru_cache
from uuid import NAMESPACE_URL, UUID, uuid5

import ada_url

from crawler.query_encoding import with_query_in

MAX_LENGTH = 2048
_SHORT = 300  # together; of these, many can be remembered
# Behind the scheme a browser takes any slashes, also none.
_USERINFO = re.compile(r"(//|^[^/?#\\@]{0,20}?:[/\\\s]*)[^/?#\\]*@")
_SECRET = re.compile(
    r"([?&;#](?=[^=&;#]*=)"  # else what names a secret again and again is looked at from each of its places
    r"(?:[^=&;#]*(?:token|secret|passw|pwd|signature|credential|session|auth(?!or)|api[-_]?key)[^=&;#]*"
    r"|key|sig|sid|jwt|code|pass)=)[^&;#]*",
    re.IGNORECASE,
)
# Parameters that say where a visitor came from, and change nothing of the page; they and those that begin like these.
_TRACKING_PREFIXES = ("utm_", "mtm_", "hsa_")  # Google Analytics, Matomo, HubSpot
TRACKING = frozenset(
    ("gclid", "gclsrc", "dclid", "gbraid", "wbraid", "srsltid", "gad_source", "gad_campaignid", "_ga", "_gl"),  # Google
).union(
    ("fbclid", "igsh", "igshid", "msclkid", "twclid", "ttclid", "li_fat_id"),  # social networks
    ("epik", "rdt_cid", "sccid"),
    ("yclid", "ysclid", "_openstat"),  # Yandex
    ("mc_cid", "mc_eid", "mkt_tok", "_hsenc", "_hsmi", "__hssc", "__hstc", "__hsfp", "vero_id", "oly_anon_id"),  # mail
    ("oly_enc_id", "wickedid", "_kx"),
    ("s_kwcid", "ef_id", "dicbo"),  # Adobe, Outbrain
)
_NOT_FETCHED = ("#", "javascript:", "mailto:", "data:", "tel:")


def canonical(url: str) -> str | None:
    """Return the one spelling of an http(s) URL, or None when it is no such URL or longer than 2048 characters.

    Fragment, credentials and default port go; trailing slash and query stay as they are.
    """
    try:
        return _without_secrets(ada_url.normalize_url(url))
    except ValueError:
        return None


def join(base: str, href: str, encoding: str = "utf-8") -> str | None:
    """Return the canonical URL of a link found on the page `base`, or None when it leads to no other page.

    `encoding` is that of the page: it decides how the query of the link is spelled.
    """
    if encoding != "utf-8" and "?" in href and not href.isascii():
        href = with_query_in(encoding, href)
    if href.startswith(_NOT_FETCHED):
        return None
    if len(base) + len(href) <= _SHORT and ":" not in href and (href[:1].isalnum() or href.startswith(("/", "."))):
        # Then only the folder of the page counts, and the pages in it mostly repeat each other's links.
        return _joined_before(f"{base.partition('?')[0].rpartition('/')[0]}/", href)
    return _joined(base, href)


def _joined(base: str, href: str) -> str | None:
    try:
        return _without_secrets(ada_url.join_url(base, href))
    except ValueError:
        return None


_joined_before = lru_cache(maxsize=20_000)(_joined)


def base_url(url: str, href: str) -> str:
    """Return what the addresses on the page `url` are relative to, whose <base> names `href`; it may be no http URL.

    One that is too long is none: what is relative to it would be, too.
    """
    try:
        base = ada_url.join_url(url, href)
    except ValueError:
        return url
    if len(base) > MAX_LENGTH or base.startswith(("data:", "javascript:")):
        return url
    return _without_secrets(base) or base


def without_tracking(url: str) -> str:
    """Return a canonical URL without the parameters of `TRACKING`; the others keep their order and spelling."""
    address, mark, query = url.partition("?")
    if not mark:
        return url
    pairs = query.split("&")
    kept = [pair for pair in pairs if not _is_tracking(pair.partition("=")[0].lower())]
    if len(kept) == len(pairs):
        return url
    return f"{address}?{'&'.join(kept)}" if kept else address


def _is_tracking(name: str) -> bool:
    return name in TRACKING or name.startswith(_TRACKING_PREFIXES)


def origin(url: str) -> str:
    """Return scheme, host and port of a canonical URL: `https://example.com:8443`."""
    return url[: url.index("/", url.index("://") + 3)]


def site(url: str) -> str:
    """Return the site of a canonical URL: its host without `www.`, and its port unless it is the scheme's default."""
    start = url.index("://") + 3
    return url[start : url.index("/", start)].removeprefix("www.")


def path(url: str) -> str:
    """Return the path of a canonical URL, without its query: `/docs/a`."""
    return url[url.index("/", url.index("://") + 3) :].partition("?")[0]


@lru_cache(maxsize=1_000)
def canonical_path(text: str) -> str:
    """Return a path as `path` returns it of a URL that has it: `/docs/a b` is `/docs/a%20b`."""
    return path(ada_url.normalize_url(f"http://host/{text.removeprefix('/')}"))


@lru_cache(maxsize=20_000)
def page_id(job_id: UUID, url: str) -> UUID:
    """Return the id of a page of a job: the same wherever the page is found again."""
    return uuid5(job_id, url)


@lru_cache(maxsize=20_000)
def document_id(url: str) -> UUID:
    """Return the id of the document at a canonical URL: the same in every job."""
    return uuid5(NAMESPACE_URL, url)


def redacted(url: str) -> str:
    """Return a URL, or what was meant to be one, as it may be logged: without credentials and values of secrets."""
    return _SECRET.sub(r"\1***", _USERINFO.sub(r"\1", url))


def _without_secrets(href: str) -> str | None:
    """Drop fragment and credentials of a URL that the parser has spelled."""
    if not href.startswith(("http://", "https://")):
        return None
    href = href.partition("#")[0]
    if "@" in href:
        start = href.index("://") + 3
        # The standard escapes an @ inside credentials, so the last one before the path ends them.
        authority, slash, rest = href[start:].partition("/")
        href = href[:start] + authority.rpartition("@")[2] + slash + rest
    return href if len(href) <= MAX_LENGTH else None
