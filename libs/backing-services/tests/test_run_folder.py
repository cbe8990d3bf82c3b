import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tallyho_backing_services import free_port
from tallyho_backing_services.cache import cache_folder
from tallyho_backing_services.errors import BackingServicesError, ServerFailedError
from tallyho_backing_services.processes import Stat, is_running
from tallyho_backing_services.run_folder import open_run_folder, read_record

OWNER = Path(__file__).with_name("owner_of_a_run.py")
ENV = {"PATH": os.defpath}


def ignore(line: str) -> None:
    """Report to nobody."""


@contextmanager
def other_run(cache: Path) -> Iterator[tuple[subprocess.Popen[str], Path, Stat]]:
    """Yield another process, the folder of its run, and the process that it started in it."""
    argv = [sys.executable, str(OWNER), str(cache), "/bin/sh", "-c", "sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            folder = Path(owner.stdout.readline().strip())
            [record] = (folder / "processes").iterdir()
            started = read_record(record)
            assert started is not None
            yield owner, folder, started
        finally:
            owner.kill()


def test_run_whose_containers_an_engine_that_is_away_keeps_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_port()}")
    with open_run_folder(tmp_path, ignore) as run:
        run.uses_containers()

    assert (run.path / "containers").exists()


def test_process_is_recorded_with_its_start_before_it_runs(tmp_path: Path) -> None:
    with open_run_folder(tmp_path, ignore) as run:
        process = run.spawn("sleeper", ["sleep", "60"], env=ENV)
        [record] = (run.path / "processes").iterdir()
        process.popen.poll()

        assert process.running
        assert process.pid == os.getsid(process.pid)
        process.stop()

        assert not record.exists()


def test_output_goes_to_the_log_of_its_name(tmp_path: Path) -> None:
    with open_run_folder(tmp_path, ignore) as run:
        run.call("greeting", ["/bin/sh", "-c", "echo hello; echo there >&2"], env=ENV)

        assert run.log("greeting").read_text() == "hello\nthere\n"


def test_failure_of_a_program_shows_its_last_lines(tmp_path: Path) -> None:
    with (
        open_run_folder(tmp_path, ignore) as run,
        pytest.raises(ServerFailedError, match=r"greeting failed[^!]*oh no$"),
    ):
        run.call("greeting", ["/bin/sh", "-c", "echo oh no; exit 3"], env=ENV)


def test_end_of_a_run_ends_its_processes_and_removes_its_folder(tmp_path: Path) -> None:
    with open_run_folder(tmp_path, ignore) as run:
        process = run.spawn("stubborn", ["/bin/sh", "-c", "trap '' TERM; sleep 60; sleep 60"], env=ENV)

    assert not process.running
    assert not run.path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")
@pytest.mark.parametrize("made_before", [False, True])
@pytest.mark.parametrize("umask", [0o077, 0o027])
def test_folder_of_roots_run_is_open_to_others_whatever_the_umask(
    cache: Path, monkeypatch: pytest.MonkeyPatch, umask: int, made_before: bool
) -> None:
    home = cache.parent / "home" / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    if made_before:
        (home / "tallyho").mkdir(parents=True)
        for closed in (home / "tallyho" / "runs", home / "tallyho"):
            closed.mkdir(exist_ok=True)
            closed.chmod(0o700)
    before = os.umask(umask)
    try:
        with open_run_folder(cache_folder(), ignore) as run:
            run.call("someone else", ["/bin/sh", "-c", f"cd {run.path}"], env=ENV, user="nobody")
    finally:
        os.umask(before)

    assert run.path.is_relative_to(home)


def test_nothing_starts_in_a_run_that_has_ended(tmp_path: Path) -> None:
    with open_run_folder(tmp_path, ignore) as run:
        pass

    with pytest.raises(BackingServicesError):
        run.spawn("late", ["true"], env=ENV)


def test_next_start_ends_what_a_killed_run_left_behind(tmp_path: Path) -> None:
    said: list[str] = []
    with other_run(tmp_path) as (owner, folder, orphan):
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert is_running(orphan)

        with open_run_folder(tmp_path, said.append):
            pass

        assert not is_running(orphan)
        assert not folder.exists()
        assert said == [f"cleaned up behind process {owner.pid}, which was killed: ended 1 of its processes"]


def test_run_whose_owner_lives_is_left_alone(tmp_path: Path) -> None:
    with other_run(tmp_path) as (_, folder, process):
        with open_run_folder(tmp_path, ignore):
            pass

        assert is_running(process)
        assert folder.exists()


def test_process_that_took_over_a_recorded_pid_is_left_alone(tmp_path: Path) -> None:
    with other_run(tmp_path) as (owner, folder, orphan):
        [record] = (folder / "processes").iterdir()
        assert read_record(record) == orphan
        record.write_text(record.read_text().replace(f" {orphan.started} ", f" {orphan.started - 1} "))
        owner.kill()
        owner.wait()
        with open_run_folder(tmp_path, ignore):
            pass

        assert is_running(orphan)
        assert not folder.exists()
        os.kill(orphan.pid, signal.SIGKILL)


def test_folder_of_a_run_killed_before_it_began_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "1-abc"
    folder.mkdir(parents=True)
    with open_run_folder(tmp_path, ignore):
        pass

    assert not folder.exists()
