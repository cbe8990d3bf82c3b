"""The client library at a real system whose parts are killed while it is used."""

import asyncio
import hashlib
import os
import sys
from collections.abc import Iterator
from uuid import UUID

import pytest
from crawling import check_every_state
from sites import made_up_site
from tallyho import JobState, JobStatus, NotAllowed, NotAuthenticated, SyncTallyho, Tallyho
from tallyho.services import Service, ServiceSpec
from tallyho.system import System, SystemOptions, running_system
from tallyho_backing_services import NotControllableError

PAGES = 300
LATENCY = 0.05  # seconds a page: the crawl is still at work when something is killed


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """One of each, so that nobody takes the place of what is killed; only the tests start it again."""
    with running_system(SystemOptions(allow_private_addresses=True), report=print) as system:
        yield system


def kill_and_start(system: System, victim: str) -> None:
    """Kill it as a crash would, then start it again, and return when it serves."""
    if victim in system.services:
        system.services[victim].restart()
        return
    server = {"RabbitMQ": system.backing.broker, "PostgreSQL": system.backing.database}[victim]
    try:
        server.kill()
    except NotControllableError as error:
        pytest.skip(str(error))
    server.start()


async def ordinals_live(client: Tallyho, job_id: UUID) -> list[int]:
    return [document.ordinal async for document in client.documents(job_id, live=True)]


@pytest.mark.parametrize("victim", ["ws-gateway-1", "job-tracker-1", "crawler-1", "RabbitMQ", "PostgreSQL"])
async def test_watch_and_live_documents_survive_the_death_of(system: System, victim: str) -> None:
    states: list[JobState] = []
    killing: asyncio.Task[None] | None = None
    with made_up_site(PAGES, latency=LATENCY) as site:
        async with Tallyho(system.url) as client, asyncio.timeout(120):
            job = await client.create_job(site)
            following = asyncio.create_task(ordinals_live(client, job.job_id))
            async for state in client.watch(job.job_id):
                states.append(state)
                if killing is None and state.document_count >= 30:
                    killing = asyncio.create_task(asyncio.to_thread(kill_and_start, system, victim))
            ordinals = await following
    assert killing is not None
    await killing

    check_every_state(states)
    assert (states[-1].status, states[-1].document_count) == (JobStatus.COMPLETED, PAGES)
    assert ordinals == list(range(1, PAGES + 1))


def test_blocking_iterator_has_every_ordinal_once_though_the_gateway_is_killed_again_and_again(
    system: System,
) -> None:
    ordinals = []
    with made_up_site(PAGES, latency=LATENCY) as site, SyncTallyho(system.url) as client:
        job = client.create_job(site)
        for document in client.documents(job.job_id, live=True):
            ordinals.append(document.ordinal)
            if document.ordinal in (20, 80, 140):
                kill_and_start(system, "ws-gateway-1")
        again = [document.ordinal for document in client.documents(job.job_id, after=PAGES - 10)]

    assert ordinals == list(range(1, PAGES + 1))
    assert again == list(range(PAGES - 9, PAGES + 1))


@pytest.fixture(scope="module")
def gateway_with_keys(system: System) -> Iterator[str]:
    """The address of one more gateway, which knows the key `secret` for reading and `master` for everything."""
    keys = [f"{secret}:{scopes}:{digest(secret)}" for secret, scopes in (("secret", "read"), ("master", "read,write"))]
    env = {"PATH": os.defpath, "AMQP_URL": system.amqp_url, "GATEWAY_PORT": "0", "GATEWAY_KEYS": " ".join(keys)}
    service = Service(ServiceSpec("ws-gateway-keys", [sys.executable, "-m", "ws_gateway"], env), system.backing.run)
    service.start()
    service.await_ready()
    yield service.ready_line.partition("url=")[2].split()[0]
    service.stop()


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


async def test_keys_are_sent_and_refusals_are_told_apart(system: System, gateway_with_keys: str) -> None:
    async with Tallyho(system.url) as client:
        job_id = (await client.create_job("http://127.0.0.1:1/")).job_id
    async with Tallyho(gateway_with_keys, api_key="wrong") as client:
        with pytest.raises(NotAuthenticated):
            await client.job(job_id)
        with pytest.raises(NotAuthenticated):
            await anext(client.watch(job_id))
    async with Tallyho(gateway_with_keys, api_key="secret") as client:
        states = [state async for state in client.watch(job_id)]
        with pytest.raises(NotAllowed):
            await client.cancel(job_id)
    async with Tallyho(gateway_with_keys, api_key="master") as client:
        cancelled = await client.cancel(job_id)

    assert states[-1].status is cancelled.status is JobStatus.FAILED
