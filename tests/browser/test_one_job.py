"""One job in a real browser: its count, plot, pages, documents, log and options, and what can be done with it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page, expect
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import Document, StoredDocument
from tallyho_contracts.jobs import CountedAt, Job, JobStatus, JobSummary, PagesByReason, WaitingPage, WaitsFor
from tallyho_contracts.logs import JobLog, LogLevel
from tallyho_contracts.pages import Page as CrawledPage
from tallyho_contracts.pages import PageState
from tallyho_contracts.urls import UrlsByReason, UrlsCounted

pytestmark = pytest.mark.asyncio(loop_scope="session")

JobFactory = Callable[..., Job]
DocumentFactory = Callable[..., Document]
ID = UUID(int=1)


async def opened(page: Page, gateway: Any) -> None:
    await page.goto(f"{gateway.url}/#/jobs/{ID}")
    await expect(page.locator("#connection")).to_have_text("Live")


async def test_count_and_documents_rise_together_and_a_document_opens(
    page: Page, gateway: Any, job: JobFactory, document: DocumentFactory
) -> None:
    gateway.show(job(1, 1, "running", running=1))
    await opened(page, gateway)
    await expect(page.locator("#documents-none")).to_contain_text("The first document appears here")

    gateway.save(1, *(document(1, ordinal) for ordinal in range(1, 41)))
    gateway.show(job(1, 2, "running", running=1, completed=40))
    await expect(page.locator("#job-count")).to_have_text("40")
    await expect(page.locator(".document a").first).to_have_text("Page 40")
    gateway.save(1, document(1, 41, url="https://example.com/last"))
    gateway.show(job(1, 3, "completed", completed=41))
    await expect(page.locator("#job-count")).to_have_text("41")
    await expect(page.locator("#job-status")).to_have_text("completed")

    last = gateway.documents[ID][-1]
    gateway.texts[last.document_id] = StoredDocument(
        document_id=last.document_id,
        url=last.source_url,
        title=last.title,
        content="# Title\n\n<b>words</b>",
        content_hash="0123",
        status_code=200,
        content_type="text/html",
        created_at=last.saved_at,
        saved_at=last.saved_at,
    )
    await page.get_by_role("link", name="Page 41").click()

    await expect(page.locator("#reader-text")).to_have_text("# Title\n\n<b>words</b>")
    await expect(page.locator("#reader-url")).to_have_attribute("href", "https://example.com/last")
    await expect(page).to_have_url(f"{gateway.url}/#/jobs/{ID}/documents/{last.document_id}")
    await page.keyboard.press("Escape")
    await expect(page.locator("#reader")).to_be_hidden()
    await expect(page).to_have_url(f"{gateway.url}/#/jobs/{ID}")


async def test_document_whose_text_is_not_kept_says_so(
    page: Page, gateway: Any, job: JobFactory, document: DocumentFactory
) -> None:
    gateway.save(1, document(1, 1))
    gateway.show(job(1, 1, "completed", completed=1))
    await opened(page, gateway)

    await page.get_by_role("link", name="Page 1").click()

    await expect(page.locator("#reader-problem")).to_have_text("The crawler does not keep its text.")


async def test_any_part_of_a_long_list_of_documents_is_read_when_it_comes_into_sight(
    page: Page, gateway: Any, job: JobFactory, document: DocumentFactory
) -> None:
    gateway.save(1, *(document(1, ordinal) for ordinal in range(1, 10_001)))
    gateway.show(job(1, 1, "completed", completed=10_000))
    await opened(page, gateway)
    await expect(page.locator(".document a").first).to_have_text("Page 10000")

    await page.locator("#documents-scroller").evaluate("list => list.scrollTop = list.scrollHeight / 2")
    await expect(page.get_by_role("link", name="Page 5000", exact=True)).to_be_visible()
    await page.locator("#documents-scroller").evaluate("list => list.scrollTop = list.scrollHeight")

    await expect(page.get_by_role("link", name="Page 1", exact=True)).to_be_visible()
    assert await page.locator(".document").count() < 40


async def test_reader_of_older_documents_is_not_moved_by_new_ones(
    page: Page, gateway: Any, job: JobFactory, document: DocumentFactory
) -> None:
    gateway.save(1, *(document(1, ordinal) for ordinal in range(1, 101)))
    gateway.show(job(1, 1, "running", running=1, completed=100))
    await opened(page, gateway)
    await expect(page.get_by_role("link", name="Page 100")).to_be_visible()
    await page.locator("#documents-scroller").evaluate("list => list.scrollTop = 40 * 58")
    looked_at = page.get_by_role("link", name="Page 58", exact=True)
    await expect(looked_at).to_be_visible()
    await looked_at.focus()
    # What stands above the list may still grow.
    place = "link => link.getBoundingClientRect().top - link.closest('#documents-scroller').getBoundingClientRect().top"
    before = await looked_at.evaluate(place)

    gateway.save(1, *(document(1, ordinal) for ordinal in range(101, 131)))
    gateway.show(job(1, 2, "running", running=1, completed=130))
    drawn = page.locator(".document").filter(has=looked_at)
    await expect(drawn).to_have_attribute("aria-posinset", str(130 - 58 + 1))

    assert await looked_at.evaluate(place) == before
    await expect(looked_at).to_be_focused()


async def test_pages_are_shown_by_state_and_by_reason_and_those_that_failed_by_name(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    gateway.summaries[ID] = JobSummary(
        pages=(
            PagesByReason(state=PageState.COMPLETED, pages=30),
            PagesByReason(state=PageState.FAILED, reason="http_404", pages=1),
            PagesByReason(state=PageState.SKIPPED, reason="robots", pages=4),
        ),
        documents=(),
    )
    off_site = UrlsByReason(state=PageState.SKIPPED, reason="off_site", urls=1200, is_page=False)
    gateway.urls[ID] = UrlsCounted(urls_met=1240, skipped=(off_site,))
    gone = CrawledPage(page_id=UUID(int=7), url="https://example.com/gone", state=PageState.FAILED, reason="http_404")
    gateway.pages[ID] = [gone]
    gateway.show(job(1, 1, "running", running=2, pending=3, completed=30, failed=1, skipped=4))

    await opened(page, gateway)

    groups = page.locator("#pages .group")
    await expect(groups).to_have_text(
        ["completed30", "failed1", "skipped4", "running2", "pending3", "not visited1,200"]
    )
    reasons = ["Not found (404)1", "Not allowed by robots.txt4", "On another site1,200"]
    await expect(page.locator("#pages ul li")).to_have_text(reasons)
    await expect(page.locator("#urls-met")).to_have_text("of 1,240 URLs met")
    await expect(page.locator("#failed li")).to_have_text("https://example.com/goneNot found (404)")

    gateway.show(job(1, 2, "running", running=2000, pending=3, completed=30, failed=1, skipped=4))
    await expect(page.locator("#urls-met")).to_have_text("of 2,038 URLs met")  # before the ledger is read again

    slow = CrawledPage(page_id=UUID(int=8), url="https://example.com/slow", state=PageState.FAILED, reason="timeout")
    gateway.pages[ID].append(slow)
    gateway.show(job(1, 3, "completed", completed=30, failed=2, skipped=4))
    await expect(page.locator("#failed li")).to_have_count(2)
    await expect(page.locator("#failed")).to_contain_text("Took too long to answer")


async def test_plot_shows_how_the_count_rose_also_before_the_page_was_opened(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    ended = job(1, 1, "completed", completed=300)
    assert ended.started_at
    gateway.summaries[ID] = JobSummary(
        pages=(),
        documents=tuple(
            CountedAt(ordinal=ordinal, saved_at=ended.started_at + timedelta(seconds=45 + ordinal / 10))
            for ordinal in range(1, 301, 10)
        ),
    )
    gateway.show(ended)

    await opened(page, gateway)

    label = re.compile(r"Documents per second over 1\smin\s30\ss, at most 10$")
    await expect(page.locator("#plot")).to_have_attribute("aria-label", label)
    await expect(page.locator("#job-rate")).to_have_text("3.3/s")


async def test_log_is_shown_as_it_is_written_once_also_after_a_reconnect(
    page: Page, gateway: Any, job: JobFactory
) -> None:
    gateway.show(job(1, 1, running=1))
    await opened(page, gateway)
    lines = [
        JobLog(
            job_id=ID,
            timestamp=datetime(2025, 1, 2, tzinfo=UTC),
            level=LogLevel.WARNING,
            message=f"line {n}",
            fields={"url": "https://example.com/"},
        )
        for n in range(3)
    ]

    for line in lines[:2]:
        gateway.logs.offer(line)
    await expect(page.locator("#log li")).to_have_count(2)
    gateway.cut()
    await gateway.found_again()
    await expect(page.locator("#connection")).to_have_text("Live")
    gateway.logs.offer(lines[2])

    await expect(page.locator("#log .message")).to_have_text(["line 0", "line 1", "line 2"])
    await expect(page.locator("#log .fields").first).to_have_text("url=https://example.com/")


async def test_job_is_paused_resumed_and_cancelled(page: Page, gateway: Any, job: JobFactory) -> None:
    gateway.show(job(1, 1, running=1, completed=5))
    await opened(page, gateway)
    status = page.locator("#job-status")

    await page.get_by_role("button", name="Pause").click()
    await expect(status).to_have_text("paused")
    await expect(page.get_by_role("button", name="Resume")).to_be_focused()
    await page.get_by_role("button", name="Resume").click()
    await expect(status).to_have_text("running")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#confirm-text")).to_contain_text("The 5 documents saved so far stay.")
    await page.get_by_role("button", name="Keep crawling").click()
    await expect(status).to_have_text("running")
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_role("button", name="Cancel the crawl").click()

    await expect(status).to_have_text("cancelling")
    await expect(page.locator("#cancel")).to_be_hidden()
    await expect(page.locator("#job-name")).to_be_focused()


async def test_crawl_again_asks_for_the_same_and_shows_the_new_job(page: Page, gateway: Any, job: JobFactory) -> None:
    options = CrawlOptions(max_pages=7, exclude=(r"\.pdf$",), same_site=False)
    seeds = ("https://example.com/a", "https://example.com/b")
    ended = job(1, 1, "failed", name="Two seeds").model_copy(update={"seeds": seeds, "options": options})
    gateway.show(ended.model_copy(update={"error": "nothing was saved"}))
    await opened(page, gateway)
    await expect(page.locator("#notice-text")).to_have_text(
        "Nothing was saved. Check the address and the options, then crawl again."
    )

    await page.get_by_role("button", name="Crawl again").click()

    await expect(page.locator("#job-status")).to_have_text("pending")
    [create] = gateway.created
    assert (create.seeds, create.name, create.options) == (seeds, "Two seeds", options)
    await expect(page).not_to_have_url(re.compile(str(ID)))


async def test_stalled_job_says_what_it_waits_for(page: Page, gateway: Any, job: JobFactory) -> None:
    running = job(1, 1, running=1, pending=1)
    waits = WaitsFor(
        start_confirmed=True,
        known_pages=2,
        pages=(WaitingPage(page_id=UUID(int=5), url="https://example.com/slow", state=PageState.RUNNING),),
    )
    gateway.show(running.model_copy(update={"stalled_since": running.timestamp, "waits_for": waits}))

    await opened(page, gateway)

    await expect(page.locator("#job-notice")).to_contain_text("The crawl is waiting for 2 pages.")
    await expect(page.locator("#notice-list")).to_have_text("https://example.com/slow")
    gateway.show(job(1, 3, "running", running=1, completed=1))
    await expect(page.locator("#job-notice")).to_be_hidden()


async def test_unknown_job_is_no_blank_page(page: Page, gateway: Any) -> None:
    await page.goto(f"{gateway.url}/#/jobs/{ID}")

    await expect(page.locator("#job-problem")).to_contain_text("There is no such crawl")
    await page.get_by_role("link", name="All crawls").click()
    await expect(page.locator("#empty")).to_be_visible()


async def test_address_that_is_no_jobs_does_not_end_the_list(page: Page, gateway: Any, job: JobFactory) -> None:
    await page.goto(f"{gateway.url}/#/jobs/5f0c2a52")
    await expect(page.locator("#job-problem")).to_contain_text("There is no such crawl")
    await page.get_by_role("link", name="All crawls").click()
    await expect(page.locator("#empty")).to_be_visible()
    await expect(page.locator("#connection")).to_have_attribute("data-state", "live")

    gateway.show(job(1, 1, name="news.example"))

    await expect(page.locator(".job")).to_contain_text("news.example")


async def test_refused_command_says_why(page: Page, gateway: Any, job: JobFactory) -> None:
    gateway.show(job(1, 1, running=1))
    await opened(page, gateway)
    del gateway.jobs[ID]

    await page.get_by_role("button", name="Pause").click()

    await expect(page.locator("#action-problem")).to_have_text("The crawl could not be changed: no such job")


async def test_job_that_ended_while_the_gateway_was_away_is_exact_afterwards(
    page: Page, gateway: Any, job: JobFactory, document: DocumentFactory
) -> None:
    gateway.save(1, *(document(1, ordinal) for ordinal in range(1, 6)))
    gateway.show(job(1, 3, running=1, completed=5))
    await opened(page, gateway)
    await expect(page.locator("#job-count")).to_have_text("5")

    await gateway.stop()
    await expect(page.locator("#connection")).to_have_text("Offline")
    gateway.save(1, *(document(1, ordinal) for ordinal in range(6, 10)))
    gateway.jobs[ID] = job(1, 9, "completed", completed=9)
    await gateway.start()

    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator("#job-count")).to_have_text("9")
    await expect(page.locator("#job-status")).to_have_text("completed")
    await expect(page.locator(".document a")).to_have_text([f"Page {ordinal}" for ordinal in range(9, 0, -1)])


async def test_list_is_up_to_date_after_a_visit_to_one_job(page: Page, gateway: Any, job: JobFactory) -> None:
    for number in (1, 2):
        gateway.show(job(number, 1, running=1, completed=number))
    await page.goto(gateway.url)
    await page.get_by_role("link", name="site-1.example").click()
    await expect(page.locator("#job-count")).to_have_text("1")

    gateway.show(job(2, 2, "completed", completed=22))
    gateway.jobs[UUID(int=3)] = job(3, 1, "completed", completed=33)
    await page.go_back()

    rows = page.locator(".job .count strong")
    await expect(rows).to_have_text(["33", "22", "1"])
    assert gateway.jobs[UUID(int=2)].status is JobStatus.COMPLETED
