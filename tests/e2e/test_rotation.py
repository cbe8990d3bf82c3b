"""Passwords change while a crawl is at work, as docs/operations.md says: in two places, then the service is rolled."""

import asyncio
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import pytest
from crawling import check_count, check_every_state
from sites import made_up_site
from tallyho import JobStatus, Tallyho
from tallyho.services import ServiceSpec
from tallyho.system import ROLES, Addresses, Plan, System, SystemOptions, plan_system, running_system
from tallyho_backing_services.accounts import as_user
from tallyho_backing_services.servers import PrivateServer
from tallyho_messaging.topology import DEAD_LETTERS

PAGES = 200
LATENCY = 1.0  # seconds a page: the crawl is at work until all has been changed
STOP_SECONDS = 30.0  # as its pod has
SECRETS = ("AMQP_URL", "DATABASE_URL")
REFUSED = re.compile(rb"password authentication failed|ACCESS_REFUSED", re.I)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the Secrets: a file for each service and secret, which its replicas read when they start."""
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def system(secrets: Path) -> Iterator[System]:
    def plan(options: SystemOptions, ports: Sequence[int], addresses: Addresses) -> Plan:
        planned = plan_system(options, ports, addresses)
        return replace(planned, services=[from_files(spec, secrets) for spec in planned.services])

    options = SystemOptions(crawlers=2, trackers=2, gateways=1, allow_private_addresses=True)
    with running_system(options, report=print, plan=plan) as system:
        if not isinstance(system.backing.broker, PrivateServer) or not isinstance(
            system.backing.database, PrivateServer
        ):
            pytest.skip("passwords are changed on private servers only")
        yield system


def from_files(spec: ServiceSpec, secrets: Path) -> ServiceSpec:
    """The same service, which finds its addresses in files."""
    env = dict(spec.env)
    for secret in SECRETS:
        if url := env.pop(secret, None):
            file = secrets / f"{spec.name.rpartition('-')[0]}-{secret}"
            file.write_text(url)
            env[f"{secret}_FILE"] = str(file)
    return replace(spec, env=env)


async def change_at_the_broker(system: System, service: str, password: str) -> None:
    """Change a user's password, and end its connections, so that nobody lives on what was checked once."""
    broker = system.backing.broker
    assert isinstance(broker, PrivateServer)
    tool = Path(broker.program.argv[0]).with_name("rabbitmqctl")
    for command in (["change_password", service, password], ["close_all_user_connections", service, "rotated"]):
        run = partial(subprocess.run, [tool, "-q", *command], env=dict(broker.program.env), check=True)
        await asyncio.to_thread(run)


async def change_at_the_database(system: System, service: str, password: str) -> None:
    """The same for a service's role."""
    role = ROLES[service]
    connection = await asyncpg.connect(system.database_url)
    await connection.execute(f"ALTER ROLE {role} PASSWORD '{password}'")
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role)
    await connection.close()


async def rotate(system: System, secrets: Path, secret: str, service: str) -> None:
    """Change a service's password at the server, let all replicas be refused, change the Secret, and roll."""
    password = token_hex(16)
    replicas = [replica for name, replica in system.services.items() if name.startswith(service)]
    said_before = [replica.log.stat().st_size for replica in replicas]
    await {"AMQP_URL": change_at_the_broker, "DATABASE_URL": change_at_the_database}[secret](system, service, password)
    for replica, said in zip(replicas, said_before, strict=True):
        while replica.running and len(REFUSED.findall(replica.log.read_bytes()[said:])) < 3:
            await asyncio.sleep(0.1)  # a log can't be awaited
        assert replica.running  # and tries again
    file = secrets / f"{service}-{secret}"
    parts = urlsplit(file.read_text())
    file.write_text(as_user(parts.geturl(), parts.username or "", password))
    for replica in replicas:
        await asyncio.to_thread(replica.stop, STOP_SECONDS)
        replica.start()
        await asyncio.to_thread(replica.await_ready)


@pytest.mark.parametrize(
    ("secret", "services"),
    [("AMQP_URL", ("crawler", "job-tracker", "ws-gateway")), ("DATABASE_URL", ("crawler", "job-tracker"))],
)
async def test_password_changes_under_a_crawl_that_counts_exactly(
    system: System, secrets: Path, secret: str, services: Sequence[str]
) -> None:
    rotated_while: list[JobStatus] = []
    with made_up_site(PAGES, latency=LATENCY) as site:
        async with Tallyho(system.url, first_patience=60) as client, asyncio.timeout(240):
            job_id = (await client.create_job(site)).job_id
            while not (await client.job(job_id)).document_count:
                await asyncio.sleep(0.1)  # until it is at work
            for service in services:
                await rotate(system, secrets, secret, service)
                rotated_while.append((await client.job(job_id)).status)
            states = [state async for state in client.watch(job_id)]

    assert rotated_while[0] is JobStatus.RUNNING
    check_every_state(states)
    await check_count(system.url, system.database_url, states, PAGES)
    assert await dead_letters(system) == 0


async def dead_letters(system: System) -> int:
    async with await aio_pika.connect(system.amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(DEAD_LETTERS, passive=True)
        return queue.declaration_result.message_count or 0
