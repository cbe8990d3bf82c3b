"""The crawler as the process that it is, beside another one that is better off."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from links import open_link
from mailboxes import send
from tallyho_contracts.crawls import CrawlCancel
from tallyho_contracts.registry import COMMANDS
from tallyho_messaging.connection import Amqp
from tallyho_messaging.wire import event_of
from tallyho_postgres.pool import Pool
from watched_site import until

JOBS = 12
HELD = 4


@asynccontextmanager
async def crawler(amqp_url: str, database_url: str) -> AsyncIterator[asyncio.StreamReader]:
    """A crawler that is ready; yields its log."""
    environment = os.environ | {"AMQP_URL": amqp_url, "DATABASE_URL": database_url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "crawler", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    try:
        await logged(process.stderr, "ready")
        yield process.stderr
    finally:
        process.kill()
        await process.communicate()


async def logged(log: asyncio.StreamReader, text: str) -> None:
    """Wait for a line that contains `text`."""
    async with asyncio.timeout(30):
        while text not in (line := (await log.readline()).decode()):
            assert line, "the process ended"


async def test_crawler_that_is_cut_off_from_the_database_keeps_few_commands_from_the_others(
    amqp: Amqp, crawler_amqp_url: str, crawler_database_url: str, crawler_pool: Pool
) -> None:
    async with open_link(crawler_database_url) as link, crawler(crawler_amqp_url, link.url) as log:
        link.cut()
        for _ in range(JOBS):
            cancel = CrawlCancel(job_id=uuid4(), revision=2)
            await send(amqp, COMMANDS, event_of(cancel, source="job-tracker", subject=cancel.job_id))
        await logged(log, "events queue=crawler.commands")
        async with crawler(crawler_amqp_url, crawler_database_url):

            async def are_obeyed(number: int = JOBS - HELD) -> bool:
                return bool(await crawler_pool.fetchval("SELECT count(*) >= $1 FROM jobs", number))

            await until(are_obeyed)
        await link.mend()
        await until(lambda: are_obeyed(JOBS))
