"""robots.txt by RFC 9309: what a site lets this crawler fetch, and how slowly."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Literal, Self

from protego import Protego

from crawler.fetch import Failed, Fetched, Fetcher, Redirected, Skipped
from crawler.urls import join

MAX_BYTES = 500 * 1024
MAX_REDIRECTS = 5
MAX_SITEMAPS = 5_000  # one event names them all, together with as many links of the page that brought them
MAX_CRAWL_DELAY = 60.0  # a site that asks for more would hold a job up for days
_USER_AGENT_LINE = re.compile(r"\s*user[- ]?agent\s*[:\s]\s*([^#]*)", re.IGNORECASE)
# Any other line does nothing; to the parser it would end the group that it stands in (RFC 9309, 2.2.4).
_FIELD = re.compile(r"\s*([^:#\s]+)\s*:")
_KNOWN_FIELDS = frozenset(("allow", "crawl-delay", "sitemap", "sitemaps", "site-map", "user-agent", "useragent"))
_DISALLOW = re.compile(r"d[ia]*s{1,2}a?l{1,2}[oa]w")  # as it is often misspelled
_OTHERS = "others-"
_PRODUCT = re.compile(r"(?:.*compatible; *)?([A-Za-z_-]+)")


@dataclass(frozen=True, slots=True)
class RobotsResult:
    """What asking for a robots.txt gave, ready to be stored. body: the rules in `body` hold. allow: there are none."""

    verdict: Literal["body", "allow"]
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Robots:
    """The rules of one site for one user agent."""

    product: str
    rules: Protego | None

    @classmethod
    def parse(cls, body: str, user_agent: str) -> Self:
        """Read the rules in a robots.txt."""
        product = product_token(user_agent)
        return cls(product, Protego.parse(_only_groups_for(product, body)))

    @classmethod
    def of(cls, result: RobotsResult, user_agent: str) -> Self:
        """Return the rules that a result stands for."""
        if result.verdict == "body":
            return cls.parse(result.body or "", user_agent)
        return cls(product_token(user_agent), None)

    def allows(self, url: str) -> bool:
        """Return whether the URL may be fetched."""
        return self.rules is None or self.rules.can_fetch(url, self.product)

    @property
    def crawl_delay(self) -> float | None:
        """The seconds to keep between two fetches, at most a minute, if the site names any."""
        delay = self.rules.crawl_delay(self.product) if self.rules else None
        return None if delay is None else min(delay, MAX_CRAWL_DELAY)

    def sitemaps(self, origin: str) -> tuple[str, ...]:
        """The canonical URLs of the first sitemaps that the site names; they should be absolute, but not all are."""
        named = (join(f"{origin}/", url) for url in (self.rules.sitemaps if self.rules else ()))
        return tuple(dict.fromkeys(islice(filter(None, named), MAX_SITEMAPS)))


async def fetch_robots(fetcher: Fetcher, origin: str) -> RobotsResult | Failed:
    """Ask an origin for its robots.txt, through up to five redirects. Where that failed, nothing may be fetched."""
    url = f"{origin}/robots.txt"
    for _ in range(MAX_REDIRECTS + 1):
        result = await fetcher.fetch(url, first_bytes=MAX_BYTES)
        if isinstance(result, Fetched):
            return RobotsResult("body", _text(result.body))
        if not isinstance(result, Redirected):
            return without_rules(result)
        url = result.target
    return RobotsResult("allow")


def without_rules(result: Failed | Skipped) -> RobotsResult | Failed:
    """Return what it means that there was no robots.txt to read: unavailable or unreachable (RFC 9309, 2.3.1)."""
    unavailable = result.status is not None and result.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return result if isinstance(result, Failed) and (result.retry or not unavailable) else RobotsResult("allow")


def product_token(user_agent: str) -> str:
    """Return the name that a robots.txt addresses this crawler by: `Tallyho` for `Tallyho/1.0 (+https://…)`."""
    match = _PRODUCT.match(user_agent)
    return match[1] if match else user_agent


def _only_groups_for(product: str, body: str) -> str:
    """Give all groups but ours and `*` to one name: the parser's work grows with names times rules."""
    return "\n".join(_renamed(product, line) for line in body.splitlines() if not _is_unknown(line))


def _is_unknown(line: str) -> bool:
    field = _FIELD.match(line)
    return field is not None and not _is_known(field[1].lower())


def _is_known(field: str) -> bool:
    return field in _KNOWN_FIELDS or _DISALLOW.fullmatch(field) is not None


def _renamed(product: str, line: str) -> str:
    match = _USER_AGENT_LINE.match(line)
    if match is None:
        return line
    name = match[1].strip().strip("*")
    if not name and "*" in match[1]:
        return "User-agent: *"
    return f"User-agent: {product if product_token(name).lower() == product.lower() else _OTHERS}"


def _text(body: bytes) -> str:
    """Decode a robots.txt; a line that the size limit cut in two would mean something else and goes."""
    if len(body) == MAX_BYTES:
        body = body[: max(body.rfind(b"\n"), body.rfind(b"\r")) + 1]
    # Of a byte order mark some servers send a part.
    return body.decode("utf-8", "replace").lstrip("\ufeff\ufffd").replace("\0", "")
