"""A real crawl by the whole system, seen in a real browser that loses its connection and the gateway under it."""

import os
import re
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from links import open_link
from playwright.async_api import Page, expect
from sites import made_up_site
from tallyho.documentation_site import serve_folder, write_documentation_site
from tallyho.system import System, SystemOptions, running_system
from tallyho_backing_services import BackingServices

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCREENSHOTS = Path(__file__).parent / "screenshots"
PICTURE = Path(__file__).parents[2] / "docs" / "dashboard.png"
PAGES = 400
# Notes every number that the page ever shows.
NOTE_COUNTS = """() => {
  window.counts = [];
  const note = () => window.counts.push(document.getElementById("job-count").textContent);
  new MutationObserver(note).observe(document.getElementById("job-count"), { childList: true });
}"""


@pytest.fixture
def system(backing: BackingServices) -> Iterator[System]:
    options = SystemOptions(crawlers=2, allow_private_addresses=True)
    with running_system(options, supervised=True, backing=backing) as system:
        yield system


async def test_count_rises_to_the_exact_number_though_connection_and_gateway_are_lost(
    system: System, page: Page
) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    count, status, connection = (page.locator(f"#{name}") for name in ("job-count", "job-status", "connection"))
    may_end = threading.Event()
    async with open_link(system.url) as link:
        await page.goto(link.url)
        await expect(connection).to_have_text("Live")
        with made_up_site(PAGES, latency=0.2, may_end=may_end) as site:
            await page.get_by_label("Crawl a site").fill(site)
            await page.get_by_role("button", name="Start crawl").click()
            await expect(status).to_have_text("running")
            await page.evaluate(NOTE_COUNTS)
            await expect(count).to_have_text(re.compile(r"[3-9]\d|\d{3}"), timeout=60_000)

            link.cut()
            await expect(connection).to_have_text("Offline")
            await page.screenshot(path=SCREENSHOTS / "real-disconnected.png")
            before = await count.inner_text()
            await link.mend()
            await expect(connection).to_have_text("Live")
            await expect(count).not_to_have_text(before)
            await page.screenshot(path=SCREENSHOTS / "real-running.png", full_page=True)

            assert await status.inner_text() == "Running"
            system.services["ws-gateway-1"].kill()
            await expect(connection).not_to_have_text("Live")
            may_end.set()
            await expect(status).to_have_text("completed", timeout=120_000)

        await expect(connection).to_have_text("Live")
        await expect(page.locator("#documents-count")).to_have_text(str(PAGES))
        await expect(page.locator("#documents")).to_have_css("height", f"{PAGES * 58}px")
        await page.screenshot(path=SCREENSHOTS / "real-completed.png", full_page=True)
        counts = [int(text) for text in await page.evaluate("window.counts")]
        assert counts[-1] == PAGES
        assert all(before <= after for before, after in pairwise(counts))
        assert len(set(counts)) > 3  # a busy machine shows fewer

        await page.locator(".document a").first.click()
        await expect(page.locator("#reader-text")).to_contain_text("Page")


@pytest.mark.skipif("TALLYHO_PICTURE" not in os.environ, reason="TALLYHO_PICTURE=1 takes docs/dashboard.png anew")
async def test_picture_of_a_real_run(backing: BackingServices, page: Page, tmp_path: Path) -> None:
    write_documentation_site(tmp_path)
    slowly = {"CRAWLER_HOST_CONCURRENCY": "1", "CRAWLER_HOST_DELAY": "0.01"}
    options = SystemOptions(allow_private_addresses=True, settings=slowly)
    with serve_folder(tmp_path) as site, running_system(options, backing=backing) as system:
        await page.goto(system.url)
        await page.locator("summary").click()
        await page.get_by_label("Crawl a site").fill(site)
        await page.locator("input[name=name]").fill("Python standard library")
        await page.get_by_role("button", name="Start crawl").click()
        await page.mouse.move(0, 0)
        await expect(page.locator("#job-count")).to_have_text(re.compile(r"[6-9]\d\d"), timeout=120_000)

        await page.screenshot(path=PICTURE)
