"""When connections write: at different moments of their interval, so that not all write at once."""

import asyncio
from collections.abc import Callable

from ws_gateway.clients import Pace

# Fewer moments, with more to write at each, cost less: a core that has slept is slow at first.
TICK_SECONDS = 0.025

Flush = Callable[[Pace], None]


class Phase:
    """One moment of an interval: whoever has something to write then. One timer for all of them."""

    __slots__ = ("_due", "_interval", "_offset")

    def __init__(self, interval: float, offset: float) -> None:
        self._interval = interval
        self._offset = offset
        self._due: list[tuple[Flush, Pace]] = []

    def add(self, flush: Flush, pace: Pace) -> None:
        """Flush `pace` at the next such moment."""
        if not self._due:
            loop = asyncio.get_running_loop()
            now = loop.time()
            loop.call_at(now + (self._offset - now) % self._interval, self._run)
        self._due.append((flush, pace))

    def _run(self) -> None:
        due, self._due = self._due, []
        for flush, pace in due:
            flush(pace)


class Phases:
    """The moments of each interval, a tick apart, dealt out in turn."""

    def __init__(self) -> None:
        self._phases: dict[float, list[Phase]] = {}
        self._dealt = 0

    def deal(self, interval: float) -> Phase:
        """A moment of that interval, another one than the last."""
        phases = self.all(interval)
        self._dealt += 1
        return phases[self._dealt % len(phases)]

    def all(self, interval: float) -> list[Phase]:
        """Every moment of that interval."""
        if interval not in self._phases:
            number = min(100, max(1, round(interval / TICK_SECONDS)))
            self._phases[interval] = [Phase(interval, interval * place / number) for place in range(number)]
        return self._phases[interval]
