"""The pages without a mouse, and what they say to those who can't see them."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page, expect
from tallyho_contracts.documents import Document
from tallyho_contracts.jobs import Job

pytestmark = pytest.mark.asyncio(loop_scope="session")

JobFactory = Callable[..., Job]
# The text and the name of what has the focus.
FOCUSED = "() => [document.activeElement.textContent.trim(), document.activeElement.name ?? '']"


async def tab_to(page: Page, text: str) -> None:
    """Press Tab until what has the focus reads so."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if text in await page.evaluate(FOCUSED):
            return
    raise AssertionError(f"{text} is not reached")


async def test_crawl_is_started_watched_cancelled_and_left_with_the_keyboard_only(
    page: Page, gateway: Any, document: Callable[..., Document], job: JobFactory
) -> None:
    await page.goto(gateway.url)
    await expect(page.locator("#connection")).to_have_text("Live")

    await page.keyboard.press("Tab")
    await expect(page.locator("#skip")).to_be_focused()
    await tab_to(page, "seed")
    await page.keyboard.type("docs.example.com")
    await page.keyboard.press("Enter")
    await expect(page.locator("#job-name")).to_be_focused()
    await expect(page.locator("#job-name")).to_have_text("docs.example.com")

    gateway.save(9001, document(9001, 1))
    gateway.show(job(9001, 2, "running", running=1, completed=1))
    await expect(page.locator(".document a")).to_have_count(1)
    await tab_to(page, "Page 1")
    await page.keyboard.press("Enter")
    await expect(page.locator("#reader-title")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator(".document a")).to_be_focused()

    await page.locator("#job-name").focus()
    await tab_to(page, "Cancel")
    await page.keyboard.press("Enter")
    await tab_to(page, "Cancel the crawl")
    await page.keyboard.press("Enter")
    await expect(page.locator("#job-status")).to_have_text("cancelling")
    await expect(page.locator("#job-name")).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("heading", name="Crawls", level=1)).to_be_focused()


async def test_arrows_move_through_a_list_of_which_most_is_not_in_sight(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    for number in range(1, 151):
        gateway.jobs[UUID(int=number)] = job(number, 1, "completed", name=f"site {number}")
    await page.goto(gateway.url)
    await page.get_by_role("link", name="site 150", exact=True).focus()

    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_role("link", name="site 149", exact=True)).to_be_focused()
    await page.keyboard.press("End")
    await expect(page.get_by_role("link", name="site 1", exact=True)).to_be_focused()
    await expect(page.get_by_role("link", name="site 1", exact=True)).to_be_in_viewport()
    await page.keyboard.press("Home")
    await expect(page.get_by_role("link", name="site 150", exact=True)).to_be_focused()
    await page.keyboard.press("/")
    await expect(page.get_by_label("Search crawls")).to_be_focused()


async def test_focus_stays_on_its_row_when_newer_jobs_come_and_counts_change(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    gateway.show(job(1, 1, running=1))
    await page.goto(gateway.url)
    link = page.get_by_role("link", name="site-1.example", exact=True)
    await link.focus()

    for number in range(2, 80):
        gateway.show(job(number, 1, running=1))
    gateway.show(job(1, 2, running=1, completed=9))
    await expect(page.locator("#filters")).to_contain_text("All 79")

    await expect(link).to_be_focused()
    await expect(page.locator(f'[data-job="{UUID(int=1)}"] .count strong')).to_have_text("9")


async def test_statuses_are_announced_and_counts_are_not(page: Page, gateway: Any, job: JobFactory) -> None:
    gateway.show(job(1, 1, running=1))
    await page.goto(gateway.url)
    await expect(page.locator("#connection")).to_have_text("Live")
    said = page.locator("[aria-live=polite]")

    gateway.show(job(1, 2, running=1, completed=5))
    await expect(page.locator(".job .count strong")).to_have_text("5")
    await expect(said).to_have_text("")
    gateway.show(job(1, 3, "completed", completed=6))

    await expect(said).to_have_text("site-1.example is completed, 6 documents")


async def test_everything_has_a_role_and_a_name(page: Page, gateway: Any, job: JobFactory) -> None:
    gateway.show(job(1, 1, running=1, completed=3, failed=1))
    await page.goto(gateway.url)
    await expect(page.locator(".job")).to_be_visible()

    table = page.get_by_role("table", name="Crawls")
    await expect(table).to_have_attribute("aria-rowcount", "2")
    await expect(table.get_by_role("columnheader")).to_have_count(5)
    await expect(table.get_by_role("row").nth(1).get_by_role("cell")).to_have_count(5)
    unnamed = "e => !(e.labels?.length || e.textContent.trim() || e.ariaLabel || e.closest('[hidden]'))"
    for path, drawn in (("", ".job"), (f"#/jobs/{UUID(int=1)}", "#job-bar")):
        await page.goto(f"{gateway.url}/{path}")
        await expect(page.locator(drawn)).to_be_visible()
        script = f"[...document.querySelectorAll('button, input, a')].filter({unnamed}).map(e => e.id || e.outerHTML)"
        assert await page.evaluate(script) in ([], ["reader-url"])  # it has its text once a document is open


@pytest.mark.parametrize("colors", ["light", "dark"])
async def test_text_stands_out_from_its_ground(page: Page, gateway: Any, job: JobFactory, colors: Any) -> None:
    """WCAG AA: at least 4.5 to 1 for every text; 3 to 1 for large ones."""
    await page.emulate_media(color_scheme=colors, reduced_motion="reduce")
    kinds = ("pending", "running", "paused", "cancelling", "completed", "failed", "cancelled")
    for number, kind in enumerate(kinds, start=1):
        gateway.show(job(number, 1, kind, completed=3, failed=1, skipped=1, name=kind))
    await page.goto(gateway.url)
    await expect(page.locator(".job")).to_have_count(len(kinds))
    weak = await page.evaluate(WEAK_CONTRASTS)
    for number in range(1, len(kinds) + 1):
        await page.goto(f"{gateway.url}/#/jobs/{UUID(int=number)}")
        await expect(page.locator("#job-name")).to_have_text(kinds[number - 1])
        weak += await page.evaluate(WEAK_CONTRASTS)

    assert weak == []


WEAK_CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, i) => value * a + below[i] * (1 - a));
  const groundOf = (element) => {
    if (!element) return [255, 255, 255];
    const color = rgba(getComputedStyle(element).backgroundColor);
    return color[3] === 1 ? color.slice(0, 3) : over(color, groundOf(element.parentElement));
  };
  const opacityOf = (element) => (element ? getComputedStyle(element).opacity * opacityOf(element.parentElement) : 1);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const texts = [...document.querySelectorAll("body *")].filter((element) =>
    element.checkVisibility({ checkVisibilityCSS: true }) &&
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && !element.closest("svg"));
  return texts.flatMap((element) => {
    const style = getComputedStyle(element);
    const ground = groundOf(element);
    const [r, g, b, a] = rgba(style.color);
    const both = [light(over([r, g, b, a * opacityOf(element)], ground)), light(ground)];
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    return ratio < (large ? 3 : 4.5) ? [`${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`] : [];
  });
}"""
