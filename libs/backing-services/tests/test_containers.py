"""The third rung, where a Docker engine answers and has the images or can pull them."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from tallyho_backing_services import BackingServices, BackingServicesError, open_backing_services
from tallyho_backing_services.containers import POSTGRES_IMAGE, RABBITMQ_IMAGE
from tallyho_backing_services.engine import RUN_LABEL, local_engine
from tallyho_backing_services.ladder import Report


def skip_without_images(error: BackingServicesError) -> None:
    """Only what can't be had is no fault of ours."""
    if "or it can't be had" in str(error):
        pytest.skip(str(error))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers are asked for, whatever is installed."""
    with local_engine() as engine:
        if engine is None:
            pytest.skip("no Docker engine answers")
    monkeypatch.setenv("RABBITMQ_IMAGE", RABBITMQ_IMAGE)
    monkeypatch.setenv("POSTGRES_IMAGE", POSTGRES_IMAGE)


@pytest.fixture
def services(asked: None, said: list[str]) -> Iterator[BackingServices]:
    report: Report = said.append
    opening = open_backing_services(report)
    try:
        services = opening.__enter__()
    except BackingServicesError as error:
        skip_without_images(error)
        raise
    yield services
    opening.__exit__(None, None, None)


def containers_of(run_name: str) -> int:
    with local_engine() as engine:
        assert engine is not None
        return len(engine.client.containers.list(all=True, filters={"label": f"{RUN_LABEL}={run_name}"}))


async def test_servers_in_containers_keep_their_data_when_they_are_killed(
    services: BackingServices, said: list[str]
) -> None:
    connection = await asyncpg.connect(services.database_url)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    await connection.close()
    services.database.kill()
    was_running = services.database.running
    services.database.start()
    connection = await asyncpg.connect(services.database_url)
    kept = await connection.fetchval("SELECT number FROM kept")
    await connection.close()

    assert sorted(line for line in said if "rung 3" in line) == [
        f"PostgreSQL: a container of {POSTGRES_IMAGE} (rung 3)",
        f"RabbitMQ: a container of {RABBITMQ_IMAGE} (rung 3)",
    ]
    assert not was_running
    assert kept == 7
    assert containers_of(services.run.path.name) == 2


def test_containers_end_with_their_run(asked: None) -> None:
    try:
        with open_backing_services() as services:
            run_name = services.run.path.name
            during = containers_of(run_name)
    except BackingServicesError as error:
        skip_without_images(error)
        raise

    assert (during, containers_of(run_name)) == (2, 0)
