"""What Firecrawl's crawl options mean here, and which are refused."""

from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from tallyho_contracts.crawls import CrawlOptions
from ws_gateway.firecrawl_options import CrawlRequest, refusals

CONTEXT = {"allow_private_addresses": False}


def parse(**options: Any) -> CrawlRequest:
    return CrawlRequest.model_validate({"url": "https://example.com/", **options}, context=CONTEXT)


def options_of(**options: Any) -> CrawlOptions:
    return parse(**options).to_create(UUID(int=1), None).options


def refused(**options: Any) -> list[str]:
    return [error.field for error in refusals(parse(**options))]


def test_crawl_without_options_is_that_of_firecrawl() -> None:
    assert options_of() == CrawlOptions(max_pages=10_000, match_path=True, sitemap="include")


def test_options_are_translated() -> None:
    options = options_of(
        limit=7,
        maxDiscoveryDepth=2,
        includePaths=["^/docs/"],
        excludePaths=["old"],
        regexOnFullURL=True,
        crawlEntireDomain=True,
        allowExternalLinks=True,
        allowSubdomains=True,
        sitemap="skip",
        delay=0.5,
        scrapeOptions={"formats": ["links"]},
    )

    assert options == CrawlOptions(
        max_pages=7,
        max_depth=2,
        include=("^/docs/",),
        exclude=("old",),
        outlinks=True,
        subdomains=True,
        delay=0.5,
        markdown=False,
    )


@pytest.mark.parametrize(
    ("url", "below"),
    [
        ("https://example.com", ()),
        ("https://example.com/docs/", ("/docs/",)),
        ("https://example.com/docs/intro", ("/docs/intro",)),
        ("https://example.com/docs/intro.html?x=/y", ("/docs/",)),
        ("https://example.com/index.html", ()),
        ("https://example.com/v2.0/", ("/v2.0/",)),
        ("https://example.com/ä b", ("/%C3%A4%20b",)),
    ],
)
def test_crawl_keeps_to_the_folder_of_its_url(url: str, below: tuple[str, ...]) -> None:
    assert options_of(url=url).below == below
    assert options_of(url=url, crawlEntireDomain=True).below == ()


@pytest.mark.parametrize(
    ("asked", "read"), [(None, "include"), ("include", "include"), ("skip", "skip"), ("only", "only")]
)
def test_sitemaps_are_read_unless_they_are_to_be_skipped(asked: str | None, read: str) -> None:
    assert options_of(sitemap=asked).sitemap == read


@pytest.mark.parametrize("none", [None, 0])
def test_pace_is_that_of_the_site_unless_a_delay_is_given(none: object) -> None:
    assert options_of(delay=none).delay is None


def test_url_without_a_scheme_is_completed() -> None:
    created = parse(url="example.com/docs").to_create(UUID(int=1), "key")

    assert (created.seeds, created.name, created.idempotency_key) == (
        ("http://example.com/docs",),
        "example.com/docs",
        "key",
    )


@pytest.mark.parametrize(
    "scrape_options",
    [{}, {"formats": []}, {"formats": ["markdown", "links"]}, {"formats": [{"type": "markdown"}]}],
)
def test_markdown_is_kept_unless_other_formats_are_named(scrape_options: dict[str, Any]) -> None:
    assert options_of(scrapeOptions=scrape_options).markdown


def test_options_that_say_no_or_change_no_document_are_accepted() -> None:
    off = {
        "prompt": None,
        "ignoreQueryParameters": False,
        "ignoreRobotsTxt": False,
        "zeroDataRetention": False,
    }
    ignored = {"deduplicateSimilarURLs": True, "maxConcurrency": 5, "integration": "x", "origin": "y"}
    page = {"headers": {}, "mobile": False, "waitFor": 0, "maxAge": 1000, "proxy": "auto", "onlyMainContent": True}

    assert refused(**off, **ignored, scrapeOptions=page, sitemap="only") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("prompt", "only the blog"), ("ignoreQueryParameters", True), ("ignoreRobotsTxt", True)),
        *(("webhook", {"url": "https://example.com"}), ("zeroDataRetention", True)),
        *(("robotsUserAgent", "Bot"), ("maxDepth", 3)),
    ],
)
def test_option_that_would_change_the_documents_is_refused(name: str, value: object) -> None:
    assert refused(**{name: value}) == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("formats", ["markdown", "html"]), ("formats", [{"type": "json"}]), ("onlyMainContent", False)),
        *(("headers", {"Cookie": "a"}), ("waitFor", 500), ("actions", [{"type": "wait"}]), ("includeTags", ["p"])),
        *(("lockdown", True), ("redactPII", True), ("unheard", 1)),
    ],
)
def test_page_option_that_would_change_the_documents_is_refused(name: str, value: object) -> None:
    assert refused(scrapeOptions={name: value}) == [f"scrapeOptions.{name}"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": ""}, "url"),
        ({"url": "http://127.0.0.1/"}, "url"),
        ({"limit": 0}, "limit"),
        ({"includePaths": ["["]}, "includePaths"),
        ({"includePaths": ["a"] * 101}, "includePaths"),
        ({"sitemap": "all"}, "sitemap"),
        *(({"delay": wrong}, "delay") for wrong in (-1, 3601, "nan")),
    ],
)
def test_value_that_can_not_be_used_is_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as error:
        parse(**options)

    assert error.value.errors()[0]["loc"][0] == field
