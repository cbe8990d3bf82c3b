"""`tallyho up`: run the whole system on this machine until Ctrl-C."""

# ruff: noqa: T201  # a command line prints

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from tallyho_backing_services import BackingServicesError

from tallyho.system import MakePlan, SystemOptions, plan_system, running_system

EPILOG = """examples:
  tallyho up
  tallyho up --port 9000 --crawlers 4 --allow-private-addresses

The broker and the database are those at AMQP_URL and DATABASE_URL where these are set; otherwise private ones are
started, and end with the system, whose jobs and documents end with them. What dies is started again.

exit codes: 0 stopped, 2 bad input, or something can't be started (one line on stderr says what)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `tallyho up`."""
    parser.add_argument("--port", type=_port, default=8080, help="port of the gateway, 0 for any (default: 8080)")
    parser.add_argument("--crawlers", type=_count, default=1, metavar="N", help="crawler replicas (default: 1)")
    parser.add_argument(
        "--renderers",
        type=int,
        choices=range(65),
        default=0,
        metavar="N",
        help="crawlers with a browser (default: 0)",
    )
    parser.add_argument("--trackers", type=_count, default=1, metavar="N", help="job tracker replicas (default: 1)")
    parser.add_argument(
        "--gateways", type=_count, default=1, metavar="N", help="gateways, on PORT, PORT+1, … (default: 1)"
    )
    parser.add_argument(
        "--allow-private-addresses", action="store_true", help="let crawls reach this machine and private networks"
    )
    parser.add_argument("--verbose", action="store_true", help="show the services' logs")


def run(arguments: argparse.Namespace, plan: MakePlan = plan_system) -> int:
    """Run the system and keep it running until it is interrupted; returns the exit code."""
    options = SystemOptions(
        port=arguments.port,
        crawlers=arguments.crawlers,
        renderers=arguments.renderers,
        trackers=arguments.trackers,
        gateways=arguments.gateways,
        allow_private_addresses=arguments.allow_private_addresses,
        verbose=arguments.verbose,
    )
    starting = running_system(options, report=say, supervised=True, plan=plan)
    try:
        with suppress(KeyboardInterrupt), interrupted_by_signals(), starting as system:
            say(f"ready at {' '.join(system.urls)} (Ctrl-C stops it; logs in {system.backing.run.path}/logs)")
            threading.Event().wait()
    except BackingServicesError as error:
        print(f"tallyho: {error}", file=sys.stderr)
        return 2
    return 0


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or hangup interrupt the block; those after it don't disturb the way out."""
    signals = [s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is not signal.SIG_IGN]

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            if (
                signal.getsignal(each) is interrupt
            ):  # once interrupted, they stay ignored: the process is on its way out
                signal.signal(each, handler)


def say(line: str) -> None:
    """Print a line at once, as long as there is somebody to read it."""
    with suppress(OSError):
        print(line, flush=True)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError("must be 1 to 64")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be 0 to 65535")
    return int(text)
