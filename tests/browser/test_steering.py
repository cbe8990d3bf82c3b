"""What can be changed on a job's page: its limits while it runs, and its failed pages tried again when it has ended."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page, expect
from tallyho_contracts.jobs import Job, JobStatus

pytestmark = pytest.mark.asyncio(loop_scope="session")

ID = UUID(int=1)
JobFactory = Callable[..., Job]


async def opened(page: Page, gateway: Any) -> None:
    await page.goto(f"{gateway.url}/#/jobs/{ID}")
    await expect(page.locator("#connection")).to_have_text("Live")


async def test_failed_pages_are_retried_as_a_new_job_once_there_is_an_end(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    retry = page.get_by_role("button", name="Retry failed pages")
    gateway.show(job(1, 1, "running", running=1, completed=5, failed=2))
    await opened(page, gateway)
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()
    await expect(retry).to_be_hidden()

    gateway.show(job(1, 2, "completed", completed=6, failed=2))
    await retry.click()
    await expect(page).to_have_url(f"{gateway.url}/#/jobs/{UUID(int=9500)}")

    assert gateway.jobs[UUID(int=9500)].retry_of == ID


async def test_limits_are_changed_while_the_job_runs_and_shown_with_its_options(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    gateway.show(job(1, 1, "running", running=1, completed=5))
    await opened(page, gateway)
    limits = page.locator("#limits")
    await limits.get_by_label("At most").fill("250")
    await limits.get_by_label("Wait").fill("1.5")
    await limits.get_by_role("button", name="Change").click()
    await expect(page.locator("#options")).to_contain_text("250 documents")
    await expect(page.locator("#options")).to_contain_text("1.5 seconds between requests to a host")

    options = gateway.jobs[ID].options
    assert (options.max_pages, options.delay) == (250, 1.5)

    await limits.get_by_label("At most").fill("")
    await limits.get_by_label("Wait").fill("-1")
    await limits.get_by_role("button", name="Change").click()
    await expect(limits.get_by_label("Wait")).to_be_focused()  # the form itself says what is wrong
    assert gateway.jobs[ID].options.delay == 1.5
    await limits.get_by_label("Wait").fill("")
    await limits.get_by_role("button", name="Change").click()
    await expect(page.locator("#options")).to_contain_text("no limit")
    assert (gateway.jobs[ID].options.max_pages, gateway.jobs[ID].options.delay) == (None, None)

    gateway.show(gateway.jobs[ID].model_copy(update={"status": JobStatus.CANCELLING, "revision": 10}))
    await expect(limits).to_be_hidden()
