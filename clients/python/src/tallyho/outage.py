"""How long a client waits for a gateway that is away, and when it tries again."""

import asyncio
import random

from tallyho.errors import GatewayUnreachable

FIRST_DELAY, LONGEST_DELAY = 0.1, 2.0  # seconds
GOOD_LIFE = 10.0  # seconds without a failure after which the next one counts as the first again


class GatewayAway(ConnectionError):  # noqa: N818  # never leaves the library
    """The gateway is known to be there, but it can't serve just now; after so many seconds it may."""

    def __init__(self, reason: str, *, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Outage:
    """The time since the gateway last answered, and the delays between the attempts to reach it again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._since: float | None = None
        self._delay = FIRST_DELAY
        self._tried = 0.0

    def over(self) -> None:
        """The gateway answered."""
        self._since = None

    async def wait(self, cause: Exception, *, patience: float) -> None:
        """Wait before the next attempt; raise when the outage has lasted `patience` seconds.

        The delays grow, also when the gateway answers in between but never for long. They have jitter, so that the
        clients of a restarted gateway don't all come back in the same instant.
        """
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        left = self._since + patience - now
        if left <= 0:
            raise GatewayUnreachable(f"no answer from the gateway at {self._url}: {_in_words(cause)}") from cause
        if now - self._tried > GOOD_LIFE:
            self._delay = FIRST_DELAY
        delay = self._delay * random.uniform(0.5, 1)  # noqa: S311  # no secret
        if isinstance(cause, GatewayAway):
            delay = max(delay, cause.retry_after * random.uniform(1, 1.25))  # noqa: S311
        await asyncio.sleep(min(delay, left))
        self._delay = min(2 * self._delay, LONGEST_DELAY)
        self._tried = asyncio.get_running_loop().time()


def _in_words(cause: Exception) -> str:
    # An OSError's own words are shorter than those that aiohttp wraps around them.
    said = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
    return " ".join(said.split())
