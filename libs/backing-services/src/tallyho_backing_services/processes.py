"""Processes of Linux as the kernel knows them: who they are, what they started, and how to end them."""

import os
import select
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stat:
    """One process: its pid alone may be given to another later, its pid and start time may not."""

    pid: int
    parent: int
    started: int  # clock ticks after the machine's start
    ended: bool  # a zombie: nothing of it runs any more


def parse_stat(line: str) -> Stat:
    """Read a line of /proc/PID/stat, whose second field is a name that may hold blanks and brackets."""
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    return Stat(pid=int(head.split()[0]), parent=int(fields[1]), started=int(fields[19]), ended=fields[0] in "ZX")


def read_stat(pid: int) -> Stat | None:
    """Return the process of this pid, or None where there is none."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_running(recorded: Stat) -> bool:
    """Tell whether this very process still runs."""
    current = read_stat(recorded.pid)
    return current is not None and current.started == recorded.started and not current.ended


def descendants(pid: int) -> list[Stat]:
    """Return what the process started, and what that started, nearest first."""
    children: defaultdict[int, list[Stat]] = defaultdict(list)
    for process in _all_processes():
        children[process.parent].append(process)
    found: list[Stat] = []
    queue = children[pid].copy()
    while queue:
        process = queue.pop(0)
        found.append(process)
        queue.extend(children[process.pid])
    return found


def kill_tree(root: Stat, *, timeout: float = 10) -> None:
    """End a process and all it started with SIGKILL, and return when they are gone.

    Only the processes that were recorded are hit: a pid that has passed to another process is left alone.
    """
    kill_all([root, *descendants(root.pid)] if is_running(root) else [], timeout=timeout)


def kill_all(processes: Iterable[Stat], *, timeout: float = 10) -> None:
    """End these very processes with SIGKILL, and return when they are gone."""
    handles = [handle for process in processes if (handle := _open(process)) is not None]
    try:
        for handle in handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        _await_exit(handles, timeout)
    finally:
        for handle in handles:
            os.close(handle)


def _all_processes() -> Iterator[Stat]:
    for entry in os.listdir("/proc"):  # noqa: PTH208 - thousands of Path objects for names only
        if entry.isdigit() and (process := read_stat(int(entry))) is not None:
            yield process


def _open(process: Stat) -> int | None:
    """Return a handle that stays with this very process, or None when it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if is_running(process):
        return handle
    os.close(handle)
    return None


def _await_exit(handles: list[int], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    for handle in handles:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
