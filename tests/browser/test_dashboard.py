"""The page in a real browser: its numbers follow the states."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Locator, Page, expect
from tallyho_contracts.jobs import Job

# One browser serves all tests, so they share its loop.
pytestmark = pytest.mark.asyncio(loop_scope="session")

JobFactory = Callable[..., Job]


def row(page: Page, number: int) -> Locator:
    return page.locator(f'[data-job="{UUID(int=number)}"]')


def count(page: Page, number: int) -> Locator:
    return row(page, number).locator(".count")


async def opened(page: Page, gateway: Any) -> None:
    await page.goto(gateway.url)
    await expect(page.locator("#connection")).to_have_text("Live")


async def test_count_follows_the_states_from_zero_to_the_end(page: Page, gateway: Any, job: JobFactory) -> None:
    await opened(page, gateway)

    gateway.show(job(1, 1, "running", running=1))
    await expect(count(page, 1)).to_have_text("0")
    gateway.show(job(1, 2, "running", running=3, completed=1234))
    await expect(count(page, 1)).to_have_text("1,234")
    gateway.show(job(1, 3, "completed", completed=1240, failed=2))

    await expect(count(page, 1)).to_have_text("1,240")
    await expect(row(page, 1).locator(".status")).to_have_text("completed")
    await expect(row(page, 1).locator(".cancel")).to_be_hidden()


async def test_silent_job_says_so_until_it_changes(page: Page, gateway: Any, job: JobFactory) -> None:
    await opened(page, gateway)
    running = job(1, 1, running=1, pending=2)
    notice = row(page, 1).locator(".silence")

    gateway.show(running)
    await expect(count(page, 1)).to_have_text("0")
    await expect(notice).to_be_hidden()
    gateway.show(running.model_copy(update={"revision": 2, "stalled_since": running.timestamp}))
    await expect(notice).to_contain_text("waiting for 3 pages")
    gateway.show(job(1, 3, running=1, pending=1, completed=1))

    await expect(notice).to_be_hidden()


async def test_older_revision_never_moves_the_count_back(page: Page, gateway: Any, job: JobFactory) -> None:
    await opened(page, gateway)
    gateway.show(job(1, 5, completed=50))
    await expect(count(page, 1)).to_have_text("50")

    gateway.hub.offer(job(1, 4, completed=40))  # the gateway drops it
    await gateway.say_again(job(1, 3, completed=30))  # one that reaches the page all the same
    gateway.show(job(2, 1))
    await expect(row(page, 2)).to_be_visible()

    await expect(count(page, 1)).to_have_text("50")


async def test_jobs_that_are_there_already_are_listed_the_newest_first(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    for number, status in ((1, "completed"), (2, "running"), (3, "failed")):
        gateway.show(job(number, 1, status, completed=number))

    await opened(page, gateway)

    await expect(page.locator(".job h3")).to_have_text(["site-3.example", "site-2.example", "site-1.example"])
    await expect(page.locator("#summary")).to_have_text("1 live, 2 ended")


async def test_page_comes_back_after_the_gateway_restarted_with_nothing_stale(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    gateway.show(job(1, 5, completed=50))
    await opened(page, gateway)
    await expect(count(page, 1)).to_have_text("50")

    await gateway.stop()
    await expect(page.locator("#connection")).to_contain_text("Offline")
    await expect(count(page, 1)).to_have_text("50")
    gateway.jobs[UUID(int=1)] = job(1, 9, "completed", completed=90)  # nobody was told
    await gateway.start()

    await expect(page.locator("#connection")).to_have_text("Live", timeout=20_000)
    await expect(count(page, 1)).to_have_text("90")
    await expect(row(page, 1).locator(".status")).to_have_text("completed")


async def test_form_starts_a_crawl_that_appears(page: Page, gateway: Any) -> None:
    await opened(page, gateway)

    await page.get_by_label("Crawl a site").fill("docs.example.com/guide/")
    await page.get_by_text("Options").click()
    await page.get_by_label("At most").fill("25")
    await page.get_by_label("Exclude").fill(r"\.pdf$")
    await page.get_by_role("button", name="Start crawl").click()

    await expect(page.locator(".job h3")).to_have_text("docs.example.com/guide")
    [create] = gateway.created
    assert create.seeds == ("https://docs.example.com/guide/",)
    assert create.options.max_pages == 25
    assert create.options.exclude == (r"\.pdf$",)


@pytest.mark.parametrize(
    ("label", "value", "problem"),
    [
        ("Crawl a site", "ftp://example.com/", "The address: must be an http or https URL"),
        ("Crawl a site", "http://127.0.0.1/", "The address: 127.0.0.1 is not a public address"),
        ("Include", "(a", "Include: is no RE2 pattern"),
    ],
)
async def test_refusal_is_shown_at_its_field(page: Page, gateway: Any, label: str, value: str, problem: str) -> None:
    await opened(page, gateway)

    await page.get_by_label("Crawl a site").fill("https://example.com/")
    await page.get_by_text("Options").click()
    await page.get_by_label(label).fill(value)
    await page.get_by_role("button", name="Start crawl").click()

    await expect(page.locator("#start-error")).to_contain_text(problem)
    await expect(page.get_by_label(label)).to_be_focused()


async def test_second_click_cancels_a_crawl(page: Page, gateway: Any, job: JobFactory) -> None:
    gateway.show(job(1, 1, running=1))
    await opened(page, gateway)
    button = row(page, 1).get_by_role("button")

    await button.click()
    await expect(row(page, 1).locator(".status")).to_have_text("running")
    await button.click()

    await expect(row(page, 1).locator(".status")).to_have_text("cancelling")


async def test_name_of_a_job_is_text_whatever_it_contains(page: Page, gateway: Any, job: JobFactory) -> None:
    name = "<img src=x onerror=document.title='owned'>"
    gateway.show(job(1, 1, name=name))

    await opened(page, gateway)

    await expect(page.locator(".job h3")).to_have_text(name)
    assert await page.title() == "Tallyho"


async def test_empty_list_says_what_to_do(page: Page, gateway: Any) -> None:
    await opened(page, gateway)

    await expect(page.locator("#empty")).to_be_visible()
