"""What a robots.txt lets this crawler fetch."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from crawler.fetch import Failed, Fetcher
from crawler.robots import (
    MAX_BYTES,
    MAX_CRAWL_DELAY,
    Robots,
    RobotsResult,
    fetch_robots,
    product_token,
    without_rules,
)

AGENT = "Tallyho/1.0 (+https://example.com/bot)"
SITE = "https://example.com"


def allowed(body: str, path: str) -> bool:
    return Robots.parse(body, AGENT).allows(SITE + path)


def test_our_own_group_replaces_the_general_one() -> None:
    body = (
        "User-agent: *\nDisallow: /\n\nUser-agent: other\nUser-agent: TALLYHO\nDisallow: /private\nAllow: /private/open"
    )

    assert allowed(body, "/a")
    assert not allowed(body, "/private/a")
    assert allowed(body, "/private/open")
    assert allowed(body, "/robots.txt")


@pytest.mark.parametrize("agent", ["*", "* # everyone", "tallyho", "Tallyho/2.0", "*Tallyho*", " tallyho "])
@pytest.mark.parametrize("field", ["User-agent:", "user-agent :", "USER-AGENT:", "User agent:", "useragent"])
def test_group_that_addresses_us_holds(field: str, agent: str) -> None:
    assert not allowed(f"{field} {agent}\nDisallow: /x", "/x")


@pytest.mark.parametrize("agent", ["other", "tally", "tallyhoo", "example", "https", "com", "*bot", "others-"])
def test_group_of_another_crawler_does_not_hold(agent: str) -> None:
    assert allowed(f"User-agent: {agent}\nDisallow: /x", "/x")


def test_longest_match_and_wildcards_decide() -> None:
    body = "User-agent: *\nDisallow: /*.pdf$\nDisallow: /a/\nAllow: /a/b\nDisallow: /q?x=*&y\nDisallow: /%C3%BC"

    assert not allowed(body, "/x/y.pdf")
    assert allowed(body, "/x/y.pdf?z")
    assert allowed(body, "/a/b/c")
    assert not allowed(body, "/a/c")
    assert not allowed(body, "/q?x=1&y=2")
    assert not allowed(body, "/%c3%bc/x")


@pytest.mark.parametrize("field", ["disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw", "DISALLOW "])
def test_rule_that_is_misspelled_as_google_knows_it_holds(field: str) -> None:
    assert not allowed(f"User-agent: *\n{field}: /x", "/x")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends_of_all_systems(newline: str) -> None:
    assert not allowed(newline.join(["User-agent: other", "Allow: /", "", "User-agent: *", "Disallow: /x"]), "/x")


@pytest.mark.parametrize(
    "body", ["", "<html>not found</html>", "Disallow: /", "\ufffd\0\x01", "User-agent: *\nDisallow:"]
)
def test_what_states_no_rule_allows_all(body: str) -> None:
    assert allowed(body, "/x")


def test_crawl_delay_is_read_within_reason() -> None:
    def delay(value: str) -> float | None:
        return Robots.parse(f"User-agent: *\nCrawl-delay: {value}", AGENT).crawl_delay

    assert delay("2.5") == 2.5
    assert delay("86400") == MAX_CRAWL_DELAY
    assert delay("-1") is delay("nan") is delay("soon") is None


def test_sitemaps_are_named_by_absolute_urls_or_by_paths_of_the_site() -> None:
    body = "Sitemap: https://other.test/a.xml\nsitemap: /b.xml\nSitemap: c.xml\nSitemap: /b.xml\nSitemap: ftp://x/"

    assert Robots.parse(body, AGENT).sitemaps(SITE) == ("https://other.test/a.xml", f"{SITE}/b.xml", f"{SITE}/c.xml")


def test_of_very_many_sitemaps_the_first_are_read() -> None:
    body = "".join(f"sitemap: /{number}\n" for number in range(6_000))

    assert Robots.parse(body, AGENT).sitemaps(SITE) == tuple(f"{SITE}/{number}" for number in range(5_000))


def test_product_token_is_what_a_site_would_write() -> None:
    assert product_token(AGENT) == "Tallyho"
    assert product_token("Mozilla/5.0 (compatible; Tallyho-Bot/1.0; +https://example.com)") == "Tallyho-Bot"


def test_hostile_robots_txt_costs_little() -> None:
    names = "".join(f"User-agent: a{number}\n" for number in range(13_000))
    rules = "".join(f"Disallow: /*{number}*x*y\n" for number in range(13_000))
    started = time.process_time()
    robots = Robots.parse((names + "User-agent: *\n" + rules)[:MAX_BYTES], AGENT)

    assert robots.allows(SITE + "/a" * 1000)
    assert time.process_time() - started < 5


def test_verdict_without_a_body_is_for_all_urls() -> None:
    assert Robots.of(RobotsResult("allow"), AGENT).allows(SITE)
    assert Robots.of(RobotsResult("allow"), AGENT).crawl_delay is None
    assert not Robots.of(RobotsResult("body", "User-agent: *\nDisallow: /"), AGENT).allows(SITE + "/")


@pytest.mark.parametrize(
    "failed", [Failed("http_404", 404), Failed("http_403", 403), Failed("bad_redirect", 302)], ids=str
)
def test_missing_rules_allow_all(failed: Failed) -> None:
    assert without_rules(failed) == RobotsResult("allow")


@pytest.mark.parametrize(
    "failed",
    [
        Failed("http_429", 429, retry=True),
        Failed("http_503", 503, retry=True, retry_after=600.0),
        Failed("timeout", retry=True),
        Failed("truncated", 200, retry=True),
        Failed("dns"),
        Failed("private_address"),
    ],
    ids=str,
)
def test_rules_that_cannot_be_had_allow_nothing(failed: Failed) -> None:
    assert without_rules(failed) == failed


@asynccontextmanager
async def site(**answers: web.Response) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve these answers by the first word of the path, the rest as 404; note the paths asked for."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        return answers.get(request.path.strip("/").partition(".")[0]) or web.Response(status=404)

    application = web.Application()
    application.router.add_get("/{path:.*}", handler)
    async with TestServer(application) as server:
        yield str(server.make_url("/")).rstrip("/"), asked


async def asked_of(origin: str) -> RobotsResult | Failed:
    async with Fetcher(user_agent=AGENT, allow_private=True, timeout=5) as fetcher:
        return await fetch_robots(fetcher, origin)


def moved(location: str) -> web.Response:
    return web.Response(status=301, headers={"Location": location})


async def test_robots_txt_is_read_whatever_its_type() -> None:
    answer = web.Response(body=b"\xef\xbb\xbfUser-agent: *\0\xff", content_type="application/octet-stream")
    async with site(robots=answer) as (origin, asked):
        result = await asked_of(origin)

    assert result == RobotsResult("body", "User-agent: *\ufffd")
    assert asked == ["/robots.txt"]


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xef\xbb", b"\xef"])
async def test_byte_order_mark_hides_no_rule_even_if_a_part_of_it_is_missing(mark: bytes) -> None:
    async with site(robots=web.Response(body=mark + b"User-agent: *\nDisallow: /x")) as (origin, _):
        result = await asked_of(origin)

    assert isinstance(result, RobotsResult)
    assert not Robots.of(result, AGENT).allows(SITE + "/x")


async def test_five_redirects_are_followed() -> None:
    hops = {"robots": moved("/h1"), "h1": moved("h2"), "h2": moved("/h3"), "h3": moved("/h4"), "h4": moved("/h5")}
    async with site(**hops, h5=web.Response(text="User-agent: *")) as (origin, asked):
        result = await asked_of(origin)

    assert result == RobotsResult("body", "User-agent: *")
    assert len(asked) == 6


async def test_sixth_redirect_is_not_followed() -> None:
    async with site(**{"robots": moved("/h1")} | {f"h{hop}": moved(f"/h{hop + 1}") for hop in range(1, 9)}) as (
        origin,
        asked,
    ):
        result = await asked_of(origin)

    assert result == RobotsResult("allow")
    assert len(asked) == 6


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
async def test_oversized_robots_txt_is_cut_at_a_line(newline: bytes) -> None:
    line = b"Disallow: /0123456789" + newline
    async with site(robots=web.Response(body=b"User-agent: *" + newline + line * 30_000)) as (origin, _):
        result = await asked_of(origin)

    assert isinstance(result, RobotsResult)
    assert result.body is not None
    assert 500 * 1024 - len(line) < len(result.body) <= 500 * 1024  # RFC 9309, 2.5: no less
    assert result.body.endswith(line.decode())


async def test_missing_robots_txt_allows_all() -> None:
    async with site() as (origin, _):
        assert await asked_of(origin) == RobotsResult("allow")
