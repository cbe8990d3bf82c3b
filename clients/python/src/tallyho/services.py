"""Services as child processes: started, seen to be ready, and started again when they die."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tallyho_backing_services.errors import BackingServicesError, ServerFailedError
from tallyho_backing_services.run_folder import Process, RunFolder
from tallyho_backing_services.servers import PrivateServer

READY = re.compile(r"\bready\b")
READY_TIMEOUT = 60.0  # seconds; a service takes about one
STOP_TIMEOUT = 10.0
FIRST_DELAY, LONGEST_DELAY = 0.2, 5.0  # seconds before a dead process is started again
GOOD_LIFE = 10.0  # seconds after which a death counts as a first one again


@dataclass(frozen=True)
class ServiceSpec:
    """How to run one service; the name is that of its log and of its lines."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]


class Service:
    """One service's process, which can be killed and started again."""

    def __init__(self, spec: ServiceSpec, run: RunFolder, *, verbose: bool = False) -> None:
        """Describe it; `start` runs it. Its output goes to its log in the run folder, and to stderr when verbose."""
        self.name = spec.name
        self.ready_line = ""  # as it said last; still there while it is being restarted
        self._spec = spec
        self._run = run
        self._verbose = verbose
        self._process: Process | None = None
        self._is_ready = False
        self._ready_or_ended = threading.Event()
        self._starting = threading.Lock()
        self._retired = False

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The process id; of the last process when none runs, 0 before the first."""
        return self._process.pid if self._process else 0

    @property
    def log(self) -> Path:
        """Where its output is kept while the run lasts."""
        return self._run.log(self.name)

    def start(self) -> None:
        """Run it, without waiting for it to be ready; a running one is left alone."""
        with self._starting:
            if self.running or self._retired:
                return
            self._is_ready = False
            self._ready_or_ended = threading.Event()
            spec = self._spec
            self._process = self._run.spawn(spec.name, spec.argv, env=spec.env, output=subprocess.PIPE)
            threading.Thread(target=self._read, args=(self._process, self._ready_or_ended), daemon=True).start()

    def await_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Return once it has said that it is ready; raises with the end of its log when it ends or says nothing."""
        if not self._ready_or_ended.wait(timeout):
            raise self._run.failure(f"{self.name} is not ready after {timeout:.0f} s", self.name)
        if not self._is_ready:
            raise self._run.failure(f"{self.name} ended before it was ready", self.name)

    def wait(self) -> int | None:
        """Return its exit code once it has ended."""
        return self._process.wait() if self._process else None

    def retire(self) -> None:
        """Ask it to end, and return at once; nobody can start it again."""
        with self._starting:
            self._retired = True
        if self._process and self._process.running:
            self._process.popen.send_signal(signal.SIGTERM)

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Ask it to end, and kill it when it has not after the timeout (seconds)."""
        if self._process:
            self._process.stop(timeout=timeout)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process:
            self._process.kill()

    def restart(self) -> None:
        """Kill it, start it again and wait until it is ready."""
        self.kill()
        self.start()
        self.await_ready()

    def _read(self, process: Process, ready_or_ended: threading.Event) -> None:
        """Keep what the process prints, and notice when it is ready.

        There is no log any more when the run ends while the process starts.
        """
        assert process.popen.stdout is not None
        with process.popen.stdout as output, suppress(FileNotFoundError), self.log.open("ab", buffering=0) as log:
            for line in output:
                log.write(line)
                text = line.decode(errors="replace")
                if self._verbose:
                    sys.stderr.write(f"{self.name}: {text}")
                if not ready_or_ended.is_set() and READY.search(text) and process is self._process:
                    self.ready_line = text.rstrip()
                    self._is_ready = True
                    ready_or_ended.set()
        ready_or_ended.set()


def supervise(
    name: str,
    process: Service | PrivateServer,
    closing: threading.Event,
    report: Callable[[str], None],
) -> None:
    """Start a process again whenever it ends, with growing pauses, until the system closes."""
    delay = 0.0
    while True:
        started = time.monotonic()
        code = process.wait()
        if closing.is_set():
            return
        delay = next_delay(delay, lived=time.monotonic() - started)
        report(f"{name} {describe_exit(code)}; starting it again in {delay:.1f} s")
        if closing.wait(delay):
            return
        try:
            process.start()
            if isinstance(process, Service):
                process.await_ready()
        except BackingServicesError as error:
            what = error.what if isinstance(error, ServerFailedError) else str(error)
        else:
            what = f"{name} is ready again"
        if closing.is_set():
            return
        report(what)


def next_delay(last: float, *, lived: float) -> float:
    """Return how long to wait before the next start: twice as long as last time, unless the process had lived well."""
    return FIRST_DELAY if lived >= GOOD_LIFE or last == 0 else min(last * 2, LONGEST_DELAY)


def describe_exit(code: int | None) -> str:
    """Say how a process ended."""
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
