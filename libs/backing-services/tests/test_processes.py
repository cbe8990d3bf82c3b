import os
import subprocess
from collections.abc import Iterator

import pytest
from tallyho_backing_services.processes import Stat, descendants, is_running, kill_tree, parse_stat, read_stat

FIELDS_BEFORE_START = " ".join(["0"] * 17)


@pytest.fixture
def shell() -> Iterator[subprocess.Popen[bytes]]:
    """A shell that has started a program of its own."""
    process = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo begun; wait"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.stdout.close()
    process.kill()
    process.wait()


def stat_of(pid: int) -> Stat:
    found = read_stat(pid)
    assert found is not None
    return found


def test_name_with_brackets_and_blanks_does_not_shift_the_fields() -> None:
    stat = parse_stat(f"42 (a) b (c)) S 7 {FIELDS_BEFORE_START} 1234 0 0")

    assert stat == Stat(pid=42, parent=7, started=1234, ended=False)


def test_zombie_counts_as_ended() -> None:
    assert parse_stat(f"42 (a) Z 7 {FIELDS_BEFORE_START} 1234").ended


def test_pid_that_nobody_has_is_no_process() -> None:
    assert read_stat(2**22 + 1) is None


def test_this_process_runs_but_not_one_of_its_pid_with_another_start() -> None:
    here = stat_of(os.getpid())

    assert is_running(here)
    assert not is_running(Stat(here.pid, here.parent, here.started + 1, ended=False))


def test_descendants_include_what_a_child_started(shell: subprocess.Popen[bytes]) -> None:
    assert {shell.pid, *(p.pid for p in descendants(shell.pid))} <= {p.pid for p in descendants(os.getpid())}
    assert len(descendants(shell.pid)) == 1


def test_killing_a_tree_ends_all_of_it(shell: subprocess.Popen[bytes]) -> None:
    [sleeper] = descendants(shell.pid)

    kill_tree(stat_of(shell.pid))

    assert not is_running(sleeper)
    assert shell.wait() == -9


def test_process_that_took_over_a_pid_is_not_killed(shell: subprocess.Popen[bytes]) -> None:
    current = stat_of(shell.pid)

    kill_tree(Stat(current.pid, current.parent, current.started - 1, ended=False))

    assert is_running(current)
