"""Where fan-out is measured: a server on one core, a load client in C on another, and other people's libraries in a
scratch folder."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HERE = Path(__file__).parent
SERVER_CORE, CLIENT_CORE = 0, 1
PATH = "/v1/ws"


class Program:
    """A process that says lines and obeys lines."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.pid = process.pid
        self._to: IO[str] = process.stdin  # type: ignore[assignment]  # both are pipes
        self._from: IO[str] = process.stdout  # type: ignore[assignment]

    def say(self, line: str) -> None:
        """Give it a line."""
        self._to.write(line + "\n")
        self._to.flush()

    def hear(self) -> str:
        """Wait for its next line."""
        line = self._from.readline()
        if not line:
            raise RuntimeError("a program of the benchmark has ended")
        return line.strip()

    def ask(self, line: str) -> list[int]:
        """The numbers that it answers a line with."""
        self.say(line)
        return [int(word) for word in self.hear().split()]

    def cpu_seconds(self) -> float:
        """CPU seconds of all its threads, by the scheduler's own clock."""
        schedules = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(schedule.read_text().split()[0]) for schedule in schedules) / 1e9

    def kilobytes(self) -> int:
        """Its resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@dataclass(frozen=True)
class Received:
    """What a client received since it was last asked; times in milliseconds after the moment in the frame."""

    frames: int
    megabytes: float
    closed: int
    p50: float
    p99: float
    most: float


@dataclass(frozen=True)
class Way:
    """A server that can send to everybody."""

    label: str
    argv: tuple[str, ...]


class Stage:
    """The compiled programs, and the libraries of other ways."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        for name in ("fanout_client", "fanout_send"):
            subprocess.run(["gcc", "-O2", "-o", scratch / name, HERE / f"{name}.c"], check=True)
        node = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(scratch), "ws@8"]
        subprocess.run(node, check=True, stdout=subprocess.DEVNULL)
        target = ["--target", str(scratch / "python"), "websockets"]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *target]
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)

    @property
    def reference(self) -> Way:
        """Nothing but `send()`."""
        return Way("C, send() in a loop", (str(self._scratch / "fanout_send"),))

    @property
    def others(self) -> list[Way]:
        """Ways that people take."""
        python = (sys.executable, "-m", "benchmarks.fanout_ways")
        return [
            Way("aiohttp, send_str in a loop", (*python, "aiohttp")),
            Way("websockets, broadcast", (*python, "websockets")),
            Way("Node, ws", ("node", str(HERE / "fanout_node.js"))),
        ]

    def gateway(self, jobs: int, loop: str = "uvloop", *, alone: bool = False) -> Way:
        """Ours, with so many jobs; if `alone`, each client is written to by itself."""
        argv = (sys.executable, "-m", "benchmarks.fanout_gateway", loop, str(jobs), *(["alone"] if alone else []))
        which = f", {loop}'s own loop" if loop != "uvloop" else ", each client alone" if alone else ""
        return Way(f"ws-gateway{which}", argv)

    @contextmanager
    def serving(self, way: Way) -> Iterator[tuple[Program, int]]:
        """The server and its port."""
        paths = f"{HERE.parent}:{self._scratch / 'python'}"
        env = os.environ | {"PYTHONPATH": paths, "NODE_PATH": str(self._scratch / "node_modules")}
        with _running(way.argv, SERVER_CORE, env) as server:
            yield server, int(server.hear().split()[1])

    @contextmanager
    def connected(
        self, port: int, clients: int, *, jobs_each: int = 0, jobs: int = 1, stalled: int = 0
    ) -> Iterator[Program]:
        """A load client whose connections are open and whose subscriptions are answered."""
        numbers = map(str, (clients, jobs_each, jobs, stalled))
        argv = (str(self._scratch / "fanout_client"), str(port), PATH, *numbers)
        with _running(argv, CLIENT_CORE, dict(os.environ)) as client:
            assert client.hear() == "ready"
            yield client


@contextmanager
def open_stage() -> Iterator[Stage]:
    """Compile and install what is needed, in a folder that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="tallyho-fanout-") as scratch:
        yield Stage(Path(scratch))


def received(client: Program) -> Received:
    """Ask a client what it received."""
    frames, size, closed, p50, p99, most = client.ask("report")
    return Received(frames, size / 1e6, closed, p50 / 1000, p99 / 1000, most / 1000)


@contextmanager
def _running(argv: Sequence[str], core: int, env: dict[str, str]) -> Iterator[Program]:
    pinned = ["taskset", "--cpu-list", str(core), *argv] if core in os.sched_getaffinity(0) else argv
    with ExitStack() as stack:
        process = subprocess.Popen(pinned, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield Program(process)
