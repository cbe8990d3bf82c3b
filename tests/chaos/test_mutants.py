"""Builds that are broken on purpose must not survive the suite, and the real one must survive what kills them."""

import asyncio
import signal
from random import Random

import pytest
from chaos.broker_faults import unbound
from chaos.crawls import Crawl
from chaos.faults import Inject
from chaos.message_faults import repeated
from chaos.stage import Stage, open_stage
from chaos.verdict import Verdict, reach_verdict
from sites import made_up_site
from tallyho_backing_services import BackingServices

PAGES = 150
LATENCY = 0.5  # seconds a page: the crawl is at work until the last fault is lifted


async def killed_before_the_commit(stage: Stage, _: Random) -> None:
    """Kill both trackers while somebody's lock keeps them from committing what they have received."""
    async with stage.sql() as connection, connection.transaction():
        await connection.execute("LOCK TABLE job_tracker.jobs IN EXCLUSIVE MODE")
        await asyncio.sleep(1)
        for service in stage.replicas("job-tracker"):
            stage.signal(service, signal.SIGKILL)


async def verdict_on(backing: BackingServices, mutant: str, *faults: Inject, patience: float = 5) -> Verdict:
    """What the suite finds in a build after a crawl that met `faults`; only a broken one is worth little patience."""
    async with open_stage(backing, crawlers=1, mutant=mutant) as stage:
        with made_up_site(PAGES, latency=LATENCY) as site:
            crawl = Crawl(PAGES)
            crawling = asyncio.create_task(crawl.run(stage, site, patience=patience))
            while not crawling.done() and not any(state.document_count for state in crawl.states):
                await asyncio.sleep(0.05)  # a broken build may fail before it has counted anything
            for fault in faults:
                await fault(stage, Random(1))
            await crawling
        return await reach_verdict(stage, [crawl])


async def test_real_build_survives_what_the_mutants_do_not(backing: BackingServices, amqp_url: str) -> None:
    verdict = await verdict_on(backing, "", killed_before_the_commit, repeated, unbound, patience=60)

    assert verdict.problems == []


@pytest.mark.parametrize(
    ("mutant", "fault"),
    [("acknowledge_before_the_commit", killed_before_the_commit), ("publish_without_outbox", unbound)],
)
async def test_build_that_loses_events_is_found_to_lose_documents(
    backing: BackingServices, amqp_url: str, mutant: str, fault: Inject
) -> None:
    verdict = await verdict_on(backing, mutant, fault)

    # All of them would be lost by a build that does not work at all, too.
    assert 0 < sum(verdict.lost.values()) < PAGES


async def test_build_that_counts_messages_is_found_to_count_twice(backing: BackingServices, amqp_url: str) -> None:
    verdict = await verdict_on(backing, "count_messages", repeated)

    assert sum(verdict.twice.values()) > 0


async def test_build_that_keeps_the_count_by_read_modify_write_is_found_out(
    backing: BackingServices, amqp_url: str
) -> None:
    verdict = await verdict_on(backing, "read_modify_write")

    assert verdict.problems
    assert verdict.documents > 0  # it works, and counts wrong
