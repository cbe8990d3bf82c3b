"""A folder for each run, in which every process is recorded before it runs.

Whoever starts next ends what a killed run left behind, and nothing else: a run whose owner lives is locked, and a
process is known by its pid and start time.
"""

import fcntl
import itertools
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tallyho_backing_services.cache import let_others_through, locked
from tallyho_backing_services.engine import remove_containers
from tallyho_backing_services.errors import BackingServicesError, ServerFailedError
from tallyho_backing_services.ports import hold_port, port_of
from tallyho_backing_services.processes import Stat, is_running, kill_tree, parse_stat, read_stat

# The shell writes who it is into the record, then becomes the program: there is no moment in which it runs unrecorded.
RECORD_AND_RUN = 'read -r stat </proc/$$/stat; echo "$stat" >&0; exec "$@" </dev/null'


class Process:
    """A child process of this run, with the file that records it."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], record: Path) -> None:
        """Take over a process that was just started."""
        self.name = name
        self.popen = popen
        self._record = record
        self._stat = read_stat(popen.pid)

    @property
    def pid(self) -> int:
        """The process id, which is also that of its session."""
        return self.popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.wait(timeout=0) is None

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit code once it has ended, or None when it still runs after the timeout (seconds)."""
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self._record.unlink(missing_ok=True)
        return code

    def kill(self) -> None:
        """End it and all it started with SIGKILL."""
        if self._stat is not None:
            kill_tree(self._stat)
        self.wait()

    def stop(self, *, by: signal.Signals = signal.SIGTERM, timeout: float = 10) -> None:
        """Ask it to end, and end it when it has not after the timeout (seconds)."""
        if self.running:
            self.popen.send_signal(by)
        if self.wait(timeout) is None:
            self.kill()


class RunFolder:
    """The folder of one run: its processes, their logs and their data; all of them end with it."""

    def __init__(self, path: Path) -> None:
        """Use an existing folder; `open_run_folder` makes one."""
        self.path = path
        self.closing = threading.Event()
        self._processes: list[Process] = []
        self._ports: list[socket.socket] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def log(self, name: str) -> Path:
        """Return where the named process writes its log."""
        return self.path / "logs" / f"{name}.log"

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        user: str | None = None,
        output: int | IO[bytes] | None = None,
    ) -> Process:
        """Start a program in a session of its own, its output going to its log unless another place is named."""
        with self._lock:
            if self.closing.is_set():
                raise BackingServicesError("the run is being stopped")
            record = self.path / "processes" / f"{next(self._numbers)}-{name}"
            entry = pwd.getpwnam(user) if user else None
            with record.open("w+b") as recording, self.log(name).open("ab") as log:
                fcntl.flock(recording, fcntl.LOCK_EX)  # whoever reads the record waits until the shell has written it
                popen = subprocess.Popen(
                    ["/bin/sh", "-c", RECORD_AND_RUN, name, *argv],
                    env=dict(env),
                    cwd="/",
                    stdin=recording,
                    stdout=log if output is None else output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    user=entry and entry.pw_uid,
                    group=entry and entry.pw_gid,
                    extra_groups=[] if entry else None,
                )
            process = Process(name, popen, record)
            self._processes = [p for p in self._processes if p.popen.returncode is None] + [process]
            return process

    def call(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], user: str | None = None) -> None:
        """Run a program to its end; raises with the end of its log when it fails."""
        if self.spawn(name, argv, env=env, user=user).wait() != 0:
            raise self.failure(f"{name} failed", name)

    def failure(self, what: str, name: str, lines: int = 15) -> ServerFailedError:
        """Return an error that ends with the last lines of the named log, which are gone once the run has ended."""
        try:
            said = self.log(name).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            said = []
        return ServerFailedError(what, said[-lines:])

    def port(self) -> int:
        """Return a port of 127.0.0.1 for a server of this run; nobody else gets it before the run ends."""
        self._ports.append(hold_port())
        return port_of(self._ports[-1])

    def uses_containers(self) -> None:
        """Record that there may be containers of this run."""
        (self.path / "containers").touch()

    def close(self) -> None:
        """End every process and container of this run and remove the folder; it stays for a later start if it must."""
        with self._lock:
            self.closing.set()
        for process in reversed(self._processes):
            process.kill()
        for holder in self._ports:
            holder.close()
        if (self.path / "containers").exists() and remove_containers(self.path.name) is None:
            return  # the engine is away: a later start will find them
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def open_run_folder(cache: Path, report: Callable[[str], None]) -> Iterator[RunFolder]:
    """Yield a new run folder under the cache, after ending what killed runs left there."""
    runs = cache / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    let_others_through(runs)
    with locked(cache / "runs.lock"):
        for path in sorted(runs.iterdir()):
            _end_if_orphaned(path, report)
        path = runs / f"{os.getpid()}-{secrets.token_hex(3)}"
        path.mkdir()
        path.chmod(0o711)  # PostgreSQL runs as another user when we are root
        for part in ("processes", "logs"):
            (path / part).mkdir(mode=0o700)
        owner = _open_owner(path)
    run = RunFolder(path)
    try:
        yield run
    finally:
        run.close()
        owner.close()


def _open_owner(path: Path) -> IO[str]:
    """Say whose run it is, in a file that stays locked for as long as this process lives."""
    owner = (path / "owner").open("w")
    fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    started = read_stat(os.getpid())
    json.dump({"pid": os.getpid(), "started": started and started.started, "machine": _machine()}, owner)
    owner.flush()
    return owner


def _machine() -> str:
    """Name this start of this machine and this space of process ids."""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"


def _end_if_orphaned(path: Path, report: Callable[[str], None]) -> None:
    """End what the run left behind and remove its folder, unless its owner lives."""
    owner_file = path / "owner"
    if not owner_file.exists():  # its owner was killed before it started anything
        shutil.rmtree(path, ignore_errors=True)
        return
    with owner_file.open() as owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        with suppress(ValueError):  # its owner was killed before it had said who it is, let alone started anything
            recorded = json.load(owner)
            ended = _end_recorded(path) if recorded["machine"] == _machine() else 0
            if (path / "containers").exists():
                removed = remove_containers(path.name)
                if removed is None:
                    return  # the engine is away: a later start will find them
                ended += removed
            report(f"cleaned up behind process {recorded['pid']}, which was killed: ended {ended} of its processes")
        shutil.rmtree(path, ignore_errors=True)


def _end_recorded(path: Path) -> int:
    ended = 0
    for record in (path / "processes").iterdir():
        process = read_record(record)
        if process is not None and is_running(process):
            kill_tree(process)
            ended += 1
    return ended


def read_record(record: Path) -> Stat | None:
    """Return the process that was recorded, or None when it never came to be."""
    with record.open() as recording:
        fcntl.flock(recording, fcntl.LOCK_SH)
        line = recording.read()
    return parse_stat(line) if line else None
