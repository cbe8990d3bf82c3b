"""What is kept of single pages that scripts make, and what their browser may do."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
from browsers import CHROMIUM, browsers
from crawler.extract import extract
from crawler.fetch import Failed, Fetched, Fetcher
from crawler.politeness import Politeness
from crawler.rendering import Renderer
from crawler.visit import FetchingBrokenError
from playwright.async_api import Page
from scripted_site import PART_BYTES, ScriptedSite, scripted_site
from tallyho_postgres.pool import Pool
from watched_site import until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: `make chromium` installs it")


async def test_page_reads_no_other_private_origin_and_no_frame_reads_its_own(crawler_pool: Pool) -> None:
    agent = "Tallyho/test"
    own, private, public = map(ip_network, ("127.0.0.1", "127.0.0.2", "127.0.0.3"))
    async with scripted_site() as site, Fetcher(user_agent=agent, allowed_networks=[own, private, public]) as fetcher:
        politeness = Politeness(crawler_pool, fetcher, user_agent=agent, host_delay=0.0)
        others = Fetcher(user_agent=agent, allowed_networks=[public])
        async with Renderer(fetcher, others, politeness, chromium=CHROMIUM, seconds=60.0) as renderer:
            result = await renderer.fetch(f"{site.url}/reader")

    assert isinstance(result, Fetched)
    text = result.body.decode().partition("<main")[2].partition("</main>")[0]
    # Its own data, those of a public origin, and those that the frame reads there.
    assert (text.count("item 0"), text.count("framed-[")) == (3, 1)
    # Another private origin, also by a redirect; and for the frame, the origin of the page.
    assert (text.count("refused"), text.count("framed-refused"), text.count("secret")) == (4, 2, 0)
    assert {path for address, _, path in site.asked if address == "127.0.0.2"} <= {"/robots.txt"}


@asynccontextmanager
async def rendering(
    pool: Pool, *, max_body_bytes: int = 1_000_000, seconds: float = 60.0
) -> AsyncIterator[tuple[ScriptedSite, Renderer]]:
    """The site, and a renderer in this process that may go there."""
    agent, own = "Tallyho/test", ip_network("127.0.0.1")
    fetcher = Fetcher(user_agent=agent, allowed_networks=[own], max_body_bytes=max_body_bytes)
    async with scripted_site() as site, fetcher:
        politeness = Politeness(pool, fetcher, user_agent=agent, host_delay=0.0)
        async with Renderer(
            fetcher, Fetcher(user_agent=agent), politeness, chromium=CHROMIUM, seconds=seconds
        ) as renderer:
            yield site, renderer


async def test_page_stays_as_it_is_when_its_scripts_lead_nowhere(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool) as (site, renderer):
        results = {habit: await renderer.fetch(f"{site.url}/habit/{habit}") for habit in ("reloads", "posts", "mails")}

    for habit, result in results.items():
        assert isinstance(result, Fetched), (habit, result)
        assert '<title>Habit</title></head><body><main id="main">here</main>' in result.body.decode()


async def test_links_mean_what_they_mean_in_the_browser(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool) as (site, renderer):
        found = [await renderer.fetch(f"{site.url}/habit/{habit}") for habit in ("routes", "encoded")]
        routes, encoded = (
            extract(result.body, result.content_type, site.url).links.urls
            for result in found
            if isinstance(result, Fetched)
        )

    # By the address that a script gave the page, and in the encoding that the page had.
    assert routes == (f"{site.url}/docs/start/next",)
    assert encoded == (f"{site.url}/find?q=caf%E9",)


async def test_data_come_in_the_form_that_a_script_asks_for(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/habit/negotiates")

    assert isinstance(result, Fetched)
    assert "hereas text/csv" in result.body.decode()


async def test_page_does_without_a_script_that_never_comes(crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawler.rendering.PART_SHARE", 1 / 25)
    async with rendering(crawler_pool, seconds=25.0) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/habit/waits")

    assert isinstance(result, Fetched)
    assert "and after" in result.body.decode()


async def test_what_components_show_is_content_and_its_links_are_followed(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/habit/shadows")
        assert isinstance(result, Fetched)
        page = extract(result.body, result.content_type, f"{site.url}/")

    assert page.text == "of a component deep here"
    assert page.links.urls == (f"{site.url}/deep",)


async def test_browser_that_does_not_answer_any_more_ends_the_renderer(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.rendering.ANSWER_SECONDS", 0.5)
    others = await browsers()
    async with rendering(crawler_pool, seconds=2.0) as (site, renderer):
        frozen = await browsers() - others
        for browser in frozen:
            os.kill(int(browser), signal.SIGSTOP)
        with pytest.raises(FetchingBrokenError):
            await renderer.fetch(f"{site.url}/item/1")

    assert frozen
    assert not frozen & await browsers()


async def test_pdf_of_no_type_is_not_rendered(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/untyped")

    assert isinstance(result, Fetched)
    assert result.body.startswith(b"%PDF-")


async def test_page_that_became_too_large_stays_in_the_browser(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def content(_: Page) -> str:
        raise AssertionError("it would come through the driver, which it can end")

    monkeypatch.setattr(Page, "content", content)
    async with rendering(crawler_pool) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/habit/grows")

    assert result == Failed("too_large", 200)


async def test_browser_ends_once_another_has_taken_its_place(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.rendering.PAGES_PER_BROWSER", 2)
    others = await browsers()
    async with rendering(crawler_pool) as (site, renderer):

        async def is_alone() -> bool:
            return len(await browsers() - others) == 1

        await until(is_alone)
        for number in range(5):
            await renderer.fetch(f"{site.url}/item/{number}")
        await until(is_alone, seconds=10)


async def test_parts_that_a_page_asks_for_at_once_are_together_no_larger_than_two_pages(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool, max_body_bytes=PART_BYTES) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/glutton")

    assert isinstance(result, Fetched)
    assert 0 < result.body.partition(b"</main>")[0].count(b"got") <= 2


async def test_page_that_asks_for_very_many_parts_gets_the_first_ones(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.rendering.MAX_REQUESTS", 5)
    async with rendering(crawler_pool) as (site, renderer):
        await renderer.fetch(f"{site.url}/glutton")

    assert sum(path.startswith("/part/") for _, _, path in site.asked) == 5
