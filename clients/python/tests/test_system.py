"""The system with small programs for services, as the demo and the tests use it."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tallyho.services import ServiceSpec, describe_exit, next_delay
from tallyho.system import Addresses, Plan, System, SystemOptions, plan_system, running_system
from tallyho_backing_services import BackingServices, BackingServicesError, open_backing_services

COUNTING = 'echo begun >> "$0"; echo "ready url=http://127.0.0.1:$PORT"; exec sleep 60'


@pytest.fixture
def starts() -> Iterator[Path]:
    """A file that has a line for each start of a service."""
    with tempfile.TemporaryDirectory(prefix="tallyho-test-") as folder, pytest.MonkeyPatch.context() as environment:
        Path(folder).chmod(0o755)
        environment.setenv("XDG_CACHE_HOME", folder)
        environment.setenv("AMQP_URL", "amqp://given/")
        environment.setenv("DATABASE_URL", "postgresql://given/")
        yield Path(folder) / "starts"


@pytest.fixture
def backing(starts: Path) -> Iterator[BackingServices]:
    with open_backing_services() as services:
        yield services


@pytest.fixture
def system(starts: Path, backing: BackingServices) -> Iterator[System]:
    def plan(options: SystemOptions, ports: Sequence[int], addresses: Addresses) -> Plan:
        argv = ["/bin/sh", "-c", COUNTING, str(starts)]
        env = {"PATH": os.defpath, "PORT": str(ports[0])}
        return Plan([], [ServiceSpec(f"ws-gateway-{n}", argv, env) for n in range(1, options.gateways + 1)])

    with running_system(SystemOptions(gateways=2), backing=backing, plan=plan) as running:
        yield running


def test_url_is_the_one_that_the_gateway_says(system: System) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", system.url)
    assert len(system.urls) == 2


def test_killed_service_stays_dead_until_it_is_started(system: System, starts: Path) -> None:
    service = system.services["ws-gateway-2"]
    service.kill()
    assert not service.running

    service.restart()

    assert service.running
    assert starts.read_text().count("begun") == 3


def test_url_is_known_while_the_gateway_is_away(system: System) -> None:
    url = system.url
    system.services["ws-gateway-1"].kill()
    system.services["ws-gateway-1"].start()

    assert system.url == url


def test_closed_system_starts_nothing_again(system: System) -> None:
    system.close()
    system.services["ws-gateway-1"].start()

    assert not system.services["ws-gateway-1"].running


def test_running_service_is_left_alone_by_a_second_start(system: System, starts: Path) -> None:
    pid = system.services["ws-gateway-1"].pid
    system.services["ws-gateway-1"].start()

    assert system.services["ws-gateway-1"].pid == pid


def test_given_backing_services_outlive_the_system(backing: BackingServices) -> None:
    plan = Plan([], [ServiceSpec("crawler-1", ["/bin/sh", "-c", "echo ready; sleep 60"], {"PATH": os.defpath})])
    with running_system(SystemOptions(), backing=backing, plan=lambda *_: plan) as running:
        service = running.services["crawler-1"]

    assert not service.running
    assert backing.run.path.exists()


def test_service_that_ends_without_a_word_is_no_start(backing: BackingServices) -> None:
    plan = Plan([], [ServiceSpec("crawler-1", ["/bin/sh", "-c", "echo already gone"], {"PATH": os.defpath})])
    system = running_system(SystemOptions(), backing=backing, plan=lambda *_: plan)

    with pytest.raises(BackingServicesError, match="crawler-1 ended before it was ready"), system:
        pass


def test_plan_has_every_replica_and_tells_the_gateways_of_no_database() -> None:
    options = SystemOptions(crawlers=2, trackers=3, allow_private_addresses=True, settings={"CRAWLER_CONCURRENCY": "4"})
    plan = plan_system(options, [8080, 8081], Addresses("amqp://x/", "postgresql://y/"))
    env = {spec.name: spec.env for spec in plan.services}

    assert [spec.argv[2:] for spec in plan.steps] == [
        ["tallyho_messaging", "declare"],
        ["crawler", "migrate"],
        ["job_tracker", "migrate"],
    ]
    assert sorted(env) == [
        *("crawler-1", "crawler-2", "job-tracker-1", "job-tracker-2", "job-tracker-3", "ws-gateway-1", "ws-gateway-2")
    ]
    assert "DATABASE_URL" not in env["ws-gateway-2"]
    assert env["ws-gateway-2"]["GATEWAY_PORT"] == "8081"
    assert env["crawler-2"]["DATABASE_URL"] == "postgresql://y/"
    assert env["crawler-2"]["CRAWLER_ALLOW_PRIVATE_ADDRESSES"] == "true"
    assert env["crawler-2"]["CRAWLER_CONCURRENCY"] == "4"


def test_each_program_is_told_the_addresses_of_its_own_user_only() -> None:
    amqp = {"crawler": "amqp://c", "job-tracker": "amqp://t", "ws-gateway": "amqp://g", "deploy": "amqp://d"}
    addresses = Addresses(
        "amqp://a", "postgresql://a", amqp, {"crawler": "postgresql://c", "job-tracker": "postgresql://t"}
    )
    plan = plan_system(SystemOptions(), [8080], addresses)
    told = {
        spec.name: [spec.env.get(name) for name in ("AMQP_URL", "DATABASE_URL", "MIGRATION_DATABASE_URL")]
        for spec in (*plan.steps, *plan.services)
    }

    assert told == {
        "declare": ["amqp://d", None, None],
        "migrate-crawler": [None, "postgresql://c", "postgresql://a"],
        "migrate-job-tracker": [None, "postgresql://t", "postgresql://a"],
        "job-tracker-1": ["amqp://t", "postgresql://t", None],
        "crawler-1": ["amqp://c", "postgresql://c", None],
        "ws-gateway-1": ["amqp://g", None, None],
    }


@pytest.mark.parametrize(
    ("last", "lived", "delay"), [(0, 3, 0.2), (0.2, 3, 0.4), (3.2, 0, 5), (5, 9.9, 5), (5, 10, 0.2)]
)
def test_pause_before_a_start_doubles_until_the_process_has_lived_well(last: float, lived: float, delay: float) -> None:
    assert next_delay(last, lived=lived) == delay


@pytest.mark.parametrize(("code", "said"), [(-9, "was ended by SIGKILL"), (0, "ended with exit code 0")])
def test_exit_is_described(code: int, said: str) -> None:
    assert describe_exit(code) == said
