"""An upgrade: of each service one replica writes as the first release did, the other as one that is still to come."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import aio_pika
import pytest
from crawling import check_count, check_every_state, crawl
from mailboxes import holds
from other_release import translated
from sites import made_up_site
from tallyho.services import ServiceSpec
from tallyho.system import Addresses, Plan, System, SystemOptions, plan_system, running_system
from tallyho_backing_services import BackingServices
from tallyho_contracts.registry import EVENTS
from tallyho_messaging.topology import DEAD_LETTERS

PAGES = 120
TESTS = Path(__file__).parents[1]


def upgraded(spec: ServiceSpec) -> ServiceSpec:
    """The same replica, of another release."""
    release = "newer" if spec.name.endswith("1") else "first"
    python, *module = spec.argv
    path = os.pathsep.join(filter(None, [str(TESTS), spec.env.get("PYTHONPATH")]))
    return ServiceSpec(
        spec.name, [python, "-m", "other_release", release, module[-1]], {**spec.env, "PYTHONPATH": path}
    )


@pytest.fixture
def system(
    backing: BackingServices, amqp_url: str, database_url: str, crawler_database_url: str, tracker_database_url: str
) -> Iterator[System]:
    def plan(options: SystemOptions, ports: Sequence[int], given: Addresses) -> Plan:
        roles = {"crawler": crawler_database_url, "job-tracker": tracker_database_url}
        usual = plan_system(options, ports, Addresses(given.amqp, database_url, given.amqp_of, roles))
        return replace(usual, services=[upgraded(spec) for spec in usual.services])

    options = SystemOptions(crawlers=2, trackers=2, gateways=2, allow_private_addresses=True)
    with running_system(options, backing=backing, plan=plan) as system:
        yield system


async def test_upgrade_with_two_releases_at_work_loses_nothing(
    system: System, amqp_url: str, database_url: str
) -> None:
    async with asyncio.timeout(200), await aio_pika.connect(amqp_url) as connection:
        heard = await (await connection.channel()).declare_queue(exclusive=True)
        await heard.bind(EVENTS, "page.finished.#")
        with made_up_site(PAGES, latency=0.05) as site:
            crawls = await asyncio.gather(*(crawl(url, site) for url in system.urls))
        for url, states in zip(system.urls, crawls, strict=True):
            check_every_state(states)
            await check_count(url, database_url, states, PAGES)
        bodies: list[bytes] = []
        while message := await heard.get(no_ack=True, fail=False):
            bodies.append(message.body)

    newer = [body for body in bodies if b'"added_later"' in body]
    first = [body for body in bodies if translated(body, "first") == body]
    assert newer
    assert first
    assert len(newer) + len(first) == len(bodies)
    assert await holds(amqp_url, DEAD_LETTERS, 0)
