"""Scrapy, on its own: `python crawl_scrapy.py WAY URL` says "ready", crawls when it is told to, and says what it got.

It runs in an environment of its own, which knows nothing of this project. The ways: `tutorial` is a CrawlSpider with
the settings of a new project, without the delay that these have; `tuned` is the same with what the manual says about
fast crawls; `settings` is a plain spider with all settings that make it faster: uvloop, and no middleware or extension
that this crawl can do without; `best` is everything that was found: besides, lxml instead of parsel, a set of URLs
instead of the filter of duplicates and its fingerprints, no middleware at all. None stores anything.
"""

import json
import sys
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

import lxml.html  # type: ignore[import-untyped]  # it is not in our environment
import scrapy  # type: ignore[import-not-found]  # it is not in our environment
from scrapy.crawler import CrawlerProcess  # type: ignore[import-not-found]  # it is not in our environment
from scrapy.linkextractors import LinkExtractor  # type: ignore[import-not-found]  # it is not in our environment
from scrapy.spiders import CrawlSpider, Rule  # type: ignore[import-not-found]  # it is not in our environment

ASYNCIO = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"
TUTORIAL = {
    "LOG_LEVEL": "ERROR",
    "ROBOTSTXT_OBEY": True,
    "DOWNLOAD_DELAY": 0,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 8,
    "TELNETCONSOLE_ENABLED": False,
    "TWISTED_REACTOR": ASYNCIO,
}
TUNED = TUTORIAL | {
    "CONCURRENT_REQUESTS": 64,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 64,
    "COOKIES_ENABLED": False,
    "RETRY_ENABLED": False,
    "REDIRECT_ENABLED": False,
    "ROBOTSTXT_OBEY": False,
    "LOG_ENABLED": False,
}
SETTINGS = TUNED | {
    "ASYNCIO_EVENT_LOOP": "uvloop.Loop",
    "DOWNLOADER_MIDDLEWARES_BASE": {"scrapy.downloadermiddlewares.offsite.OffsiteMiddleware": 50},
    "SPIDER_MIDDLEWARES_BASE": {"scrapy.spidermiddlewares.httperror.HttpErrorMiddleware": 50},
    "EXTENSIONS_BASE": {},
    "DOWNLOADER_STATS": False,
    "SCHEDULER_MEMORY_QUEUE": "scrapy.squeues.FifoMemoryQueue",
}
BEST = SETTINGS | {
    "DUPEFILTER_CLASS": "scrapy.dupefilters.BaseDupeFilter",
    "DOWNLOADER_MIDDLEWARES_BASE": {},
    "SPIDER_MIDDLEWARES_BASE": {},
}

got = {"pages": 0, "characters": 0, "links": 0}


class Linked(CrawlSpider):  # type: ignore[misc]  # its class is unknown here
    """As the tutorial has it."""

    name = "linked"
    rules = (Rule(LinkExtractor(), callback="parse_page", follow=True),)

    def __init__(self, url: str) -> None:
        super().__init__()
        self.start_urls = [url]
        self.allowed_domains = ["127.0.0.1"]

    def parse_start_url(self, response: Any, **_: object) -> None:
        """The first page is one like all others."""
        self.parse_page(response)

    def parse_page(self, response: Any) -> None:
        """Title and text; the rule has followed the links."""
        title = response.css("title::text").get("")
        text = " ".join(" ".join(response.xpath("//body//text()").getall()).split())
        got["pages"] += 1
        got["characters"] += len(title) + len(text)


class Followed(scrapy.Spider):  # type: ignore[misc]  # its class is unknown here
    """A spider of one's own, by Scrapy's means."""

    name = "followed"

    def __init__(self, url: str) -> None:
        super().__init__()
        self.start_urls = [url]
        self.allowed_domains = ["127.0.0.1"]

    def parse(self, response: Any, **_: object) -> Iterator[Any]:
        """Title, text and links."""
        title = response.css("title::text").get("")
        text = " ".join(" ".join(response.xpath("//body//text()").getall()).split())
        got["pages"] += 1
        got["characters"] += len(title) + len(text)
        hrefs = {href.partition("#")[0] for href in response.css("a::attr(href)").getall()}
        yield from response.follow_all((href for href in hrefs if not href.startswith("mailto:")), self.parse)


class Direct(scrapy.Spider):  # type: ignore[misc]  # its class is unknown here
    """As little of Scrapy as can be."""

    name = "direct"

    def __init__(self, url: str) -> None:
        super().__init__()
        self.start_urls = [url]
        self.site = url
        self.seen = {url}

    def parse(self, response: Any, **_: object) -> Iterator[Any]:
        """Title, text, and each link once."""
        if response.status != HTTPStatus.OK:
            return
        page = lxml.html.fromstring(response.body, base_url=response.url)
        title = page.findtext(".//title") or ""
        body = page.find("body")
        text = " ".join(" ".join((page if body is None else body).itertext()).split())
        got["pages"] += 1
        got["characters"] += len(title) + len(text)
        hrefs = {link.get("href", "").partition("#")[0] for link in page.iter("a")}
        for href in hrefs:
            url = urljoin(response.url, href)
            if url not in self.seen and url.startswith(self.site):
                self.seen.add(url)
                got["links"] += 1
                yield scrapy.Request(url, self.parse, dont_filter=True)


WAYS = {
    "tutorial": (Linked, TUTORIAL),
    "tuned": (Linked, TUNED),
    "settings": (Followed, SETTINGS),
    "best": (Direct, BEST),
}


def main(way: str, url: str) -> None:
    """Wait for a line, crawl, and tell."""
    spider, settings = WAYS[way]
    process = CrawlerProcess(settings)
    print("ready", flush=True)
    sys.stdin.readline()
    process.crawl(spider, url)
    process.start()
    print(json.dumps(got), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
