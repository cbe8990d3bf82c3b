"""The unmodified firecrawl-py package against the running system, as its documentation says to use it."""

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from firecrawl import AsyncFirecrawl, Firecrawl  # type: ignore[import-untyped]  # it ships no types
from firecrawl.v2.types import PaginationConfig, ScrapeOptions  # type: ignore[import-untyped]
from firecrawl.v2.utils.error_handler import BadRequestError, FirecrawlError  # type: ignore[import-untyped]
from firecrawl.v2.watcher_async import AsyncWatcher  # type: ignore[import-untyped]
from sites import endless_site, made_up_site
from tallyho.system import System

PATIENCE = 60
POLL = 0.2


@pytest.fixture
def client(system: System) -> Any:
    return Firecrawl(api_key="fc-any-key", api_url=system.url)


def pages_of(site: str, number: int) -> list[str]:
    """The addresses of the documents of a made-up site, in alphabetical order."""
    return sorted([site, *(f"{site}{page}.html" for page in range(1, number))])


def urls_of(documents: Sequence[Any]) -> list[str]:
    return sorted(document.metadata.source_url for document in documents)


def until(client: Any, crawl_id: str, *, completed: int) -> Any:
    """The status of a crawl that has so many documents."""
    deadline = time.monotonic() + PATIENCE
    while (job := client.get_crawl_status(crawl_id)).completed < completed:
        assert job.status == "scraping"
        assert time.monotonic() < deadline
    return job


def test_crawl_returns_exactly_the_documents_of_the_site(client: Any) -> None:
    with made_up_site(150) as site:
        job = client.crawl(site, limit=500, poll_interval=POLL, timeout=PATIENCE)

    assert (job.status, job.completed, job.total, job.credits_used) == ("completed", 150, 150, 150)
    assert job.next is None
    assert urls_of(job.data) == pages_of(site, 150)
    by_url = {document.metadata.source_url: document for document in job.data}
    seventh = by_url[f"{site}7.html"]
    assert seventh.markdown.startswith("# Page 7\n")
    assert seventh.metadata.title == "Page 7"
    assert seventh.metadata.status_code == 200
    assert f"{site}15.html" in seventh.links


def test_limit_and_depth_are_kept(client: Any) -> None:
    with made_up_site(100) as site:
        limited = client.crawl(site, limit=12, poll_interval=POLL, timeout=PATIENCE)
        shallow = client.crawl(site, max_discovery_depth=2, poll_interval=POLL, timeout=PATIENCE)

    assert (limited.status, limited.completed, len(limited.data)) == ("completed", 12, 12)
    assert urls_of(shallow.data) == pages_of(site, 7)


def test_paths_choose_the_documents(client: Any) -> None:
    with made_up_site(40) as site:
        included = client.crawl(site, include_paths=["^/[1-5][.]html$"], poll_interval=POLL, timeout=PATIENCE)
        excluded = client.crawl(site, exclude_paths=["[1-3][0-9]"], poll_interval=POLL, timeout=PATIENCE)
        full = client.crawl(
            site,
            include_paths=["^http://127.*/[12][.]html"],
            regex_on_full_url=True,
            poll_interval=POLL,
            timeout=PATIENCE,
        )

    assert urls_of(included.data) == pages_of(site, 6)
    assert urls_of(excluded.data) == pages_of(site, 10)
    assert urls_of(full.data) == pages_of(site, 3)


def test_crawl_of_a_folder_stays_in_it_unless_told_otherwise(client: Any) -> None:
    with made_up_site(20) as site:
        inside = client.crawl(f"{site}old/0.html", poll_interval=POLL, timeout=PATIENCE)
        everywhere = client.crawl(f"{site}old/0.html", crawl_entire_domain=True, poll_interval=POLL, timeout=PATIENCE)

    # The seed redirects out of its folder: that is meant, but what is linked from there, or redirected to, is not.
    assert urls_of(inside.data) == [f"{site}0.html"]
    assert urls_of(everywhere.data) == sorted([f"{site}0.html", *pages_of(site, 20)])


