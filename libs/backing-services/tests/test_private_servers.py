"""Real servers: started, killed, restarted, left behind."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aio_pika
import asyncpg
import pytest
from tallyho_backing_services import BackingServices, Server, open_backing_services
from tallyho_backing_services.downloads import postgres_from_wheel
from tallyho_backing_services.errors import ServerFailedError
from tallyho_backing_services.postgresql import start_postgres
from tallyho_backing_services.processes import Stat, descendants, is_running
from tallyho_backing_services.rabbitmq import RabbitInstallation, start_rabbitmq
from tallyho_backing_services.run_folder import open_run_folder, read_record

LISTEN = "0A"
OWNER = """
import sys, threading
from tallyho_backing_services import open_backing_services
with open_backing_services(lambda line: print(line, file=sys.stderr)) as services:
    print(services.run.path, flush=True)
    threading.Event().wait()
"""


def ignore(line: str) -> None:
    """Report to nobody."""


@pytest.fixture(scope="module")
def services() -> Iterator[BackingServices]:
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("AMQP_URL", raising=False)
        environment.delenv("DATABASE_URL", raising=False)
        with open_backing_services() as started:
            yield started


async def query(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def publish(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key="kept")


async def consume(url: str) -> bytes:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue("kept")
        message = await queue.get(timeout=30)
        await message.ack()
        return message.body


def listening_addresses(pids: set[int]) -> set[str]:
    """Return the addresses, as the kernel writes them, on which these processes listen."""
    inodes = set()
    for pid in pids:
        with suppress(OSError):  # a process that has ended meanwhile, or one of its files
            for file in list(Path(f"/proc/{pid}/fd").iterdir()):
                with suppress(OSError):
                    inodes.add(str(file.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == LISTEN and row[9] in inodes}


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_committed_row_survives_a_restart_of_the_database(services: BackingServices, end: str) -> None:
    await query(services.database_url, "CREATE TABLE IF NOT EXISTS kept (end_ text)")
    await query(services.database_url, f"INSERT INTO kept VALUES ('{end}')")
    await restart(services.database, end)

    assert await query(services.database_url, f"SELECT count(*) FROM kept WHERE end_ = '{end}'") == 1


async def test_confirmed_message_survives_a_stop_and_a_kill_of_the_broker(services: BackingServices) -> None:
    # In this order: RabbitMQ 3.10 loses its way to a quorum queue that is killed in the first second of its life.
    for end in ("stop", "kill"):
        await publish(services.amqp_url)
        await restart(services.broker, end)

        assert await consume(services.amqp_url) == b"kept"


async def restart(server: Server, end: str) -> None:
    await asyncio.to_thread(getattr(server, end))
    assert not server.running
    await asyncio.to_thread(server.start)
    assert server.running


async def test_database_syncs_what_it_commits(services: BackingServices) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await query(services.database_url, f"SHOW {setting}") == "on"


async def test_database_asks_for_its_password(services: BackingServices) -> None:
    user, _, rest = services.database_url.removeprefix("postgresql://").partition(":")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await query(f"postgresql://{user}:guess@{rest.partition('@')[2]}", "SELECT 1")


def test_servers_listen_on_loopback_only(services: BackingServices) -> None:
    ours = {process.pid for process in descendants(os.getpid())}

    addresses = listening_addresses(ours)

    assert "0100007F" in addresses
    assert addresses <= {"0100007F", "00000000000000000000000001000000"}


def test_started_server_is_left_alone_by_a_second_start(services: BackingServices) -> None:
    services.database.start()

    assert services.database.running


async def test_second_run_neither_harms_nor_shares_the_first(services: BackingServices, cache: Path) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AMQP_URL", services.amqp_url)
        with open_backing_services() as second:
            assert second.database_url != services.database_url
            assert await query(second.database_url, "SELECT 1") == 1

    assert await query(services.database_url, "SELECT 1") == 1


async def test_next_start_ends_the_servers_of_a_killed_owner(cache: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder = Path((await asyncio.to_thread(owner.stdout.readline)).strip())
        recorded = [read_record(record) for record in (folder / "processes").iterdir()]
        servers = [server for server in recorded if server is not None]
        orphans = [process for server in servers for process in (server, *descendants(server.pid))]
        owner.kill()
    assert any(is_running(orphan) for orphan in orphans)

    with open_run_folder(cache, ignore):
        pass

    assert running(orphans) == []
    assert not folder.exists()


def running(processes: list[Stat]) -> list[Stat]:
    return [process for process in processes if is_running(process)]


async def test_postgres_of_the_wheel_serves(cache: Path) -> None:
    with open_run_folder(cache, ignore) as run:
        installation = postgres_from_wheel(run, cache, ignore)
        server = start_postgres(run, installation)

        assert await query(server.url, "SHOW server_version_num") >= "180000"  # type: ignore[operator]


def test_server_that_does_not_start_shows_the_end_of_its_log(cache: Path) -> None:
    script = cache / "rabbitmq-server"
    script.write_text("#!/bin/sh\necho 'no memory left'\nexit 1\n")
    script.chmod(0o755)
    (cache / "epmd").symlink_to("/bin/true")

    with (
        open_run_folder(cache, ignore) as run,
        pytest.raises(ServerFailedError, match=r"did not start[^!]*no memory left"),
    ):
        start_rabbitmq(run, RabbitInstallation(script, cache))
