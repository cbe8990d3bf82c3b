"""The deploy step at the broker.

`python -m tallyho_messaging declare` declares the shared topology on the broker at AMQP_URL.
`python -m tallyho_messaging definitions` prints the services' users for the broker to import, with the passwords in
CRAWLER_AMQP_PASSWORD, JOB_TRACKER_AMQP_PASSWORD, WS_GATEWAY_AMQP_PASSWORD and DEPLOY_AMQP_PASSWORD.

Each of these can be in the file that the variable with _FILE after its name names.
"""

import asyncio
import logging
import os
import sys

from aio_pika.exceptions import AMQPError
from tallyho_process.settings import value_of

from tallyho_messaging.accounts import ACCOUNTS, definitions
from tallyho_messaging.topology import declare

USAGE = "usage: AMQP_URL=amqp://… python -m tallyho_messaging declare | definitions"


def main(arguments: list[str]) -> int:
    """Run the deploy step; 0 when it is done, 2 with one line when it can't be."""
    logging.basicConfig(level=logging.CRITICAL)  # the library would tell of each failed connection in lines of its own
    try:
        match arguments:
            case ["declare"] if url := value_of("AMQP_URL", os.environ):
                asyncio.run(declare(url))
            case ["definitions"]:
                print(definitions({name: _password(name) for name in ACCOUNTS}))  # noqa: T201  # a command
            case _:
                return _complain(USAGE)
    except (AMQPError, OSError, ValueError) as error:
        what = "declare the topology" if arguments == ["declare"] else "print the definitions"
        return _complain(f"cannot {what}: {error or type(error).__name__}")
    return 0


def _password(account: str) -> str:
    variable = f"{account.upper().replace('-', '_')}_AMQP_PASSWORD"
    if password := value_of(variable, os.environ):
        return password
    raise ValueError(f"{variable} is not set")


def _complain(line: str) -> int:
    print(line, file=sys.stderr)  # noqa: T201  # a command
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