def test_job_that_was_just_started_is_not_completed(client: Any) -> None:
    with made_up_site(1) as site:
        for _ in range(20):
            started = client.start_crawl(site)
            first = client.get_crawl_status(started.id)

            assert first.status == "scraping" or (first.completed, first.total) == (1, 1)
            assert started.url == f"{client._v2_client.http_client.api_url}/v2/crawl/{started.id}"
        last = until(client, started.id, completed=1)

    assert last.completed == 1


def test_status_can_be_read_page_by_page(client: Any) -> None:
    with made_up_site(250) as site:
        crawl_id = client.crawl(site, poll_interval=POLL, timeout=PATIENCE).id
    pages = [client.get_crawl_status(crawl_id, pagination_config=PaginationConfig(auto_paginate=False))]
    while pages[-1].next:
        pages.append(client.get_crawl_status_page(pages[-1].next))
    some = client.get_crawl_status(crawl_id, pagination_config=PaginationConfig(max_results=120))

    assert [len(page.data) for page in pages] == [100, 100, 50]
    assert urls_of([document for page in pages for document in page.data]) == pages_of(site, 250)
    assert len(some.data) == 120


def test_status_of_a_running_crawl_holds_what_it_counts(client: Any) -> None:
    with endless_site(400, latency=0.1) as site:
        crawl_id = client.start_crawl(site).id
        running = until(client, crawl_id, completed=110)
        page = client.get_crawl_status(crawl_id, pagination_config=PaginationConfig(auto_paginate=False))
        assert client.cancel_crawl(crawl_id)

    assert running.status == "scraping"
    assert len(running.data) >= running.completed
    assert running.total > running.completed
    assert len(set(urls_of(running.data))) == len(running.data)
    assert page.next


def test_cancelled_crawl_is_final_at_once(client: Any) -> None:
    with endless_site(400, latency=0.1) as site:
        crawl_id = client.start_crawl(site).id
        until(client, crawl_id, completed=20)
        active = [crawl.id for crawl in client.get_active_crawls().crawls]
        cancelled = client.cancel_crawl(crawl_id)
        job = client.get_crawl_status(crawl_id)
        again = client.cancel_crawl(crawl_id)

    assert crawl_id in active
    assert cancelled
    assert again
    assert job.status == "cancelled"
    assert 20 <= job.completed == len(job.data) < 400
    assert crawl_id not in [crawl.id for crawl in client.get_active_crawls().crawls]
    assert client.get_crawl_status(crawl_id).completed == job.completed


def test_completed_crawl_can_not_be_cancelled(client: Any) -> None:
    with made_up_site(1) as site:
        crawl_id = client.crawl(site, poll_interval=POLL, timeout=PATIENCE).id

    assert client.cancel_crawl(crawl_id) is False


def test_errors_name_the_pages_that_failed(client: Any) -> None:
    with made_up_site(31) as site:
        crawl_id = client.crawl(site, poll_interval=POLL, timeout=PATIENCE).id
        found = client.get_crawl_errors(crawl_id)

    assert sorted(error.url for error in found.errors) == [f"{site}missing-{page}.html" for page in (0, 10, 20, 30)]
    assert {(error.code, error.error) for error in found.errors} == {("HTTP_404", "The site answered 404.")}
    assert found.robots_blocked == []


def test_crawl_that_saves_nothing_fails(client: Any) -> None:
    with made_up_site(1) as site:
        job = client.crawl(f"{site}nowhere.html", poll_interval=POLL, timeout=PATIENCE)

    assert (job.status, job.completed, job.data) == ("failed", 0, [])


def test_what_is_not_supported_is_refused_with_a_reason(client: Any) -> None:
    with pytest.raises(BadRequestError, match=r"scrapeOptions\.formats: is not supported: screenshot is not kept"):
        client.start_crawl("https://example.com", scrape_options=ScrapeOptions(formats=["markdown", "screenshot"]))
    with pytest.raises(BadRequestError, match=r"includePaths\[0\]: is no RE2 pattern"):
        client.start_crawl("https://example.com", include_paths=["(?=x)"])
    with pytest.raises(FirecrawlError, match="there is no job") as unknown:
        client.get_crawl_status("6f1d8a52-3c0e-4b7a-9a57-2d4e9f0b8c11")

    assert unknown.value.status_code == 404


