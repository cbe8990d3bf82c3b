"""`tallyho dead-letters`: messages that could not be applied, read, replayed or discarded at the broker."""

# ruff: noqa: T201  # a command line prints

import argparse
import asyncio
import json
import logging
import os
import sys
from typing import Any

from tallyho_messaging.dead_letter_queue import (
    MOST_HELD,
    DeadLetterQueue,
    DeadLettersUnavailableError,
    ReplayFailedError,
    open_dead_letters,
)
from tallyho_messaging.dead_letters import read_letter

from tallyho.terminal import printable
from tallyho.values import is_address

DONE, UNSUCCESSFUL, UNREACHABLE = 0, 1, 3
ONE_ID = "the id that `list` shows"
EXIT_CODES = """exit codes: 0 done; 1 no such letter, or one that could not be replayed; 2 bad input; 3 the broker can't
be reached (one line on stderr says why)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with dead letters."""
    parser.epilog = EXIT_CODES
    where: dict[str, Any] = {"metavar": "URL", "type": amqp_url, "help": "where the broker is (default: AMQP_URL)"}
    parser.add_argument("--amqp-url", default=os.environ.get("AMQP_URL") or None, **where)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    everywhere = type(parser)(add_help=False)
    everywhere.add_argument("--amqp-url", default=argparse.SUPPRESS, **where)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, parents=[everywhere])

    add("list", "A line for each: id, time, queue where it died, type, job, reason.")
    add("show", "Print the whole message.").add_argument("ids", metavar="ID", nargs=1, help=ONE_ID)
    for name, text in (
        ("replay", "Publish again to the queue where it died; a message that was applied already changes nothing."),
        ("discard", "Drop for ever."),
    ):
        action = add(name, text)
        action.add_argument("ids", metavar="ID", nargs="*", help=f"{ONE_ID}; any number of them")
        action.add_argument("--all", action="store_true", help="all that are there now")


def amqp_url(text: str) -> str:
    """The text, when it is an address that a broker can have."""
    if not is_address(text, "amqp", "amqps"):
        # What was given is not repeated: it may hold a password.
        raise argparse.ArgumentTypeError("that is no address like amqp://user:password@host:5672/")
    return text


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Carry out an action; its exit code."""
    if not arguments.amqp_url:
        parser.error("where is the broker? Give --amqp-url or AMQP_URL")
    if arguments.action in ("replay", "discard") and bool(arguments.ids) == arguments.all:
        parser.error(f"which letters? {arguments.action} takes IDs, or --all")
    logging.basicConfig(level=logging.CRITICAL)  # the library would tell of a failed connection in lines of its own
    try:
        return asyncio.run(act(arguments))
    except DeadLettersUnavailableError as error:
        print(f"tallyho: {error}", file=sys.stderr)
        return UNREACHABLE


async def act(arguments: argparse.Namespace) -> int:
    """Connect and carry out the action."""
    async with open_dead_letters(arguments.amqp_url) as queue:
        if arguments.action == "list":
            return await list_letters(queue)
        wanted = None if getattr(arguments, "all", False) else set(arguments.ids)
        if arguments.action == "show":
            return await show(queue, wanted)
        return await settle(queue, wanted, replaying=arguments.action == "replay")


async def list_letters(queue: DeadLetterQueue) -> int:
    """A line for each letter, the oldest first."""
    number = 0
    async for message in queue.letters():
        letter = read_letter(message)
        number += 1
        time = f"{letter.time.astimezone():%Y-%m-%d %H:%M:%S}" if letter.time else "-"
        words = (letter.id, time, letter.queue or "-", letter.type or "-", letter.job or "-", letter.reason)
        print(printable("  ".join(words)))
    if number == MOST_HELD:
        print(f"tallyho: these are the oldest {MOST_HELD}; there may be more", file=sys.stderr)
    return DONE


async def show(queue: DeadLetterQueue, wanted: set[str] | None) -> int:
    """Print what is known of a letter, then its body."""
    async for message in queue.letters():
        letter = read_letter(message)
        if wanted is None or letter.id in wanted:
            known = {
                "id": letter.id,
                "time": letter.time.isoformat() if letter.time else None,
                "queue": letter.queue,
                "reason": letter.reason,
                "type": letter.type,
                "job": letter.job,
                "content_type": letter.content_type,
                "headers": dict(message.headers),
            }
            for name, value in known.items():
                said = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
                print(f"{name}: {printable(said)}")
            print("\n" + printable(message.body.decode(errors="backslashreplace"), keep="\n\t"))
            return DONE
    return _unknown(wanted or set())


async def settle(queue: DeadLetterQueue, wanted: set[str] | None, *, replaying: bool) -> int:
    """Replay or discard the wanted letters, or all that are there now."""
    done, failed, missing = 0, 0, set(wanted or ())
    async for message in queue.letters():
        letter = read_letter(message)
        if wanted is not None and letter.id not in wanted:
            continue
        missing.discard(letter.id)
        try:
            await (queue.replay(message, letter.queue) if replaying else queue.discard(message))
        except ReplayFailedError as error:
            failed += 1
            print(f"tallyho: {printable(letter.id)} not replayed: {error}", file=sys.stderr)
        else:
            done += 1
    print(f"{done} {'replayed' if replaying else 'discarded'}")
    if missing:
        return _unknown(missing)
    return UNSUCCESSFUL if failed else DONE


def _unknown(ids: set[str]) -> int:
    print(printable(f"tallyho: no dead letter {', '.join(sorted(ids))}"), file=sys.stderr)
    return UNSUCCESSFUL
