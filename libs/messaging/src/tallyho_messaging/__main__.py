"""`python -m tallyho_messaging declare`: declare the shared topology on the broker at AMQP_URL."""

import asyncio
import logging
import os
import sys

from aio_pika.exceptions import AMQPError

from tallyho_messaging.topology import declare


def main(arguments: list[str]) -> int:
    """Run the deploy step; 0 when the topology is there, 2 with one line when it can't be."""
    url = os.environ.get("AMQP_URL")
    if arguments != ["declare"] or not url:
        print("usage: AMQP_URL=amqp://… python -m tallyho_messaging declare", file=sys.stderr)  # noqa: T201  # a command
        return 2
    logging.basicConfig(level=logging.CRITICAL)  # the library would tell of each failed connection in lines of its own
    try:
        asyncio.run(declare(url))
    except (AMQPError, OSError, ValueError) as error:
        print(f"cannot declare the topology: {error or type(error).__name__}", file=sys.stderr)  # noqa: T201  # a command
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
