"""A real crawl by the whole system, seen in a real browser, with the gateway killed on the way."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.async_api import Page, expect
from sites import made_up_site
from tallyho.system import System, SystemOptions, running_system
from tallyho_backing_services import BackingServices

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCREENSHOTS = Path(__file__).parent / "screenshots"
PAGES = 250
# Notes every number that the page ever shows.
NOTE_COUNTS = """() => {
  window.counts = [];
  const note = () => window.counts.push(...[...document.querySelectorAll(".count")].map((count) => count.textContent));
  new MutationObserver(note).observe(document.getElementById("jobs"), { childList: true, subtree: true });
}"""


@pytest.fixture
def system(backing: BackingServices) -> Iterator[System]:
    options = SystemOptions(crawlers=2, allow_private_addresses=True)
    with running_system(options, supervised=True, backing=backing) as system:
        yield system


async def test_count_rises_to_the_exact_number_though_the_gateway_is_killed(system: System, page: Page) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    await page.goto(system.url)
    await expect(page.locator("#connection")).to_have_text("Live")
    await page.evaluate(NOTE_COUNTS)

    with made_up_site(PAGES, latency=0.2) as site:
        await page.get_by_label("Crawl a site").fill(site)
        await page.get_by_role("button", name="Start crawl").click()
        await expect(page.locator(".job .count")).to_have_text(re.compile(r"[5-9]\d|\d{3}"), timeout=60_000)
        await page.screenshot(path=SCREENSHOTS / "running.png")
        system.services["ws-gateway-1"].kill()
        await expect(page.locator("#connection")).to_contain_text("Offline")
        await expect(page.locator(".job .status")).to_have_text("completed", timeout=120_000)
        await page.screenshot(path=SCREENSHOTS / "completed.png")

    counts = [int(text) for text in await page.evaluate("window.counts")]
    assert counts[-1] == PAGES
    assert all(before <= after for before, after in pairwise(counts))
    assert len(set(counts)) > 10
