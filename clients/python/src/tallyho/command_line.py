"""The `tallyho` command: start the system, submit crawls, watch and steer them."""

# ruff: noqa: T201  # a command line prints

import argparse
import asyncio
import errno
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper

from tallyho import completion
from tallyho.arguments import AddArguments, Parser, build_parser
from tallyho.client import Tallyho
from tallyho.errors import TallyhoError
from tallyho.exits import DONE, INTERRUPTED, MISUSED, PIPE_CLOSED, exit_code
from tallyho.gateway import DEFAULT_URL

# Commands with parsers of their own, which need packages that the client does without.
UP, DEAD_LETTERS = "up", "dead-letters"
# Of a file to which the output goes: its disk is full, or there is no more room for it.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
ELSEWHERE = {UP: "Start a whole system here", DEAD_LETTERS: "Look after messages that could not be applied"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a page may have characters that this terminal has not
    try:
        code = run(words)
        print(end="", flush=True)  # also where there is no standard output
    except TallyhoError as error:
        print(f"tallyho: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough.
        drop_the_rest()
        return PIPE_CLOSED
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        drop_the_rest()
        print(f"tallyho: standard output: {error.strerror}", file=sys.stderr)
        return MISUSED
    return code


def drop_the_rest() -> None:
    """Python flushes once more at exit: that must not fail either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(words: Sequence[str]) -> int:
    """Find the command and run it; its exit code."""
    if words[:1] == [UP]:
        return up(words[1:])
    if words[:1] == [DEAD_LETTERS]:
        return dead_letters(words[1:])
    arguments = parser().parse_args(words)
    if arguments.run is None:
        print(completion.script(parser(arguments_elsewhere()), arguments.shell))
        return DONE
    return asyncio.run(call_gateway(arguments))


def parser(filled: Mapping[str, AddArguments] | None = None) -> Parser:
    """The arguments of all commands, with the environment's address of the gateway."""
    return build_parser(os.environ.get("TALLYHO_URL") or DEFAULT_URL, ELSEWHERE, filled or {})


async def call_gateway(arguments: argparse.Namespace) -> int:
    """Run a command against the gateway; its exit code."""
    async with Tallyho(arguments.url) as client:
        code: int = await arguments.run(client, arguments)
        return code


def up(words: Sequence[str]) -> int:
    """Start the whole system here."""
    try:
        import tallyho.up as system
    except ModuleNotFoundError as error:
        return without(error, UP)
    parser = Parser(
        prog="tallyho up",
        description="Start RabbitMQ, PostgreSQL and the services here, and keep them running until Ctrl-C.",
        epilog=system.EPILOG,
    )
    system.add_arguments(parser)
    return system.run(parser.parse_args(words))


def dead_letters(words: Sequence[str]) -> int:
    """Read, replay or discard the messages that could not be applied."""
    try:
        import tallyho.dead_letters as letters
    except ModuleNotFoundError as error:
        return without(error, DEAD_LETTERS, extra="operations")
    parser = Parser(prog="tallyho dead-letters", description="Messages that could not be applied, at the broker.")
    letters.add_arguments(parser)
    return letters.run(parser, parser.parse_args(words))


def without(error: ModuleNotFoundError, command: str, extra: str | None = None) -> int:
    """Say what to install."""
    needs = f"no module {error.name}; `{command}` needs: pip install 'tallyho[{extra or command}]'"
    print(f"tallyho: {needs}", file=sys.stderr)
    return MISUSED


def arguments_elsewhere() -> dict[str, AddArguments]:
    """What adds the arguments of the commands with parsers of their own, where their packages are installed."""
    found: dict[str, AddArguments] = {}
    with suppress(ModuleNotFoundError):
        import tallyho.up as system

        found[UP] = system.add_arguments
    with suppress(ModuleNotFoundError):
        import tallyho.dead_letters as letters

        found[DEAD_LETTERS] = letters.add_arguments
    return found
