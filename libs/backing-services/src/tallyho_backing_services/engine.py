"""The Docker engine of this machine, if one answers."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from testcontainers.core.docker_client import DockerClient

DEFAULT_SOCKET = Path("/var/run/docker.sock")
CONFIGURATIONS = (Path(".docker/config.json"), Path(".testcontainers.properties"))
RUN_LABEL = "tallyho.run"  # names the run folder, so that the containers of a killed run are found
ANSWER_TIMEOUT = 2.0  # seconds
CALL_TIMEOUT = 120  # seconds; stopping a server in order takes its time


@contextmanager
def local_engine() -> Iterator["DockerClient | None"]:
    """Yield a client of the engine, or None when none answers; one on another machine is none."""
    address = _address()
    if address is None or not _answers(address):
        yield None
        return
    from testcontainers.core.docker_client import DockerClient

    client = DockerClient(timeout=CALL_TIMEOUT)
    try:
        yield client if client.host() in ("localhost", "127.0.0.1") else None
    finally:
        client.client.close()


def remove_containers(run_name: str) -> int | None:
    """Remove the containers of a run and their data, and return how many there were; None when no engine answers."""
    with local_engine() as engine:
        if engine is None:
            return None
        containers = engine.client.containers.list(all=True, filters={"label": f"{RUN_LABEL}={run_name}"})
        for container in containers:
            container.remove(force=True, v=True)
        return len(containers)


def _address() -> str | None:
    """Return where an engine would be; the library that knows all the ways to say so is slow to import."""
    told = "DOCKER_HOST" in os.environ or any((Path.home() / name).exists() for name in CONFIGURATIONS)
    if told:
        from testcontainers.core.docker_client import get_docker_host

        if host := get_docker_host():
            return host
    return f"unix://{DEFAULT_SOCKET}" if DEFAULT_SOCKET.exists() else None


def _answers(address: str) -> bool:
    """Tell whether somebody listens there, more quietly than the library would."""
    parts = urlsplit(address)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(ANSWER_TIMEOUT)
                probe.connect(parts.path)
        else:
            socket.create_connection((parts.hostname or "localhost", parts.port or 2375), ANSWER_TIMEOUT).close()
    except OSError:
        return False
    return True
