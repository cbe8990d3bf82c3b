"""`python -m chaos.sabotage --order FILE MODULE`: run a service that can be told to die at a named point.

The service knows nothing of this: functions of its libraries are wrapped before it is imported.
"""

import argparse
import runpy
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import aio_pika
from asyncpg.pool import Pool
from asyncpg.protocol import Protocol
from asyncpg.transaction import Transaction
from chaos.mutants import MUTANTS
from chaos.orders import Obedience
from other_release import translated
from tallyho_messaging import consumer, requests
from tallyho_messaging.publisher import Publisher
from tallyho_postgres import outbox

BEFORE_COMMIT = "before_commit"
AFTER_COMMIT = "between_commit_and_publish"
BEFORE_DELETE = "between_confirm_and_delete"
BEFORE_ACK = "between_apply_and_ack"
BEFORE_REPLY = "before_reply"
REPLY_RECEIVED = "reply_received"
MID_STATEMENT = "mid_statement"

When = Callable[..., bool]


def always(*_: Any) -> bool:
    """Every call passes the point."""
    return True


def put_point(obedience: Obedience, point: str, owner: object, name: str, when: When = always) -> None:
    """Let each call of `owner.name` whose arguments are as in `when` pass `point` first."""
    original = getattr(owner, name)

    # Also in front of a coroutine function: its body runs right after the call, which is always awaited at once.
    @wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            obedience.pass_by(point)
        return original(*arguments, **named)

    setattr(owner, name, wrapped)


def put_points(obedience: Obedience) -> None:
    """Put all points where they belong."""
    put_point(obedience, BEFORE_COMMIT, Transaction, "__aexit__", lambda _, error, *__: error is None)
    put_point(obedience, AFTER_COMMIT, outbox.Relay, "offer")
    delete = outbox.SQL["delete_confirmed"]
    put_point(obedience, BEFORE_DELETE, Pool, "execute", lambda _, query, *__: query == delete)
    put_point(obedience, BEFORE_ACK, consumer, "acknowledge_all")
    put_point(obedience, BEFORE_REPLY, requests._Responder, "_send")
    put_point(obedience, REPLY_RECEIVED, requests.Requester, "_receive")
    put_point_after_prepare(obedience)


def put_point_after_prepare(obedience: Obedience) -> None:
    """Let a transaction pass `MID_STATEMENT` when the server knows a statement of it, and waits for its arguments."""
    prepare = Protocol.prepare

    @wraps(prepare)
    async def prepare_and_pass(self: Any, *arguments: Any, **named: Any) -> Any:
        prepared = await prepare(self, *arguments, **named)
        if self.is_in_transaction():
            obedience.pass_by(MID_STATEMENT)
        return prepared

    Protocol.prepare = prepare_and_pass  # type: ignore[method-assign]


def speak_as_told(obedience: Obedience) -> None:
    """Let the process write its messages as the release that it is told to be."""
    publish: Callable[..., Awaitable[None]] = Publisher.publish

    @wraps(publish)
    async def publish_translated(
        self: Publisher, exchange: str, routing_key: str, message: aio_pika.Message, **named: Any
    ) -> None:
        if release := obedience.release:
            message.body = translated(message.body, release)
        await publish(self, exchange, routing_key, message, **named)

    setattr(Publisher, "publish", publish_translated)  # noqa: B010  # mypy would not have it assigned


def main() -> None:
    """Wrap, then become the service."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--order", type=Path, required=True)
    parser.add_argument("--mutant", choices=MUTANTS)
    parser.add_argument("module")
    arguments = parser.parse_args()
    obedience = Obedience(arguments.order)
    if arguments.mutant:
        MUTANTS[arguments.mutant]()
    put_points(obedience)
    speak_as_told(obedience)
    sys.argv = [arguments.module]
    runpy.run_module(arguments.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