def watched(client: Any, crawl_id: str) -> dict[str, list[Any]]:
    """All events that the package's watcher dispatches until the crawl is over."""
    watcher = client.watcher(crawl_id, kind="crawl", poll_interval=30, timeout=PATIENCE)
    events: dict[str, list[Any]] = {"document": [], "done": [], "error": [], "snapshot": []}
    over = threading.Event()

    def listen(snapshot: Any) -> None:
        events["snapshot"].append(snapshot)
        if snapshot.status != "scraping":
            over.set()

    for name in ("document", "done", "error"):
        watcher.add_event_listener(name, events[name].append)
    watcher.add_listener(listen)
    watcher.start()
    assert over.wait(PATIENCE)
    watcher.stop()
    return events


def test_watcher_sees_each_document_once(client: Any) -> None:
    with made_up_site(300, latency=0.02) as site:
        crawl_id = client.start_crawl(site).id
        until(client, crawl_id, completed=10)
        events = watched(client, crawl_id)

    urls = [event["data"]["metadata"]["sourceURL"] for event in events["document"]]
    assert sorted(urls) == pages_of(site, 300)
    assert [done["status"] for done in events["done"]] == ["completed"]
    assert len(events["done"][0]["data"]) == 300
    last = events["snapshot"][-1]
    assert (last.status, last.completed, last.total, len(last.data)) == ("completed", 300, 300, 300)
    assert events["error"] == []


def test_watcher_of_a_finished_crawl_sees_all_of_it(client: Any) -> None:
    with made_up_site(250) as site:
        crawl_id = client.crawl(site, poll_interval=POLL, timeout=PATIENCE).id
    events = watched(client, crawl_id)

    assert sorted(event["data"]["metadata"]["sourceURL"] for event in events["document"]) == pages_of(site, 250)
    assert events["snapshot"][-1].completed == 250


def test_watcher_hears_that_a_crawl_was_cancelled_or_failed(client: Any) -> None:
    with endless_site(400, latency=0.1) as site:
        cancelled = client.start_crawl(site).id
        threading.Timer(1.0, client.cancel_crawl, [cancelled]).start()
        events = watched(client, cancelled)
        failed = client.start_crawl(f"{site}nowhere.html").id
        failing = watched(client, failed)

    last = events["snapshot"][-1]
    assert last.status == "cancelled"
    assert last.completed == len(events["document"]) < 400
    assert events["done"] == []
    assert failing["snapshot"][-1].status == "failed"
    assert len(failing["error"]) == 1


async def test_async_client_crawls_and_watches(system: System) -> None:
    client = AsyncFirecrawl(api_key="fc-any-key", api_url=system.url)
    with made_up_site(120, latency=0.02) as site:
        job = await client.crawl(url=site, poll_interval=POLL, timeout=PATIENCE)
        crawl_id = (await client.start_crawl(url=site)).id
        async with asyncio.timeout(PATIENCE):
            snapshots = [one async for one in AsyncWatcher(client._v2_client, crawl_id, poll_interval=30)]
    await client._v2_client.async_http_client.close()

    assert (job.status, job.completed, urls_of(job.data)) == ("completed", 120, pages_of(site, 120))
    assert urls_of(snapshots[-1].data) == pages_of(site, 120)
    assert (snapshots[-1].status, snapshots[-1].completed) == ("completed", 120)


def test_snippet_of_the_documentation_runs(system: System) -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "firecrawl.md").read_text()
    [snippet] = re.findall(r"```python\n(.*?)```", documentation, re.DOTALL)
    with made_up_site(20) as site:
        program = snippet.replace("http://localhost:8080", system.url).replace("https://example.com/docs/", site)
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=True
        )

    assert sorted(line.split()[0] for line in ran.stdout.splitlines()) == pages_of(site, 20)
