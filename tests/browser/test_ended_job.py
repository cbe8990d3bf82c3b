"""A job that ends while its page is open, and one that ended before: what is shown is what remains."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page, expect
from tallyho_contracts.jobs import Job, JobSummary, JobSummaryQuery, PagesByReason
from tallyho_contracts.logs import JobLog, LogLevel
from tallyho_contracts.pages import PageState

pytestmark = pytest.mark.asyncio(loop_scope="session")

JobFactory = Callable[..., Job]
ID = UUID(int=1)


def by_reason(*failed: tuple[str, int]) -> JobSummary:
    pages = tuple(PagesByReason(state=PageState.FAILED, reason=reason, pages=number) for reason, number in failed)
    return JobSummary(pages=pages, documents=())


def a_line(message: str, level: LogLevel = LogLevel.INFO) -> JobLog:
    return JobLog(job_id=ID, timestamp=datetime(2025, 1, 2, tzinfo=UTC), level=level, message=message)


async def opened_while_it_runs(page: Page, gateway: Any, job: JobFactory) -> None:
    gateway.summaries[ID] = by_reason(("http_404", 37))
    gateway.show(job(1, 1, running=3, failed=37))
    await page.goto(f"{gateway.url}/#/jobs/{ID}")
    await expect(page.locator("#pages ul li")).to_have_text(["Not found (404)37"])


def end(gateway: Any, job: JobFactory) -> None:
    gateway.summaries[ID] = by_reason(("http_404", 39), ("timeout", 1))
    gateway.show(job(1, 2, "failed", failed=40))


async def test_reasons_are_those_of_the_end_once_the_end_is_shown(page: Page, gateway: Any, job: JobFactory) -> None:
    await page.clock.install()
    await opened_while_it_runs(page, gateway, job)
    # No timer runs after that moment, which is not past when the page hears of it, nor so late that the connection
    # would be taken for dead: whatever is shown then follows from the last state itself.
    await page.clock.pause_at(await page.evaluate("Date.now()") / 1000 + 20)

    end(gateway, job)

    await expect(page.locator("#pages .group").nth(1)).to_have_text("failed40")
    await expect(page.locator("#pages ul li")).to_have_text(["Not found (404)39", "Took too long to answer1"])


async def test_reasons_that_could_not_be_read_at_the_end_are_read_again(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    await opened_while_it_runs(page, gateway, job)

    gateway.unanswered.add(JobSummaryQuery)
    end(gateway, job)

    await expect(page.locator("#pages ul li")).to_have_text(["Not found (404)39", "Took too long to answer1"])
    assert not gateway.unanswered


async def test_reasons_are_read_again_after_a_lost_connection(page: Page, gateway: Any, job: JobFactory) -> None:
    await opened_while_it_runs(page, gateway, job)

    gateway.summaries[ID] = by_reason(("http_404", 30), ("timeout", 7))
    gateway.cut()
    await gateway.found_again()

    await expect(page.locator("#pages ul li")).to_have_text(["Not found (404)30", "Took too long to answer7"])


async def test_when_it_ended_is_told_beside_when_it_began(page: Page, gateway: Any, job: JobFactory) -> None:
    await opened_while_it_runs(page, gateway, job)
    await expect(page.locator("#options")).to_contain_text("Started")

    end(gateway, job)

    await expect(page.locator("#options")).to_contain_text("Ended")


async def test_log_of_a_job_that_ended_long_ago_is_there(page: Page, gateway: Any, job: JobFactory) -> None:
    gateway.lines[ID] = [
        a_line("started"),
        a_line("failed: no document was saved", LogLevel.ERROR),
    ]
    gateway.show(job(1, 9, "failed", failed=1))

    await page.goto(f"{gateway.url}/#/jobs/{ID}")

    await expect(page.locator("#log .message")).to_have_text(["started", "failed: no document was saved"])
    await expect(page.locator("#log .level")).to_have_text(["info", "error"])


async def test_log_shows_its_last_lines_and_forgets_the_oldest(page: Page, gateway: Any, job: JobFactory) -> None:
    gateway.lines[ID] = [a_line(f"line {number}") for number in range(200)]
    gateway.show(job(1, 1, running=1))
    await page.goto(f"{gateway.url}/#/jobs/{ID}")
    await expect(page.locator("#log li")).to_have_count(200)
    await page.locator("#log-scroller").scroll_into_view_if_needed()

    for number in range(200, 350):
        gateway.logs.offer(a_line(f"line {number}"))

    await expect(page.locator("#log .message").last).to_have_text("line 349")
    await expect(page.locator("#log .message").last).to_be_in_viewport()
    await expect(page.locator("#log li")).to_have_count(300)
