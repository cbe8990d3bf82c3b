"""Pages that need JavaScript, crawled by a process with a real browser, which has no other way to the network."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from browsers import CHROMIUM, children_of
from crawler.urls import document_id
from frontier_checks import Ledger
from mailboxes import Mailbox, open_mailbox_of, send
from scripted_site import scripted_site
from tallyho_contracts.crawls import CrawlOptions, CrawlStart
from tallyho_contracts.registry import COMMANDS
from tallyho_messaging.connection import Amqp
from tallyho_messaging.topology import TRACKER_EVENTS
from tallyho_messaging.wire import Malformed, decode, event_of
from tallyho_postgres.pool import Pool
from watched_site import done, until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: `make chromium` installs it")


@asynccontextmanager
async def rendering_crawler(amqp_url: str, database_url: str, *, ends: int = 0) -> AsyncIterator[Process]:
    """A crawler that renders, which `ends` so, and one that does not, which must leave such pages to it."""
    settings = {"CRAWLER_CHROMIUM": CHROMIUM or "", "CRAWLER_ALLOWED_NETWORKS": '["127.0.0.1/32"]', "HEALTH_PORT": "0"}
    environment = os.environ | settings | {"AMQP_URL": amqp_url, "DATABASE_URL": database_url}
    command = sys.executable, "-m", "crawler"
    plain = await asyncio.create_subprocess_exec(*command, env=environment)
    rendering = await asyncio.create_subprocess_exec(*command, "render", env=environment)
    try:
        yield rendering
    finally:
        for process in (plain, rendering):
            if process.returncode is None:
                process.terminate()
        async with asyncio.timeout(20):
            assert [await process.wait() for process in (plain, rendering)] == [0, ends]


async def test_pages_made_by_scripts_are_crawled_and_reach_nothing_else(
    amqp: Amqp, amqp_url: str, database_url: str, crawler_pool: Pool
) -> None:
    async with scripted_site() as site, open_mailbox_of(amqp_url, TRACKER_EVENTS) as mailbox:
        crawls = {
            render: CrawlStart.model_validate(
                {
                    "job_id": f"00000000-0000-4000-8000-00000000000{number}",
                    "revision": 1,
                    "seeds": [f"{site.url}{path}" for path in ("/", "/thief", "/leaver")],
                    "options": CrawlOptions.model_validate({"render": render}),
                }
            )
            for number, render in enumerate(("browser", "none"))
        }
        ledgers = {crawl.job_id: Ledger() for crawl in crawls.values()}
        async with rendering_crawler(amqp_url, database_url):
            await send(amqp, COMMANDS, event_of(crawls["browser"], source="x", subject=crawls["browser"].job_id))
            await read(mailbox, ledgers, crawls["browser"])
            rows = await crawler_pool.fetch("SELECT document_id, title || ': ' || content AS text FROM documents")
            texts = {row["document_id"]: row["text"] for row in rows}
            rendered = {path: texts[document_id(site.url + path)] for path in ("/", "/thief")}
            await send(amqp, COMMANDS, event_of(crawls["none"], source="x", subject=crawls["none"].job_id))
            await read(mailbox, ledgers, crawls["none"])
        by_browser, plainly = (ledgers[crawls[render].job_id] for render in ("browser", "none"))
        paths = {page.url.removeprefix(site.url): page for page in by_browser.finished.values()}

    # What the scripts made is content, and what they link to is crawled.
    assert rendered["/"].startswith("The shop: item 0 [see]")
    assert {path for path in paths if path.startswith("/item/")} == {"/item/0", "/item/1", "/item/2", "/item/9"}
    assert paths["/leaver"].reason == "redirect"
    # Without a browser there is the loading page only.
    assert {page.url.removeprefix(site.url) for page in plainly.finished.values()} == {"/", "/thief", "/leaver"}
    # The thief's script tried everything, and got nothing: not by any way, nor by a redirect.
    assert rendered["/thief"].count("tried") == 4
    assert "secret" not in rendered["/thief"]
    assert {address for address, _, _ in site.asked} == {"127.0.0.1"}
    assert {method for _, method, _ in site.asked} == {"GET"}
    assert site.datagrams == 0
    assert "/worker.js" not in {path for _, _, path in site.asked}


async def test_renderer_that_can_start_no_browser_any_more_ends(
    amqp: Amqp, amqp_url: str, database_url: str, crawler_pool: Pool
) -> None:
    async with scripted_site() as site, rendering_crawler(amqp_url, database_url, ends=1) as rendering:
        for number, path in enumerate(("/", "/item/1")):
            crawl = CrawlStart(
                job_id=UUID(int=number), revision=1, seeds=(site.url + path,), options=CrawlOptions(render="browser")
            )
            await send(amqp, COMMANDS, event_of(crawl, source="x", subject=crawl.job_id))
            if number == 0:
                await until(lambda: crawler_pool.fetchval("SELECT count(*) FROM documents"), seconds=60)
                await done(crawler_pool)
                os.kill(await driver_of(rendering), signal.SIGKILL)
        async with asyncio.timeout(60):
            await rendering.wait()
    left = await crawler_pool.fetch("SELECT url FROM queue")

    assert [row["url"] for row in left] == [f"{site.url}/item/1"]


async def driver_of(process: Process) -> int:
    """The process through which a crawler starts browsers."""
    (driver,) = await children_of(process.pid, "run-driver")
    return int(driver)


async def read(mailbox: Mailbox, ledgers: dict[UUID, Ledger], crawl: CrawlStart) -> None:
    """Read events until nothing of a crawl is open."""
    ledger = ledgers[crawl.job_id]
    while not ledger.starts or ledger.open:
        for message in await mailbox.receive(seconds=90):
            for event in decode(message.body, message.content_type, message.type):
                assert not isinstance(event, Malformed)
                ledgers[event.data.parent_job_id].read(event.data)
