"""How every service starts, logs and stops."""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from tallyho_process.logs import set_up_logging

LEAVING_SECONDS = 3.0
# An orchestrator kills after 30 s. What is not done by then waits for a server that does not answer.
DRAIN_SECONDS = 25.0

log = logging.getLogger(__name__)


@contextmanager
def stop_on_signal(*, drain_seconds: float = DRAIN_SECONDS) -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets: loops end when they see it, and drain.

    A process that is still draining after `drain_seconds` ends with 1: what it had not committed is done by others.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    given_up = threading.Timer(drain_seconds, _give_up, [drain_seconds])
    given_up.daemon = True

    def begin_to_stop() -> None:
        if not stop.is_set():
            stop.set()
            given_up.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, begin_to_stop)
    try:
        yield stop
    finally:
        given_up.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _give_up(seconds: float) -> None:
    log.error("still draining after %g s: the process ends as it is", seconds)
    os._exit(1)


@asynccontextmanager
async def stoppable_start(stop: asyncio.Event) -> AsyncIterator[None]:
    """While the block runs, `stop` ends the process at once: it waits for others, and has begun nothing itself."""
    starting = asyncio.current_task()
    assert starting is not None

    async def cancel_when_stopped() -> None:
        await stop.wait()
        starting.cancel()

    watching = asyncio.create_task(cancel_when_stopped())
    try:
        yield
    finally:
        watching.cancel()


def spare_the_collector() -> None:
    """Look for garbage less often: what comes and goes leaves no cycles behind, and looking cost more than all else."""
    gc.freeze()
    gc.set_threshold(200_000)


def run_process(
    main: Callable[[], Coroutine[Any, Any, None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Run `main` with logging to standard error, on asyncio's own loop unless another is given; returns the exit code.

    LOG_FORMAT=json makes each line of the log a JSON object.
    Bad settings give one line and 2. Any other error ends the process with 1: the orchestrator starts it again, and a
    process with one dead loop would look alive.
    """
    try:
        set_up_logging()
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201  # there is no log yet
        return 2
    code = 1
    leaving = threading.Timer(LEAVING_SECONDS, lambda: os._exit(code))
    leaving.daemon = True

    async def run() -> None:
        nonlocal code
        try:
            await main()
            code = 0
        finally:
            # What is left is the library's own tasks, and one that ignores its cancellation must not keep the process.
            leaving.start()

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(run())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        print(f"bad setting {field}: {first['msg']}", file=sys.stderr)  # noqa: T201  # before any log is of use
        code = 2
    except SettingsError as error:
        print(f"bad setting: {error}", file=sys.stderr)  # noqa: T201
        code = 2
    except asyncio.CancelledError:
        log.info("stopped before it was ready")
        code = 0
    except Exception:
        log.exception("the process ends because a part of it failed")
    finally:
        leaving.cancel()
    return code
