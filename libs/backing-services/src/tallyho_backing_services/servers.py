"""What a RabbitMQ or a PostgreSQL can be asked to do, whatever serves it."""

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tallyho_backing_services.errors import NotControllableError
from tallyho_backing_services.run_folder import Process, RunFolder

START_TIMEOUT = 90.0  # seconds; about 3 s where nothing else runs
STOP_TIMEOUT = 30.0


class Server(Protocol):
    """A RabbitMQ or a PostgreSQL that serves at its url."""

    @property
    def url(self) -> str:
        """Where clients find it, the password included; the same after a restart."""

    @property
    def running(self) -> bool:
        """Whether it is up, as far as we can tell."""

    def start(self) -> None:
        """Start it again with the data it had, and return when it serves; a running one is left alone."""

    def stop(self) -> None:
        """Shut it down in order, and return when it is gone."""

    def kill(self) -> None:
        """End it as a crash would, and return when it is gone."""


@dataclass(frozen=True)
class GivenServer:
    """A server whose address was given: used, and never touched otherwise."""

    url: str
    running: bool = True

    def start(self) -> None:
        """Refuse: it is not ours."""
        raise self._refusal("start")

    def stop(self) -> None:
        """Refuse: it is not ours."""
        raise self._refusal("stop")

    def kill(self) -> None:
        """Refuse: it is not ours."""
        raise self._refusal("kill")

    def _refusal(self, verb: str) -> NotControllableError:
        return NotControllableError(f"can't {verb} a server that was given by its address")


@dataclass(frozen=True)
class Program:
    """How to run a server, and how to see that it serves."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    answers: Callable[[], bool]
    stop_signal: signal.Signals
    user: str | None = None


class PrivateServer:
    """A server of this run alone, with a port and a data folder of its own."""

    def __init__(self, program: Program, url: str, run: RunFolder) -> None:
        """Describe it; `start` runs it."""
        self.url = url
        self.program = program
        self._run = run
        self._process: Process | None = None
        self._starting = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int | None:
        """The process id of the running server."""
        return self._process.pid if self._process and self._process.running else None

    def start(self) -> None:
        """Run it, and return when it serves."""
        with self._starting:
            if self.running:
                return
            program = self.program
            self._process = self._run.spawn(program.name, program.argv, env=program.env, user=program.user)
            self._await_service(self._process)

    def wait(self) -> int | None:
        """Return its exit code once it has ended."""
        return self._process.wait() if self._process else None

    def stop(self) -> None:
        """Shut it down in order."""
        if self._process:
            self._process.stop(by=self.program.stop_signal, timeout=STOP_TIMEOUT)

    def kill(self) -> None:
        """End it and all its processes with SIGKILL."""
        if self._process:
            self._process.kill()

    def _await_service(self, process: Process) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self.program.answers():
            if process.wait(timeout=0.05) is not None or time.monotonic() > deadline:
                process.kill()
                raise self._run.failure(f"{self.program.name} did not start", self.program.name)
