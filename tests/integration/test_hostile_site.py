"""A crawl of a site made to harm it: the job ends within its budgets, every URL in its ledger, memory bounded."""

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from uuid import UUID, uuid4

from crawler import urls
from frontier_checks import Ledger
from hostile_site import MAX_BODY_BYTES, MB, PAGES, PRIVATE, hostile_site
from mailboxes import Mailbox, open_mailbox_of, send
from tallyho_contracts.crawls import CrawlOptions, CrawlStart
from tallyho_contracts.pages import Outcome
from tallyho_contracts.registry import COMMANDS
from tallyho_messaging.connection import Amqp
from tallyho_messaging.topology import TRACKER_EVENTS
from tallyho_messaging.wire import Malformed, decode, event_of

HOST_PAGES = 700
SEVERAL = {"/pdf-bomb": "one of several"}
MOST_MEMORY = 200 * MB
MOST_SECONDS = 240.0  # on a machine that has other things to do; alone it takes 15


@asynccontextmanager
async def crawler_process(amqp_url: str, database_url: str) -> AsyncIterator[Process]:
    """A crawler as it is deployed, which may go to this machine's address but to no other that is private."""
    settings = {
        "ALLOWED_NETWORKS": json.dumps(["127.0.0.1/32"]),
        "FETCH_TIMEOUT": "6",  # twice for each page that has no end; the others need it on a busy machine
        "MAX_ATTEMPTS": "2",
        "MAX_BODY_BYTES": str(MAX_BODY_BYTES),
    }
    environment = os.environ | {"AMQP_URL": amqp_url, "DATABASE_URL": database_url}
    environment |= {f"CRAWLER_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "crawler", env=environment)
    try:
        yield process
        process.terminate()
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def read_to_the_end(mailbox: Mailbox, job_id: UUID) -> Ledger:
    """The job's ledger, once nothing is open in it any more."""
    ledger = Ledger()
    while not ledger.starts or ledger.open:
        for message in await mailbox.receive(seconds=60):
            for event in decode(message.body, message.content_type, message.type):
                assert not isinstance(event, Malformed)
                assert event.data.parent_job_id == job_id
                ledger.read(event.data)
    return ledger


def most_memory(process: Process) -> int:
    """The most memory that the process ever had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


async def test_hostile_site_costs_no_more_than_a_job_may_cost(amqp: Amqp, amqp_url: str, database_url: str) -> None:
    async with hostile_site() as site, open_mailbox_of(amqp_url, TRACKER_EVENTS) as mailbox:
        started = monotonic()
        options = CrawlOptions(same_site=False, max_host_pages=HOST_PAGES)
        crawl = CrawlStart(job_id=uuid4(), revision=1, seeds=(f"{site.url}/",), options=options)
        async with crawler_process(amqp_url, database_url) as process:
            await send(amqp, COMMANDS, event_of(crawl, source="job-tracker", subject=crawl.job_id))
            ledger = await read_to_the_end(mailbox, crawl.job_id)
            seconds, memory = monotonic() - started, most_memory(process)
        ended = {page.url.removeprefix(site.url): page for page in ledger.finished.values()}
        hosts = Counter(urls.site(page.url) for page in ledger.known.values())
        skipped = sum((Counter(page.skipped_links) for page in ledger.finished.values()), Counter())
        print(f"{len(ended)} pages, {seconds:.1f} s, {memory // MB} MB, {ledger.reasons}, {skipped}")

        # Each page that was met has one end, and one reason unless it is a document.
        assert not ledger.open
        assert len(ended) == len(ledger.known) == len(ledger.finished)
        assert all((page.outcome is Outcome.COMPLETED) == (page.document_id is not None) for page in ended.values())
        assert all(page.reason for page in ended.values() if page.outcome is not Outcome.COMPLETED)
        # Each of the pages that are known beforehand has the end that it must have.
        assert {path: ended[path].reason if not ended[path].document_id else None for path in PAGES} | SEVERAL == {
            path: reason for path, (reason, _) in PAGES.items()
        } | SEVERAL
        # Whether its time or its memory is up first depends on the machine.
        assert ended["/pdf-bomb"].reason in ("parser_crash", "parser_memory", "parser_timeout")
        assert {ended[path].reason for path in ("/silence", "/drip")} == {"timeout"}
        assert ended["/hang-up"].reason == "connection"
        assert ended["/announcements"].reason == "bad_response"
        # Nothing private was reached, wherever the site pointed to.
        assert ledger.reasons["private_address"] == len(PRIVATE)
        assert site.secrets_given_away == 0
        # What has no end was ended.
        assert "/forever/11" not in ended
        assert skipped["trap"] > 1_000
        assert not any("circles/circles/circles" in path for path in ended)
        assert max(path.count("/") for path in ended) <= 30
        assert hosts[urls.site(f"{site.url}/")] == HOST_PAGES
        assert seconds < MOST_SECONDS
        assert memory < MOST_MEMORY
