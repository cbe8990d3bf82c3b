"""CPU time of a process and all its children, as the kernel counts it."""

import os
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """CPU seconds of `pid` and of every descendant, ended ones included; 0 when it is gone."""
    return sum(map(_own_seconds, _tree(pid)))


def peak_megabytes(pid: int) -> float:
    """The most memory that `pid` held so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


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
