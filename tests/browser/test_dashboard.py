"""The list of jobs in a real browser: its numbers follow the states."""

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
    return row(page, number).locator(".count strong")


def status(page: Page, number: int) -> Locator:
    return row(page, number).locator(".status")


def names(page: Page) -> Locator:
    return page.locator(".job .what a")


async def opened(page: Page, gateway: Any, path: str = "") -> None:
    await page.goto(f"{gateway.url}/{path}")
    await expect(page.locator("#connection")).to_have_text("Live")


async def test_count_follows_the_states_from_zero_to_the_end(page: Page, gateway: Any, job: JobFactory) -> None:
    await opened(page, gateway)

    gateway.show(job(1, 1, "running", running=1))
    await expect(count(page, 1)).to_have_text("0")
    gateway.show(job(1, 2, "running", running=3, completed=1234))
    await expect(count(page, 1)).to_have_text("1,234")
    await expect(row(page, 1).locator(".progress span")).to_have_text("1,234 of 1,237 pages")
    gateway.show(job(1, 3, "completed", completed=1240, failed=2))

    await expect(count(page, 1)).to_have_text("1,240")
    await expect(status(page, 1)).to_have_text("completed")
    await expect(row(page, 1).locator(".progress span")).to_have_text("1,242 pages · 2 failed")
    await expect(row(page, 1).get_by_role("img")).to_have_attribute("aria-label", "1240 completed, 2 failed")


async def test_silent_job_says_so_until_it_changes(page: Page, gateway: Any, job: JobFactory) -> None:
    await opened(page, gateway)
    running = job(1, 1, running=1, pending=2)

    gateway.show(running)
    await expect(status(page, 1)).to_have_text("running")
    gateway.show(running.model_copy(update={"revision": 2, "stalled_since": running.timestamp}))
    await expect(status(page, 1)).to_have_text("stalled")
    await expect(row(page, 1).locator(".note")).to_contain_text("No change since")
    gateway.show(job(1, 3, running=1, pending=1, completed=1))

    await expect(status(page, 1)).to_have_text("running")


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
    for number, name in ((1, "completed"), (2, "running"), (3, "failed")):
        gateway.show(job(number, 1, name, completed=number))

    await opened(page, gateway)

    await expect(names(page)).to_have_text(["site-3.example", "site-2.example", "site-1.example"])
    await expect(page.locator("#summary")).to_contain_text("1 live")
    await expect(page.locator("#filters")).to_contain_text("All 3 Live 1 Completed 1 Failed 1 Cancelled 0")


async def test_page_comes_back_after_the_gateway_restarted_with_nothing_stale(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    gateway.show(job(1, 5, completed=50))
    await opened(page, gateway)
    await expect(count(page, 1)).to_have_text("50")

    await gateway.stop()
    await expect(page.locator("#connection")).to_have_text("Offline")
    await expect(page.locator("#banner")).to_contain_text("No connection to the gateway. Counts are those of")
    await expect(count(page, 1)).to_have_text("50")
    gateway.jobs[UUID(int=1)] = job(1, 9, "completed", completed=90)  # nobody was told
    gateway.jobs[UUID(int=2)] = job(2, 3, "failed", completed=7)  # it began and ended meanwhile
    await gateway.start()

    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator("#banner")).to_be_hidden()
    await expect(count(page, 1)).to_have_text("90")
    await expect(status(page, 1)).to_have_text("completed")
    await expect(count(page, 2)).to_have_text("7")


async def test_connection_that_is_cut_without_a_word_is_found_again(page: Page, gateway: Any, job: JobFactory) -> None:
    gateway.show(job(1, 1, completed=1))
    await opened(page, gateway)

    gateway.cut()
    gateway.show(job(1, 2, completed=2))
    await gateway.found_again()

    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(count(page, 1)).to_have_text("2")


