"""How much one client, one address, one key and all of them together may have. No I/O and no clock."""

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is allowed; 0 connections stand for no limit."""

    connections: int = 10_000
    connections_per_address: int = 1_000
    connections_per_key: int = 5_000
    subscriptions: int = 128
    frame_bytes: int = 16 * 1024
    messages_per_second: float = 20
    messages_at_once: int = 300
    bad_frames: int = 100


class NoPlaceError(Exception):
    """There are too many connections: of all, of this address, or of this key."""


class Places:
    """The connections that are open."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open = 0
        self._by_address: Counter[str] = Counter()
        self._by_key: Counter[str] = Counter()

    def take(self, address: str, key: str | None) -> None:
        """Take a place, to be given back. Raises NoPlaceError."""
        limits = self._limits
        if (
            0 < limits.connections <= self._open
            or 0 < limits.connections_per_address <= self._by_address[address]
            or (key is not None and 0 < limits.connections_per_key <= self._by_key[key])
        ):
            raise NoPlaceError
        self._count(address, key, 1)

    def give_back(self, address: str, key: str | None) -> None:
        """The connection has ended."""
        self._count(address, key, -1)

    def _count(self, address: str, key: str | None, change: int) -> None:
        self._open += change
        for counter, name in ((self._by_address, address), (self._by_key, key)):
            if name is not None:
                counter[name] += change
                if not counter[name]:
                    del counter[name]


class Allowance:
    """So many messages at once, and so many a second on average."""

    __slots__ = ("_at", "_left")

    def __init__(self, limits: Limits, now: float) -> None:
        self._left = float(limits.messages_at_once)
        self._at = now

    def spend(self, limits: Limits, now: float) -> bool:
        """Take one message; false when there were too many."""
        self._left = min(limits.messages_at_once, self._left + (now - self._at) * limits.messages_per_second)
        self._at = now
        self._left -= 1
        return self._left >= 0
