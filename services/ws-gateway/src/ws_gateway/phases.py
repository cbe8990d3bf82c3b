"""When each connection writes: at its own moment of its interval, so that not all write at once."""

import asyncio
import math
from collections.abc import Callable

from ws_gateway.clients import Pace

TICK_SECONDS = 0.01

Flush = Callable[[Pace], None]


class Phases:
    """One timer for all that is due at the same tick, instead of one for each connection."""

    def __init__(self) -> None:
        self._due: dict[int, list[tuple[Flush, Pace]]] = {}

    def call_at(self, phase: float, interval: float, flush: Flush, pace: Pace) -> None:
        """Flush `pace` at the next moment that is at `phase` (0 to 1) of an interval."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        tick = math.ceil((now + (phase * interval - now) % interval) / TICK_SECONDS)
        due = self._due.get(tick)
        if due is None:
            due = self._due[tick] = []
            loop.call_at(tick * TICK_SECONDS, self._run, tick)
        due.append((flush, pace))

    def _run(self, tick: int) -> None:
        for flush, pace in self._due.pop(tick):
            flush(pace)
