"""Servers in containers, where a Docker engine answers and has or can pull the images."""

import io
import secrets
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tallyho_backing_services import postgresql, rabbitmq
from tallyho_backing_services.accounts import ADMINISTRATOR, Accounts
from tallyho_backing_services.engine import RUN_LABEL, local_engine
from tallyho_backing_services.errors import BackingServicesError, ServerFailedError
from tallyho_backing_services.ports import free_port
from tallyho_backing_services.run_folder import RunFolder
from tallyho_backing_services.servers import START_TIMEOUT, STOP_TIMEOUT, Server

if TYPE_CHECKING:
    from testcontainers.core.docker_client import DockerClient

RABBITMQ_IMAGE = "rabbitmq:3-management"
POSTGRES_IMAGE = "postgres:15"


@dataclass(frozen=True)
class ContainerServer:
    """A server in a container of this run, published on 127.0.0.1 alone."""

    name: str
    url: str
    container_id: str
    answers: Callable[[], bool]
    run: RunFolder

    @property
    def running(self) -> bool:
        """Whether its container runs."""
        with self._container() as container:
            return bool(container.status == "running")

    def start(self) -> None:
        """Start the container, and return when the server answers."""
        with self._container() as container:
            container.start()
            deadline = time.monotonic() + START_TIMEOUT
            while not self.answers():
                container.reload()
                if container.status != "running" or time.monotonic() > deadline:
                    tail = container.logs(tail=15).decode(errors="replace").splitlines()
                    raise ServerFailedError(f"{self.name} did not start", tail)
                if self.run.closing.wait(0.1):
                    raise BackingServicesError("the run is being stopped")

    def stop(self) -> None:
        """Shut the server down in order."""
        with self._container() as container:
            container.stop(timeout=int(STOP_TIMEOUT))

    def kill(self) -> None:
        """End the server with SIGKILL."""
        with self._container() as container:
            if container.status == "running":
                container.kill()
                container.wait()

    def put(self, path: str, text: str) -> None:
        """Write a file into the container, for everybody to read."""
        content = text.encode()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
        with self._container() as container:
            container.put_archive("/", archive.getvalue())

    @contextmanager
    def _container(self) -> Iterator[Any]:
        with local_engine() as engine:
            if engine is None:
                raise BackingServicesError("the Docker engine no longer answers")
            yield engine.client.containers.get(self.container_id)


def start_rabbitmq(
    run: RunFolder, report: Callable[[str], None], accounts: Accounts, image: str = RABBITMQ_IMAGE
) -> Server | None:
    """Start a RabbitMQ; None where no engine answers or the image can't be had."""
    port, password = free_port(), secrets.token_hex(16)
    env = {"RABBITMQ_DEFAULT_USER": "tallyho", "RABBITMQ_DEFAULT_PASS": password}
    container_id = _create(image, env, {"5672/tcp": ("127.0.0.1", port)}, run, report)
    if container_id is None:
        return None
    url = f"amqp://tallyho:{password}@127.0.0.1:{port}/"
    server = ContainerServer("RabbitMQ", url, container_id, lambda: rabbitmq.answers(port), run)
    if accounts.definitions:
        definitions = accounts.definitions({ADMINISTRATOR: password, **accounts.users})
        server.put("/etc/rabbitmq/definitions.json", definitions)
        server.put("/etc/rabbitmq/conf.d/30-definitions.conf", "load_definitions = /etc/rabbitmq/definitions.json\n")
    server.start()
    return server


def start_postgres(run: RunFolder, report: Callable[[str], None], image: str = POSTGRES_IMAGE) -> Server | None:
    """Start a PostgreSQL; None where no engine answers or the image can't be had."""
    port, password = free_port(), secrets.token_hex(16)
    env = {"POSTGRES_USER": "tallyho", "POSTGRES_PASSWORD": password, "POSTGRES_DB": "postgres"}
    container_id = _create(image, env, {"5432/tcp": ("127.0.0.1", port)}, run, report)
    if container_id is None:
        return None
    url = f"postgresql://tallyho:{password}@127.0.0.1:{port}/postgres"
    server = ContainerServer("PostgreSQL", url, container_id, lambda: postgresql.answers(port), run)
    server.start()
    return server


def _create(
    image: str,
    env: Mapping[str, str],
    ports: Mapping[str, tuple[str, int]],
    run: RunFolder,
    report: Callable[[str], None],
) -> str | None:
    """Create a container, its image pulled if need be, and return its id."""
    with local_engine() as engine:
        if engine is None:
            return None
        from docker.errors import DockerException  # type: ignore[import-untyped]

        run.uses_containers()
        try:
            _pull(engine, image, run, report)
            labels = {RUN_LABEL: run.path.name}
            container = engine.create(image, environment=dict(env), ports=dict(ports), labels=labels)
        except (DockerException, OSError) as error:
            reason = " ".join(str(error).split())
            report(f"Docker can't run {image}, going on without: {reason[:200]}")
            return None
        return str(container.id)


def _pull(engine: "DockerClient", image: str, run: RunFolder, report: Callable[[str], None]) -> None:
    """Pull an image that the engine hasn't got; that it can't is found out when the container is created."""
    if any(image in present.tags for present in engine.client.images.list()):
        return
    report(f"Docker: pulling {image}")
    repository, _, tag = image.partition(":")
    for _ in engine.client.api.pull(repository, tag=tag, stream=True):
        if run.closing.is_set():
            raise BackingServicesError("the run is being stopped")
