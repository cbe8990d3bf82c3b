"""How long a client waits for a gateway that is away, and when it tries again."""

import asyncio
import random

from tallyho.errors import GatewayUnreachable

FIRST_DELAY, LONGEST_DELAY = 0.1, 2.0  # seconds


class GatewayAway(ConnectionError):  # noqa: N818  # never leaves the library
    """The gateway is known to be there, but it can't serve just now."""


class Outage:
    """The time since the gateway last answered, and the delays between the attempts to reach it again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._since: float | None = None
        self._delay = FIRST_DELAY

    def over(self) -> None:
        """The gateway answered."""
        self._since = None
        self._delay = FIRST_DELAY

    async def wait(self, cause: Exception, *, patience: float) -> None:
        """Wait before the next attempt, longer each time; raise when the outage has lasted `patience` seconds."""
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        if now - self._since >= patience:
            # An OSError's own words are shorter than those that aiohttp wraps around them.
            said = (cause.strerror if isinstance(cause, OSError) else None) or str(cause) or type(cause).__name__
            reason = " ".join(said.split())
            raise GatewayUnreachable(f"no answer from the gateway at {self._url}: {reason}") from cause
        # Jitter, so that the clients of a restarted gateway don't all come back in the same instant.
        await asyncio.sleep(self._delay * random.uniform(0.5, 1))  # noqa: S311  # no secret
        self._delay = min(2 * self._delay, LONGEST_DELAY)
