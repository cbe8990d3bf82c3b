"""A gateway that wants a key: the page asks for it, keeps it in its tab, and connects with tickets."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
from tallyho_contracts.jobs import Job
from ws_gateway.app import Options
from ws_gateway.keys import Key, KeyRing, Scope

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCREENSHOTS = Path(__file__).parent / "screenshots"
SECRET = "made-up-secret"


async def locked(gateway: Any, *scopes: Scope) -> None:
    """Start the gateway anew, with a key that may do so much."""
    await gateway.stop()
    key = Key(name="page", scopes=frozenset(scopes), digest=sha256(SECRET.encode()).digest())
    gateway.options = Options(keys=KeyRing([key]))
    await gateway.start()


async def enter(page: Page, key: str) -> None:
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()


async def test_page_asks_for_a_key_keeps_it_in_its_tab_and_reconnects_with_it(
    page: Page, gateway: Any, job: Callable[..., Job]
) -> None:
    await locked(gateway, Scope.READ, Scope.WRITE)
    gateway.show(job(1, 1, running=1, completed=7))
    SCREENSHOTS.mkdir(exist_ok=True)

    await page.goto(gateway.url)
    await expect(page.get_by_label("API key")).to_be_focused()
    await page.screenshot(path=SCREENSHOTS / "sign-in.png")
    await page.keyboard.press("Escape")
    await enter(page, "another")
    await expect(page.locator("#sign-in-problem")).to_contain_text("not valid")
    await enter(page, SECRET)
    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator(".job .count strong")).to_have_text("7")

    gateway.cut()
    gateway.show(job(1, 2, running=1, completed=8))
    await gateway.found_again()
    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator(".job .count strong")).to_have_text("8")
    await page.reload()
    await expect(page.locator(".job .count strong")).to_have_text("8")
    assert await page.evaluate("localStorage.length + document.cookie.length") == 0

    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("API key")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0
    await expect(page.locator(".job")).to_have_count(0)


async def test_key_that_may_only_read_is_told_so_when_it_wants_more(
    page: Page, gateway: Any, job: Callable[..., Job]
) -> None:
    await locked(gateway, Scope.READ)
    gateway.show(job(1, 1, running=1))
    await page.goto(gateway.url)
    await enter(page, SECRET)
    await page.get_by_role("link", name="site-1.example").click()

    await page.get_by_role("button", name="Pause").click()

    await expect(page.locator("#action-problem")).to_have_text("The crawl could not be changed: The key may not write.")
    await expect(page.locator("#sign-in")).to_be_hidden()
