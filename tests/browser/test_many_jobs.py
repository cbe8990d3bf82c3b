"""Two thousand live jobs that all change ten times a second: the page draws what is in sight, and ends exact."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page, expect
from tallyho_contracts.jobs import Job
from ws_gateway.hub import state_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

JOBS = 2000
ROUNDS = 20
# More rows than any window has room for, and fewer than would be slow.
MOST_ROWS = 100


async def test_two_thousand_jobs_at_ten_hertz_are_drawn_as_far_as_they_are_in_sight(
    page: Page, gateway: Any, job: Callable[..., Job]
) -> None:
    for number in range(1, JOBS + 1):
        gateway.show(job(number, 1, "running", running=1, pending=99))
    rounds = [
        [state_of(one).model_copy(update=step(done)) for one in gateway.jobs.values()] for done in range(1, ROUNDS + 1)
    ]
    await page.goto(gateway.url)
    await expect(page.locator("#filters")).to_contain_text(f"All {JOBS:,}")
    newest = page.locator(f'[data-job="{UUID(int=JOBS)}"] .count strong')

    loop = asyncio.get_running_loop()
    start = loop.time()
    for turn, states in enumerate(rounds, start=1):
        for state in states:
            gateway.hub.offer(state)
        await asyncio.sleep(max(0.0, start + turn * 0.1 - loop.time()))  # the pace is what is tried

    await expect(newest).to_have_text(str(ROUNDS))
    assert 5 < await page.locator("[data-job]").count() < MOST_ROWS


def step(done: int) -> dict[str, int]:
    """What changes in every job with each round."""
    return {"revision": done + 1, "completed_children": done, "document_count": done, "pending_children": 99 - done}
