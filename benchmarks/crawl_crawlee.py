"""Crawlee, on its own: `python crawl_crawlee.py URL` says "ready", crawls when it is told to, and says what it got.

It runs in an environment of its own, which knows nothing of this project: a ParselCrawler with its requests in memory,
a fixed concurrency instead of its slow rise to it, no statistics, no session pool. It stores nothing.
"""

import asyncio
import json
import logging
import sys

from crawlee import ConcurrencySettings  # type: ignore[import-not-found]  # it is not in our environment
from crawlee.crawlers import (  # type: ignore[import-not-found]  # it is not in our environment
    ParselCrawler,
    ParselCrawlingContext,
)
from crawlee.storage_clients import MemoryStorageClient  # type: ignore[import-not-found]  # it is not in our environment

CONCURRENCY = 32


async def crawl(url: str) -> dict[str, int]:
    """Crawl the site, and return how much of it there was."""
    got = {"pages": 0, "characters": 0}
    crawler = ParselCrawler(
        concurrency_settings=ConcurrencySettings(
            min_concurrency=CONCURRENCY, desired_concurrency=CONCURRENCY, max_concurrency=CONCURRENCY
        ),
        storage_client=MemoryStorageClient(),
        use_session_pool=False,
        configure_logging=False,
        statistics_log_format="inline",
    )

    async def visit(context: ParselCrawlingContext) -> None:
        page = context.selector
        title = page.css("title::text").get("")
        text = " ".join(" ".join(page.xpath("//body//text()").getall()).split())
        got["pages"] += 1
        got["characters"] += len(title) + len(text)
        await context.enqueue_links()

    crawler.router.default_handler(visit)
    await crawler.run([url])
    return got


def main(url: str) -> None:
    """Wait for a line, crawl, and tell."""
    logging.disable(logging.CRITICAL)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(crawl(url))), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
