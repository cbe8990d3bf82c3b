"""How a service's process starts, stops and ends."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from pydantic_settings import BaseSettings
from tallyho_process import run_process, stop_on_signal, stoppable_start


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    """A process keeps its handler to its end; this one goes on with other tests."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


class Settings(BaseModel):
    port: int


async def nothing() -> None:
    """End at once."""


async def bad_settings() -> None:
    Settings.model_validate({"port": "eighty"})


async def dead_loop() -> None:
    async with asyncio.TaskGroup() as loops:
        loops.create_task(asyncio.Event().wait())
        loops.create_task(nothing())
        raise RuntimeError("this loop died")


def test_process_that_ends_by_itself_ends_well() -> None:
    assert run_process(nothing) == 0


def test_bad_setting_is_one_line_that_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_process(bad_settings)

    assert code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("bad setting port: Input should be a valid integer")


def test_setting_that_can_not_be_read_is_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Networks(BaseSettings):
        networks: tuple[str, ...] = ()

    async def main() -> None:
        Networks()

    monkeypatch.setenv("NETWORKS", "10.0.0.0/8")
    code = run_process(main)

    assert code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "networks" in line


def test_loop_that_dies_ends_its_process(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_process(dead_loop)

    assert code == 1
    assert "this loop died" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_asks_the_loops_to_stop(number: signal.Signals) -> None:
    with stop_on_signal() as stop:
        os.kill(os.getpid(), number)

        async with asyncio.timeout(5):
            await stop.wait()


async def test_handlers_of_signals_end_with_the_block() -> None:
    with stop_on_signal():
        pass

    loop = asyncio.get_running_loop()
    assert not loop.remove_signal_handler(signal.SIGTERM)
    assert not loop.remove_signal_handler(signal.SIGINT)


def test_process_that_is_stopped_before_it_is_ready_ends_well() -> None:
    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_soon(stop.set)
        async with stoppable_start(stop):
            await asyncio.Event().wait()

    assert run_process(main) == 0


async def test_stop_after_the_start_leaves_the_work_alone() -> None:
    stop = asyncio.Event()
    async with stoppable_start(stop):
        pass

    stop.set()
    await asyncio.sleep(0)

    task = asyncio.current_task()
    assert task
    assert not task.cancelling()


NEVER_DRAINS = """
import asyncio, os, signal, sys
from tallyho_process import run_process, stop_on_signal

async def main():
    with stop_on_signal(drain_seconds=0.2) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        await asyncio.Event().wait()

sys.exit(run_process(main))
"""


def test_process_that_does_not_drain_in_time_ends_all_the_same() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", NEVER_DRAINS], capture_output=True, text=True, timeout=30, check=False
    )

    assert ended.returncode == 1
    assert "still draining after 0.2 s" in ended.stderr
