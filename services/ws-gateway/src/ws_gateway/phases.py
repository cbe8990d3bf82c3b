"""When connections write: at different moments of their interval, so that not all write at once."""

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from ws_gateway.clients import Pace

# Fewer moments, with more to write at each, cost less: a core that has slept is slow at first.
TICK_SECONDS = 0.025
# While writing takes more than this share of the time, an interval that is shorter than this is as long.
MOST_OF_THE_TIME = 0.25
BUSY_SECONDS = 0.1

Flush = Callable[[Pace], None]


class Phase:
    """One moment of an interval: whoever has something to write then. One timer for all of them.

    What writing at a moment may take is `share` seconds; after one that took longer, some moments are left out.
    """

    __slots__ = ("__weakref__", "_due", "_interval", "_offset", "_rests_until", "_share")

    def __init__(self, interval: float, offset: float, share: float) -> None:
        self._interval = interval
        self._offset = offset
        self._share = share
        self._rests_until = 0.0
        self._due: list[tuple[Flush, Pace]] = []

    def add(self, flush: Flush, pace: Pace) -> None:
        """Flush `pace` at the next such moment."""
        if not self._due:
            loop = asyncio.get_running_loop()
            start = max(loop.time(), self._rests_until)
            loop.call_at(start + (self._offset - start) % self._interval, self._run)
        self._due.append((flush, pace))

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        due, self._due = self._due, []
        for flush, pace in due:
            flush(pace)
        is_busy = loop.time() - start > self._share
        wait = max(BUSY_SECONDS, self._interval) if is_busy else self._interval
        self._rests_until = start + wait - self._interval / 2  # the first moment after that is the next


class Phases:
    """The moments of each interval, a tick apart, dealt out in turn; shared, and kept only while somebody has them."""

    def __init__(self) -> None:
        self._phases: WeakValueDictionary[tuple[float, int], Phase] = WeakValueDictionary()
        self._dealt = 0

    def deal(self, interval: float) -> Phase:
        """A moment of that interval, another one than the last."""
        self._dealt += 1
        return self._at(interval, self._dealt % _number(interval))

    def all(self, interval: float) -> list[Phase]:
        """Every moment of that interval."""
        return [self._at(interval, place) for place in range(_number(interval))]

    def _at(self, interval: float, place: int) -> Phase:
        phase = self._phases.get((interval, place))
        if phase is None:
            number = _number(interval)
            phase = Phase(interval, interval * place / number, interval * MOST_OF_THE_TIME / number)
            self._phases[interval, place] = phase
        return phase


def _number(interval: float) -> int:
    return min(100, max(1, round(interval / TICK_SECONDS)))
