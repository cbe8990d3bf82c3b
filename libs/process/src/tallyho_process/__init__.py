"""How every service starts, logs and stops."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError


@contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets: loops end when they see it, and drain within a bound."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def run_process(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run `main` with logging to standard error; returns the exit code.

    Bad settings give one line and 2. Any other error ends the process with 1: the orchestrator starts it again, and a
    process with one dead loop would look alive.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    try:
        asyncio.run(main())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        print(f"bad setting {field}: {first['msg']}", file=sys.stderr)  # noqa: T201  # before any log is of use
        return 2
    except Exception:
        logging.getLogger(__name__).exception("the process ends because a part of it failed")
        return 1
    return 0