async def test_job_that_was_deleted_while_nobody_looked_is_not_listed_any_more(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    for number in (1, 2, 3):
        gateway.show(job(number, 1, "completed", completed=1))
    await page.goto(gateway.url)
    await expect(page.locator(".job")).to_have_count(3)
    await page.get_by_role("link", name="site-3.example").click()
    await expect(page.locator("#job-count")).to_have_text("1")

    del gateway.jobs[UUID(int=2)]
    await page.get_by_role("link", name="All crawls").click()

    await expect(page.locator(".job")).to_have_count(2)
    await expect(page.locator(".job").last).to_contain_text("site-1.example")


async def test_retry_now_does_not_wait(page: Page, gateway: Any) -> None:
    await page.clock.install()
    await opened(page, gateway)
    await gateway.stop()
    # From here on no timer runs, so that nothing but the button connects.
    await page.clock.pause_at(await page.evaluate("Date.now()") / 1000 + 20)
    await expect(page.locator("#banner")).to_contain_text("Trying again in")
    await gateway.start()

    await page.get_by_role("button", name="Retry now").click()

    await expect(page.locator("#connection")).to_have_text("Live")


async def test_form_starts_a_crawl_and_shows_it(page: Page, gateway: Any) -> None:
    await opened(page, gateway)

    await page.get_by_label("Crawl a site").fill("docs.example.com/guide/")
    await page.locator("summary").click()
    await page.locator("details").get_by_label("At most").fill("25")
    await page.get_by_label("Exclude").fill(r"\.pdf$")
    await page.get_by_role("button", name="Start crawl").click()

    await expect(page.locator("#job-name")).to_have_text("docs.example.com/guide")
    await expect(page.locator("#options")).to_contain_text("At most25 documents")
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
    await page.locator("summary").click()
    await page.get_by_label(label).fill(value)
    await page.get_by_role("button", name="Start crawl").click()

    await expect(page.locator("#start-error")).to_contain_text(problem)
    await expect(page.get_by_label(label)).to_be_focused()
    await expect(page.get_by_label(label)).to_have_attribute("aria-invalid", "")


async def test_list_is_narrowed_by_status_and_by_name_and_the_address_says_so(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    gateway.show(job(1, 1, "completed", name="alpha.example"))
    gateway.show(job(2, 1, "failed", name="beta.example"))
    gateway.show(job(3, 1, "failed", name="alphabet.example"))
    await opened(page, gateway)

    await page.get_by_role("radio", name="Failed").check()
    await expect(names(page)).to_have_text(["alphabet.example", "beta.example"])
    await page.get_by_label("Search crawls").fill("ALPHA")
    await expect(names(page)).to_have_text(["alphabet.example"])
    await expect(page).to_have_url(f"{gateway.url}/#/?status=failed&q=ALPHA")
    await page.reload()
    await expect(names(page)).to_have_text(["alphabet.example"])
    await page.get_by_label("Search crawls").fill("gamma")
    await expect(page.locator("#no-match")).to_be_visible()
    await page.get_by_role("button", name="Show all crawls").click()

    await expect(names(page)).to_have_count(3)


async def test_older_jobs_than_the_first_page_are_reached_by_scrolling_and_by_searching(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    for number in range(1, 501):
        gateway.jobs[UUID(int=number)] = job(number, 1, "completed", completed=number)
    await opened(page, gateway)
    await expect(count(page, 500)).to_have_text("500")
    assert await page.locator(".job").count() < 60

    await page.get_by_label("Search crawls").fill("site-3.example")
    await expect(names(page)).to_have_text(["site-3.example"])
    await page.get_by_label("Search crawls").fill("")
    await expect(names(page).first).to_have_text("site-500.example")  # the list has its height again
    await page.evaluate("scrollTo(0, document.body.scrollHeight)")

    await expect(count(page, 1)).to_have_text("1")
    await expect(row(page, 500)).to_have_count(0)
    assert await page.locator(".job").count() < 60


async def test_older_jobs_come_to_who_scrolled_to_the_end_while_the_list_was_read_again(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    for number in range(1, 501):
        gateway.jobs[UUID(int=number)] = job(number, 1, "completed", completed=number)
    await opened(page, gateway)
    await expect(page.locator("#filters")).to_contain_text("All 200")

    gateway.lists.clear()
    gateway.cut()
    await gateway.found_again()
    await expect(page.locator("#connection")).to_have_text("Live")
    await page.evaluate("scrollTo(0, document.body.scrollHeight)")
    await expect(row(page, 301)).to_be_visible()
    gateway.lists.set()

    await expect(page.locator("#filters")).to_contain_text("All 500")


async def test_name_of_a_job_is_text_whatever_it_contains(page: Page, gateway: Any, job: JobFactory) -> None:
    name = "<img src=x onerror=document.title='owned'>"
    gateway.show(job(1, 1, name=name))

    await opened(page, gateway)
    await expect(names(page)).to_have_text(name)
    await names(page).click()

    await expect(page.locator("#job-name")).to_have_text(name)
    assert "owned" not in (await page.title()).replace(name, "")


async def test_empty_list_says_what_to_do(page: Page, gateway: Any) -> None:
    await opened(page, gateway)

    await expect(page.locator("#empty")).to_be_visible()
    await page.get_by_role("button", name="Enter an address").click()

    await expect(page.get_by_label("Crawl a site")).to_be_focused()
