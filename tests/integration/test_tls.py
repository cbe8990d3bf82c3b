"""TLS to a broker and a database whose certificates are of a private authority, and secrets from files."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import trustme
from tallyho_backing_services import free_port
from tallyho_backing_services.cache import cache_folder
from tallyho_backing_services.downloads import postgres_from_wheel, rabbitmq_from_debian
from tallyho_backing_services.postgresql import find_postgres, start_postgres, unprivileged_user
from tallyho_backing_services.rabbitmq import find_rabbitmq, start_rabbitmq
from tallyho_backing_services.run_folder import RunFolder, open_run_folder
from tallyho_messaging.connection import open_amqp

TLS_ONLY = """\
listeners.ssl.default = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
"""


@dataclass(frozen=True)
class Servers:
    """A broker and a database that speak TLS, with certificates for 127.0.0.1 and for no name."""

    amqp: str
    database: str
    folder: Path

    def amqp_url(self, *, host: str = "127.0.0.1", ca: str = "ca.pem") -> str:
        """The broker's address, as an operator sets it."""
        return f"{_at(self.amqp, host)}?cafile={self.folder}/{ca}"

    def database_url(self, *, host: str = "127.0.0.1", ca: str = "ca.pem") -> str:
        """The database's address, as an operator sets it."""
        return f"{_at(self.database, host)}?sslmode=verify-full&sslrootcert={self.folder}/{ca}"


def _at(url: str, host: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace("127.0.0.1", host)))


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    cache = cache_folder()
    with open_run_folder(cache, print) as run:
        folder = run.path / "tls"
        _issue_certificates(folder)
        port = free_port()
        rabbitmq = find_rabbitmq() or rabbitmq_from_debian(run, cache, print)
        broker = start_rabbitmq(run, rabbitmq, configuration=TLS_ONLY.format(port=port, folder=folder))
        database = _start_database(run, folder, cache)
        parts = urlsplit(broker.url)
        amqp = urlunsplit(parts._replace(scheme="amqps", netloc=f"{parts.netloc.rpartition(':')[0]}:{port}"))
        yield Servers(amqp, database, folder)


def _issue_certificates(folder: Path) -> None:
    folder.mkdir()
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "another-ca.pem")
    server.private_key_pem.write_to_path(folder / "server.key")
    for blob in server.cert_chain_pems:
        blob.write_to_path(folder / "server.pem", append=True)
    for file in folder.iterdir():
        file.chmod(0o600 if file.suffix == ".key" else 0o644)


def _start_database(run: RunFolder, folder: Path, cache: Path) -> str:
    own = run.path / "database-tls"  # it insists on being the owner of its key
    own.mkdir()
    for name in ("server.pem", "server.key"):
        (own / name).write_bytes((folder / name).read_bytes())
        (own / name).chmod(0o600)
        if user := unprivileged_user():
            shutil.chown(own / name, user)
    installation = find_postgres() or postgres_from_wheel(run, cache, print)
    settings = {"ssl": "on", "ssl_cert_file": f"{own}/server.pem", "ssl_key_file": f"{own}/server.key"}
    return start_postgres(run, installation, settings=settings).url


async def run_module(*arguments: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments),
        env={"PATH": os.defpath, **environment},
        stderr=asyncio.subprocess.STDOUT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, said.decode()


@asynccontextmanager
async def running(*arguments: str, **environment: str) -> AsyncIterator[None]:
    """A service that has said that it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments), env={"PATH": os.defpath, **environment}, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr
    said: list[bytes] = []
    try:
        async with asyncio.timeout(30):
            while not said or not said[-1].rstrip().endswith(b"ready"):
                said.append(await process.stderr.readline())
                assert said[-1], b"".join(said).decode()
        yield
    finally:
        process.terminate()
        await process.communicate()


async def test_service_with_secrets_in_files_speaks_tls_to_broker_and_database(servers: Servers) -> None:
    secrets = {"AMQP_URL": servers.amqp_url(), "DATABASE_URL": servers.database_url()}
    for name, text in secrets.items():
        (servers.folder / name).write_text(f"{text}\n")
    files = {f"{name}_FILE": str(servers.folder / name) for name in secrets}
    prepared = await run_module("tallyho_messaging", "declare", AMQP_URL_FILE=files["AMQP_URL_FILE"])
    migrated = await run_module("job_tracker", "migrate", DATABASE_URL_FILE=files["DATABASE_URL_FILE"])
    async with running("job_tracker", **files):
        connection = await asyncpg.connect(servers.database_url())
        encrypted = await connection.fetch(
            "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1",
            "tallyho job_tracker",
        )
        await connection.close()

    assert prepared == (0, "")
    assert migrated[0] == 0, migrated[1]
    assert {row["ssl"] for row in encrypted} == {True}


@pytest.mark.parametrize("wrong", [{"ca": "another-ca.pem"}, {"host": "localhost"}])
async def test_server_that_is_not_whom_it_should_be_is_refused(servers: Servers, wrong: dict[str, str]) -> None:
    declared = await run_module("tallyho_messaging", "declare", AMQP_URL=servers.amqp_url(**wrong))
    migrated = await run_module("job_tracker", "migrate", DATABASE_URL=servers.database_url(**wrong))

    assert declared[0] == 2
    assert declared[1].startswith("cannot declare the topology: ")
    assert "certificate verify failed" in declared[1]
    assert migrated[0] == 1
    assert "certificate verify failed" in migrated[1]


async def test_service_waits_rather_than_tell_its_password_to_a_broker_that_it_can_not_trust(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    opening = open_amqp(servers.amqp_url(ca="another-ca.pem"), name="test")
    connecting = asyncio.create_task(opening.__aenter__())
    async with asyncio.timeout(20):
        while caplog.text.count("certificate verify failed") < 2:
            assert not connecting.done()
            await asyncio.sleep(0.05)  # a log can't be awaited
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting

    assert str(urlsplit(servers.amqp).password) not in caplog.text


async def test_what_two_settings_say_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("amqp://x/")
    both = await run_module("ws_gateway", AMQP_URL="amqp://y/", AMQP_URL_FILE=f"{tmp_path}/url")
    missing = await run_module("ws_gateway", AMQP_URL_FILE=f"{tmp_path}/none")

    assert both == (2, "bad setting AMQP_URL_FILE: AMQP_URL is set, too\n")
    assert missing == (2, "bad setting AMQP_URL_FILE: can't be read: No such file or directory\n")
