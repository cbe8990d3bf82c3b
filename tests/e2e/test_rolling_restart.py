"""Every service is rolled under load as a Deployment rolls its pods: one replica at a time."""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID

import aiohttp
import pytest
from crawling import check_count, check_every_state
from sites import made_up_site
from tallyho import JobState, JobStatus, Tallyho
from tallyho.system import System, SystemOptions, running_system

PAGES = 300
LATENCY = 0.5  # seconds a page: the crawl is at work until all have been rolled
WATCHERS = 20
ASKERS = 4
TOLD_SECONDS = 4.0
LATE_SECONDS = 15.0  # what coming back may take a busy machine beyond that
SERVICES = ("ws-gateway", "job-tracker", "crawler")


@dataclass
class Balancer:
    """What stands before the gateways: it sends nobody to one that is being taken away."""

    serving: list[str]
    on_the_way: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def pick(self) -> Iterator[str]:
        """Where to connect to, in this block."""
        url = random.choice(self.serving)
        self.on_the_way[url] += 1
        try:
            yield url
        finally:
            self.on_the_way[url] -= 1

    async def take_away(self, url: str) -> None:
        """Send nobody there any more; returns when those who were sent have arrived: a preStop waits so long."""
        self.serving.remove(url)
        while self.on_the_way[url]:
            await asyncio.sleep(0.01)


@dataclass
class Seen:
    """What the clients met."""

    told: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)
    refused_without_advice: int = 0
    finals: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    options = SystemOptions(crawlers=2, trackers=2, gateways=2, allow_private_addresses=True)
    with running_system(options, report=print) as system:
        yield system


async def roll(system: System, balancer: Balancer, service: str) -> None:
    """Stop each replica in order and start it again, the next one only when it is ready."""
    urls = dict(zip([name for name in system.services if name.startswith("ws-gateway")], system.urls, strict=True))
    for name, replica in system.services.items():
        if not name.startswith(service):
            continue
        if url := urls.get(name):
            await balancer.take_away(url)
        await asyncio.to_thread(replica.stop)
        replica.start()
        await asyncio.to_thread(replica.await_ready)
        if url:
            balancer.serving.append(url)


async def watch(balancer: Balancer, job_id: UUID, seen: Seen) -> None:
    """Follow a job's states to the last one, and come back when and where one is told to; note how late that was."""
    due: float | None = None
    async with aiohttp.ClientSession() as session:
        while True:
            with balancer.pick() as url:
                connected = await session.ws_connect(f"{url}/v1/ws")
            async with connected as ws:
                await ws.send_json({"type": "subscribe", "payload": {"job_id": str(job_id)}})
                while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                    frame = json.loads(message.data)
                    if due is not None and frame["type"] == "subscribed":
                        seen.late.append(monotonic() - due)
                        due = None
                    if frame["type"] == "parent_job_progress" and JobStatus(frame["payload"]["status"]).is_terminal:
                        seen.finals.append(frame["payload"]["document_count"])
                        return
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1012)
            seen.told.append(json.loads(message.extra or "")["retry_ms"] / 1000)
            due = monotonic() + seen.told[-1]
            await asyncio.sleep(seen.told[-1])


async def ask(balancer: Balancer, job_id: UUID, seen: Seen) -> None:
    """Read the job and its documents, again and again, each time over a new connection."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        while True:
            for path in ("", "/documents", "/pages"):
                with balancer.pick() as url:
                    response = await session.get(f"{url}/v1/jobs/{job_id}{path}")
                async with response:
                    await response.read()
                    seen.answers[response.status] = seen.answers.get(response.status, 0) + 1
                    if response.status != 200 and "Retry-After" not in response.headers:
                        seen.refused_without_advice += 1


@asynccontextmanager
async def clients(balancer: Balancer, job_id: UUID, seen: Seen) -> AsyncIterator[None]:
    """Many who watch and some who ask; what goes wrong with one of them is raised."""
    async with asyncio.TaskGroup() as everybody:
        watching = [everybody.create_task(watch(balancer, job_id, seen)) for _ in range(WATCHERS)]
        asking = [everybody.create_task(ask(balancer, job_id, seen)) for _ in range(ASKERS)]
        yield
        await asyncio.wait(watching)
        for task in asking:
            task.cancel()


async def test_rolling_restart_of_every_service_loses_nothing_and_nobody(system: System) -> None:
    balancer, seen = Balancer(list(system.urls)), Seen()
    rolled_while: list[JobStatus] = []
    may_end = threading.Event()
    with made_up_site(PAGES, latency=LATENCY, may_end=may_end) as site:
        async with Tallyho(system.url, first_patience=60) as client, asyncio.timeout(240):
            job = await client.create_job(site)
            async with clients(balancer, job.job_id, seen):
                for service in SERVICES:
                    rolled_while.append((await client.job(job.job_id)).status)
                    if service == "crawler":
                        may_end.set()  # who fetches the last page finishes it before it stops
                    await roll(system, balancer, service)
            states: list[JobState] = [state async for state in client.watch(job.job_id)]

    assert not any(status.is_terminal for status in rolled_while)
    check_every_state(states)
    await check_count(system.url, system.database_url, states, PAGES)
    assert seen.finals == [PAGES] * WATCHERS
    assert len(seen.late) >= WATCHERS
    assert max(seen.told) <= TOLD_SECONDS
    assert max(seen.late) < LATE_SECONDS
    assert seen.answers.keys() <= {200, 503}
    assert seen.refused_without_advice == 0
