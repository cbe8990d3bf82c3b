"""Two thousand live jobs that all change ten times a second: how much the page has to do for each picture.

What counts is the time that the page's thread computes (`tdur` of Chromium's own trace: scripts, styles, layout and
painting) while states arrive over the WebSocket, so that a busy machine does not count.
"""

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from statistics import mean
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, expect
from tallyho_contracts.jobs import Job
from ws_gateway.hub import state_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

JOBS = 2000
ROUNDS = 20
FRAME_MS = 16.0
# Asks for every frame there can be, so that the time between two is that of one.
EVERY_FRAME = "() => { const next = () => requestAnimationFrame(next); next(); }"
SCRIPTS = ("FunctionCall", "EvaluateScript", "FireAnimationFrame", "TimerFire", "v8.run")


async def test_two_thousand_jobs_at_ten_hertz_leave_room_in_every_frame(
    browser: Browser, page: Page, gateway: Any, job: Callable[..., Job]
) -> None:
    for number in range(1, JOBS + 1):
        gateway.show(job(number, 1, "running", running=1, pending=99))
    rounds = [
        [state_of(one).model_copy(update=step(done)) for one in gateway.jobs.values()] for done in range(1, ROUNDS + 1)
    ]
    await page.goto(gateway.url)
    await expect(page.locator("#filters")).to_contain_text(f"All {JOBS:,}", timeout=20_000)
    newest = page.locator(f'[data-job="{UUID(int=JOBS)}"] .count strong')

    await page.evaluate(EVERY_FRAME)
    await browser.start_tracing(page=page, categories=["devtools.timeline", "toplevel"])
    loop = asyncio.get_running_loop()
    start = loop.time()
    for turn, states in enumerate(rounds, start=1):
        for state in states:
            gateway.hub.offer(state)
        await asyncio.sleep(max(0.0, start + turn * 0.1 - loop.time()))
    rate = ROUNDS / (loop.time() - start)
    await expect(newest).to_have_text(str(ROUNDS), timeout=20_000)
    frames = script_times(json.loads(await browser.stop_tracing()))

    busy = sorted(frames, reverse=True)
    print(f"{len(frames)} frames, {rate:.1f} Hz, scripts {mean(frames):.1f} ms on average, the longest {busy[:3]}")
    assert len(frames) > ROUNDS
    assert mean(frames) < FRAME_MS / 2
    assert busy[len(busy) // 20] < FRAME_MS


def step(done: int) -> dict[str, int]:
    """What changes in every job with each round."""
    return {"revision": done + 1, "completed_children": done, "document_count": done, "pending_children": 99 - done}


def script_times(trace: dict[str, Any]) -> list[float]:
    """For each picture that the page's thread began: milliseconds of scripts since the one before it."""
    events = sorted((event for event in trace["traceEvents"] if "ts" in event), key=lambda event: event["ts"])
    starts = [event for event in events if event["name"] == "FireAnimationFrame"]
    thread = starts[0]["pid"], starts[0]["tid"]
    spans: list[tuple[float, float]] = []
    end = 0.0
    for event in events:
        is_script = event["name"] in SCRIPTS and (event["pid"], event["tid"]) == thread and event.get("ph") == "X"
        if is_script and event["ts"] >= end:  # what is inside of another is counted with it
            spans.append((event["ts"], event.get("tdur", event["dur"]) / 1000))
            end = event["ts"] + event["dur"]
    moments = [event["ts"] for event in starts]
    return [sum(ms for begin, ms in spans if before <= begin < after) for before, after in pairwise(moments)]
