"""CPU time and memory of a process and all its children, as the kernel counts them."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.5


def cpu_seconds(pid: int) -> float:
    """CPU seconds of `pid` and of every descendant, ended ones included; 0 when it is gone."""
    return sum(map(_own_seconds, _tree(pid)))


@contextmanager
def sampled_memory(pids: Iterable[int]) -> Iterator[list[float]]:
    """Look at `pids` and their descendants now and then, and once more at the end: some end before the run does.

    Each sample, there after the block, is the sum in MB of the most that each of the processes then alive had held.
    """
    roots, ended = tuple(pids), Event()
    samples: list[float] = []

    def sample() -> None:
        is_last = False
        while not is_last:
            is_last = ended.wait(SAMPLE_SECONDS)
            samples.append(sum(map(_peak_megabytes, set().union(*map(_tree, roots)))))

    sampler = Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield samples
    finally:
        ended.set()
        sampler.join()


def run_on(pid: int, cores: set[int]) -> None:
    """Keep `pid`, its descendants and all their threads, present and future, on some of the cores."""
    for process in _tree(pid):
        for thread in Path(f"/proc/{process}/task").glob("[0-9]*"):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cores)


def _own_seconds(pid: int) -> float:
    fields = _stat(pid)
    # utime, stime, and both of the children that have been waited for
    return sum(map(int, fields[11:15])) / TICKS if fields else 0.0


def _peak_megabytes(pid: int) -> float:
    """The most memory that a process held so far; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def _tree(pid: int) -> set[int]:
    parents = {int(folder.name): _stat(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")}
    found = {pid}
    while more := {child for child, fields in parents.items() if fields and int(fields[1]) in found} - found:
        found |= more
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name, which can contain anything; from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
