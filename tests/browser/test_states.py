"""Every state of the pages, in light, dark and narrow: nothing overflows, and a picture of each is kept to look at."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from tallyho_contracts.documents import Document
from tallyho_contracts.jobs import CountedAt, Job, JobSummary, PagesByReason
from tallyho_contracts.logs import JobLog, LogLevel
from tallyho_contracts.pages import Page as CrawledPage
from tallyho_contracts.pages import PageState

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCREENSHOTS = Path(__file__).parent / "screenshots"
LONG = "https://a-very-long-host-name.example.com/" + "with-one-word-that-never-ends" * 12 + "/page.html?and=more"
JobFactory = Callable[..., Job]
DocumentFactory = Callable[..., Document]


@dataclass(frozen=True)
class Look:
    name: str
    width: int
    colors: Any


LOOKS = (Look("light", 1240, "light"), Look("dark", 1240, "dark"), Look("narrow", 320, "light"))


@dataclass
class Scene:
    """Puts the gateway into a state; `job` and `document` make its parts."""

    gateway: Any
    job: JobFactory
    document: DocumentFactory

    async def empty(self, page: Page) -> None:
        await page.goto(self.gateway.url)
        await expect(page.locator("#empty")).to_be_visible()

    async def five_hundred_jobs(self, page: Page) -> None:
        kinds = ("completed", "running", "completed", "failed", "completed", "cancelled", "paused", "pending")
        for number in range(1, 501):
            kind = kinds[number % 8]
            some = 0 if kind == "pending" else number * 13 % 977
            waiting = 60 if kind in ("running", "paused", "pending") else 0
            name = LONG[8:200] if number % 50 == 0 else f"docs-{number}.example.com/guide"
            state = self.job(
                number, 1, kind, name=name, completed=some, failed=number % 7, skipped=number % 11, pending=waiting
            )
            error = "more pages failed than max_failures = 4" if kind == "failed" else None
            self.gateway.show(state.model_copy(update={"error": error}))
        await page.goto(self.gateway.url)
        await expect(page.locator(".job").first).to_contain_text("docs-500" if 500 % 50 else "a-very-long-host")

    async def running(self, page: Page) -> None:
        self._fill(1, 420)
        self.gateway.show(self._state(2, "running", 420, running=8, pending=333))
        await self._open(page, "420")

    async def paused(self, page: Page) -> None:
        self._fill(1, 420)
        self.gateway.show(self._state(2, "paused", 420, pending=333))
        await self._open(page, "420")

    async def completed(self, page: Page) -> None:
        self._fill(1, 1204)
        self.gateway.show(self._state(9, "completed", 1204))
        await self._open(page, "1,204")

    async def failed(self, page: Page) -> None:
        state = self.job(1, 9, "failed", name=LONG[8:200], failed=1)
        gone = CrawledPage(page_id=UUID(int=9), url=LONG, state=PageState.FAILED, reason="dns")
        self.gateway.pages[UUID(int=1)] = [gone]
        self.gateway.summaries[UUID(int=1)] = JobSummary(
            pages=(PagesByReason(state=PageState.FAILED, reason="dns", pages=1),), documents=()
        )
        error = "no document was saved: dns (1)"
        told = [
            (LogLevel.INFO, "submitted with 1 seed", {}),
            (LogLevel.INFO, "started", {}),
            (LogLevel.WARNING, "page failed: dns", {"url": LONG, "reason": "dns"}),
            (LogLevel.ERROR, f"failed: {error}", {}),
        ]
        self.gateway.lines[UUID(int=1)] = [
            JobLog(job_id=UUID(int=1), timestamp=state.timestamp, level=level, message=message, fields=fields)
            for level, message, fields in told
        ]
        self.gateway.show(state.model_copy(update={"error": error, "seeds": (LONG,)}))
        await self._open(page, "0")
        await expect(page.locator("#failed li")).to_have_count(1)
        await expect(page.locator("#log li")).to_have_count(len(told))

    async def disconnected(self, page: Page) -> None:
        await self.running(page)
        await self.gateway.stop()
        await expect(page.locator("#banner")).to_be_visible()

    async def disconnected_list(self, page: Page) -> None:
        await self.five_hundred_jobs(page)
        await self.gateway.stop()
        await expect(page.locator("#banner")).to_be_visible()

    async def asked_whether_to_cancel(self, page: Page) -> None:
        await self.running(page)
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator("#confirm")).to_be_visible()

    async def refused_start(self, page: Page) -> None:
        await page.goto(self.gateway.url)
        await page.locator("summary").click()
        await page.get_by_label("Crawl a site").fill("http://127.0.0.1/")
        await page.get_by_role("button", name="Start crawl").click()
        await expect(page.locator("#start-error")).to_be_visible()

    def _state(self, revision: int, kind: str, documents: int, **counts: int) -> Job:
        return self.job(
            1, revision, kind, name="docs.example.com/guide", completed=documents, failed=3, skipped=41, **counts
        )

    def _fill(self, number: int, documents: int) -> None:
        def url(ordinal: int) -> str:
            return LONG if ordinal % 10 == 0 else f"https://docs.example.com/guide/{ordinal}.html"

        job_id = UUID(int=number)
        made = [
            self.document(number, n, url=url(n), title=f"Chapter {n}: what there is to say", seconds=90 * n / documents)
            for n in range(1, documents + 1)
        ]
        self.gateway.save(number, *made)
        self.gateway.pages[job_id] = [
            CrawledPage(page_id=UUID(int=n), url=f"https://example.com/gone/{n}", state=PageState.FAILED, reason=why)
            for n, why in enumerate(("http_404", "http_404", "timeout"), start=1)
        ]
        self.gateway.summaries[job_id] = JobSummary(
            pages=(
                PagesByReason(state=PageState.FAILED, reason="http_404", pages=2),
                PagesByReason(state=PageState.FAILED, reason="timeout", pages=1),
                PagesByReason(state=PageState.SKIPPED, reason="content_type", pages=30),
                PagesByReason(state=PageState.SKIPPED, reason="robots", pages=11),
            ),
            documents=tuple(
                CountedAt(ordinal=one.ordinal, saved_at=one.saved_at) for one in made[:: max(1, documents // 50)]
            ),
        )

    async def _open(self, page: Page, count: str) -> None:
        await page.goto(f"{self.gateway.url}/#/jobs/{UUID(int=1)}")
        await expect(page.locator("#job-count")).to_have_text(count)
        await expect(page.locator("#connection")).to_have_text("Live")
        await expect(page.locator(".document.unread")).to_have_count(0)


SCENES = (
    Scene.empty,
    Scene.five_hundred_jobs,
    Scene.running,
    Scene.paused,
    Scene.completed,
    Scene.failed,
    Scene.disconnected,
    Scene.disconnected_list,
    Scene.asked_whether_to_cancel,
    Scene.refused_start,
)
# Elements that are wider than the window, and do not scroll or hide it themselves.
OVERFLOWING = """() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const beyond = selector => [...document.querySelectorAll(selector)]
    .filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 120));
  return [...(wide > 0 ? [`${wide} px too wide`, ...beyond("body *")] : []), ...beyond("dialog[open]")];
}"""


@pytest_asyncio.fixture(params=LOOKS, ids=lambda look: look.name, loop_scope="session")
async def looked_at(browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    look: Look = request.param
    context = await browser.new_context(viewport={"width": look.width, "height": 900}, color_scheme=look.colors)
    yield await context.new_page()
    await context.close()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_state_fits_and_is_kept_as_a_picture(
    looked_at: Page,
    gateway: Any,
    job: JobFactory,
    document: DocumentFactory,
    scene: Callable[[Scene, Page], Awaitable[None]],
    request: pytest.FixtureRequest,
) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)

    await scene(Scene(gateway, job, document), looked_at)

    name = request.node.name.partition("[")[2].rstrip("]")
    await looked_at.screenshot(path=SCREENSHOTS / f"{name}.png", full_page="jobs" not in name and "list" not in name)
    assert await looked_at.evaluate(OVERFLOWING) == []
