"""How the gateway closes a WebSocket: a code, and a reason in JSON that says whether and when to come back."""

import secrets
from dataclasses import dataclass


@dataclass(frozen=True)
class Closing:
    """A reason to close. A client that may retry is told to wait for a time of its own between `retry_ms`."""

    code: int
    reason: str
    retry_ms: tuple[int, int] | None = None

    def text(self) -> bytes:
        """The close frame's reason, which may have 123 bytes."""
        if self.retry_ms is None:
            return f'{{"reason":"{self.reason}","retry":false}}'.encode()
        first, last = self.retry_ms
        return (
            f'{{"reason":"{self.reason}","retry":true,"retry_ms":{first + secrets.randbelow(last - first)}}}'.encode()
        )


FAILED = Closing(1011, "internal error", (500, 5_000))
# All are back within five seconds.
RESTARTING = Closing(1012, "restarting", (500, 4_000))
ABUSE = Closing(4400, "too many frames that can't be used")
UNAUTHORIZED = Closing(4401, "a valid key or ticket is needed")
EXPIRED = Closing(4401, "the key has expired")
FORBIDDEN = Closing(4403, "not allowed")
TOO_SLOW = Closing(4408, "too slow: resume", (200, 2_000))
TOO_MANY_CONNECTIONS = Closing(4429, "too many connections", (5_000, 30_000))
TOO_MANY_MESSAGES = Closing(4429, "too many messages", (5_000, 30_000))
