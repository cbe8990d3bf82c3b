"""`tallyho up` as a process, its services replaced by small programs, its servers given or private."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tallyho_backing_services import free_port
from tallyho_backing_services.ports import is_free
from tallyho_backing_services.processes import Stat, descendants, is_running

PROGRAM = Path(__file__).with_name("stand_in_system.py")


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Addresses that nobody asks for anything, and a cache of its own that root's PostgreSQL can reach."""
    with tempfile.TemporaryDirectory(prefix="tallyho-test-") as cache:
        Path(cache).chmod(0o755)
        yield {
            **os.environ,
            "XDG_CACHE_HOME": cache,
            "AMQP_URL": "amqp://given/",
            "DATABASE_URL": "postgresql://given/",
        }


class Up:
    """A running `tallyho up` whose lines can be awaited."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Read on until a line matches."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no line with {pattern!r} in:\n{self.said}")

    def services(self) -> list[Stat]:
        """What runs below it."""
        return [process for process in descendants(self.process.pid) if is_running(process)]

    def end(self, by: signal.Signals) -> int:
        """Signal it, and return its exit code."""
        self.process.send_signal(by)
        rest, _ = self.process.communicate(timeout=60)
        self.said += rest
        return self.process.returncode


@contextmanager
def tallyho_up(environment: dict[str, str], *options: str) -> Iterator[Up]:
    argv = [sys.executable, str(PROGRAM), *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield Up(process)
        finally:
            process.kill()


def runs_of(environment: dict[str, str]) -> list[Path]:
    return list((Path(environment["XDG_CACHE_HOME"]) / "tallyho" / "runs").iterdir())


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_all_that_was_started(environment: dict[str, str], by: signal.Signals) -> None:
    with tallyho_up(environment, "--port=0", "--crawlers=2") as up:
        up.until("^ready at http://127.0.0.1:")
        services = up.services()

        assert len(services) == 3
        assert up.end(by) == 0
        assert not [service for service in services if is_running(service)]
        assert runs_of(environment) == []


def test_signal_while_starting_stops_all_that_was_started(environment: dict[str, str]) -> None:
    with tallyho_up({**environment, "WORKER": "echo not yet; exec sleep 60"}, "--port=0", "--verbose") as up:
        up.until("not yet")

        assert up.end(signal.SIGINT) == 0
        assert runs_of(environment) == []


def test_gateways_take_the_ports_from_the_one_that_was_asked_for(environment: dict[str, str]) -> None:
    port = next(port for port in iter(free_port, None) if is_free(port + 1))
    with tallyho_up(environment, f"--port={port}", "--gateways=2") as up:
        ready = up.until("^ready at (.*?) \\(")

        assert ready[1] == f"http://127.0.0.1:{port} http://127.0.0.1:{port + 1}"


def test_port_that_is_taken_is_one_clear_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with tallyho_up(environment, f"--port={port}") as up:
            said, _ = up.process.communicate(timeout=30)

    assert up.process.returncode == 2
    assert said == f"tallyho: port {port} is taken: choose another with --port (0 is any)\n"


def test_service_that_does_not_start_shows_the_end_of_its_log(environment: dict[str, str]) -> None:
    with tallyho_up({**environment, "WORKER": "echo no such table; exit 1"}, "--port=0") as up:
        said, _ = up.process.communicate(timeout=30)

    assert up.process.returncode == 2
    assert "tallyho: crawler-1 ended before it was ready, its last lines:\n  no such table\n" in said


def test_step_that_fails_shows_the_end_of_its_log(environment: dict[str, str]) -> None:
    with tallyho_up({**environment, "STEP": "echo no broker; exit 1"}, "--port=0") as up:
        said, _ = up.process.communicate(timeout=30)

    assert up.process.returncode == 2
    assert "tallyho: step failed, its last lines:\n  no broker\n" in said


def test_service_that_dies_is_started_again(environment: dict[str, str]) -> None:
    with tallyho_up(environment, "--port=0") as up:
        up.until("^ready at")
        before = up.services()
        os.kill(before[0].pid, signal.SIGKILL)
        up.until(r"gateway-1 was ended by SIGKILL; starting it again in 0\.2 s")
        up.until("gateway-1 is ready again")

        assert {service.pid for service in up.services()} != {service.pid for service in before}
        assert up.end(signal.SIGTERM) == 0


def test_service_that_dies_again_and_again_is_started_more_and_more_slowly(environment: dict[str, str]) -> None:
    with tallyho_up({**environment, "WORKER": "echo ready; sleep 0.1; exit 7"}, "--port=0") as up:
        up.until(r"crawler-1 ended with exit code 7; starting it again in 0\.2 s")
        up.until(r"crawler-1 ended with exit code 7; starting it again in 0\.4 s")
        up.until(r"crawler-1 ended with exit code 7; starting it again in 0\.8 s")


def test_next_start_ends_the_services_of_a_killed_one(environment: dict[str, str]) -> None:
    with tallyho_up(environment, "--port=0", "--crawlers=2") as killed:
        killed.until("^ready at")
        orphans = killed.services()
        killed.process.kill()
        killed.process.wait()
    assert all(is_running(orphan) for orphan in orphans)

    with tallyho_up(environment, "--port=0") as up:
        up.until(f"cleaned up behind process {killed.process.pid}, which was killed: ended 3 of its processes")
        up.until("^ready at")

        assert not [orphan for orphan in orphans if is_running(orphan)]
        assert len(runs_of(environment)) == 1


def test_private_database_that_dies_is_started_again(environment: dict[str, str]) -> None:
    del environment["DATABASE_URL"]
    with tallyho_up(environment, "--port=0") as up:
        up.until("^ready at")
        [pid_file] = Path(environment["XDG_CACHE_HOME"]).glob("tallyho/runs/*/postgresql/data/postmaster.pid")
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        up.until("PostgreSQL was ended by SIGKILL; starting it again")
        up.until("PostgreSQL is ready again")

        assert up.end(signal.SIGTERM) == 0
        assert runs_of(environment) == []


def test_terminals_interrupt_does_not_reach_the_services(environment: dict[str, str]) -> None:
    with tallyho_up(environment, "--port=0") as up:
        up.until("^ready at")

        assert all(os.getpgid(service.pid) != os.getpgid(up.process.pid) for service in up.services())


def test_service_that_ignores_its_stop_is_killed(environment: dict[str, str]) -> None:
    with tallyho_up({**environment, "WORKER": "trap '' TERM; echo ready; sleep 60; sleep 60"}, "--port=0") as up:
        up.until("^ready at")
        services = up.services()

        assert up.end(signal.SIGTERM) == 0
        assert not [service for service in services if is_running(service)]
