"""URLs by the WHATWG standard: one canonical spelling and one identity for each page."""

from functools import lru_cache
from uuid import NAMESPACE_URL, UUID, uuid5

import ada_url

MAX_LENGTH = 2048
_NOT_FETCHED = ("#", "javascript:", "mailto:", "data:", "tel:")


def canonical(url: str) -> str | None:
    """Return the one spelling of an http(s) URL, or None when it is no such URL or longer than 2048 characters.

    Fragment, credentials and default port go; trailing slash and query stay as they are.
    """
    try:
        return _without_secrets(ada_url.normalize_url(url))
    except ValueError:
        return None


def join(base: str, href: str) -> str | None:
    """Return the canonical URL of a link found on the page `base`, or None when it leads to no other page."""
    if href.startswith(_NOT_FETCHED):
        return None
    try:
        return _without_secrets(ada_url.join_url(base, href))
    except ValueError:
        return None


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


@lru_cache(maxsize=20_000)
def page_id(job_id: UUID, url: str) -> UUID:
    """Return the id of a page of a job: the same wherever the page is found again."""
    return uuid5(job_id, url)


def document_id(url: str) -> UUID:
    """Return the id of the document at a canonical URL: the same in every job."""
    return uuid5(NAMESPACE_URL, url)


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
