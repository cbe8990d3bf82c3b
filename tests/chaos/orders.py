"""How the suite tells a running service what to do to itself: one order at a time, in a file of the service's own.

`kill POINT N` ends the process with SIGKILL at the Nth passage of a point, `freeze POINT N` stops it there; with
`speak newer` and `speak first` it writes its messages as another release would.
"""

import asyncio
import itertools
import os
import signal
from pathlib import Path

POLL_SECONDS = 0.02


class OrderNotCarriedOut(Exception):  # noqa: N818  # the fault did not happen, which is nobody's error
    """The service did not pass the point in time."""


class OrderBook:
    """The suite's side: gives orders to services, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        folder.mkdir(exist_ok=True)

    def file(self, service: str) -> Path:
        """Where a service finds its order."""
        return self._folder / service

    async def kill(self, service: str, point: str, nth: int, *, within: float) -> None:
        """Return when `service` has killed itself at its `nth` passage of `point`; raises OrderNotCarriedOut."""
        await self._order(service, f"kill {point} {nth}", within)

    async def freeze(self, service: str, point: str, nth: int, *, within: float) -> None:
        """Return when `service` has stopped there with SIGSTOP; raises OrderNotCarriedOut."""
        await self._order(service, f"freeze {point} {nth}", within)

    async def _order(self, service: str, what: str, within: float) -> None:
        order = self._write(service, what)
        try:
            async with asyncio.timeout(within):
                while order.exists():
                    await asyncio.sleep(POLL_SECONDS)  # a file can't be awaited
        except TimeoutError:
            order.unlink(missing_ok=True)
            raise OrderNotCarriedOut(f"{service} came to no {what} within {within:g} s") from None

    def speak(self, service: str, release: str) -> None:
        """Let `service` write its messages as a `newer` or the `first` release would, until told otherwise."""
        self._write(service, f"speak {release}")

    def cancel(self, service: str) -> None:
        """Let `service` be itself again."""
        self.file(service).unlink(missing_ok=True)

    def _write(self, service: str, order: str) -> Path:
        path = self.file(service)
        draft = path.with_suffix(".draft")
        draft.write_text(f"{order} {next(self._numbers)}")
        return draft.rename(path)


class Obedience:
    """The service's side: looks at its order whenever it passes a point."""

    def __init__(self, order: Path) -> None:
        self._order = order
        self._current: list[str] = []
        self._passages = 0

    def pass_by(self, point: str) -> None:
        """Die or stop here, if that is the order and this the passage."""
        match self._read():
            case ["kill" | "freeze" as order, here, nth, _] if here == point:
                self._passages += 1
                if self._passages == int(nth):
                    self._order.unlink()
                    os.kill(os.getpid(), signal.SIGKILL if order == "kill" else signal.SIGSTOP)

    @property
    def release(self) -> str:
        """As which release to write messages: `newer`, `first`, or as itself."""
        match self._read():
            case ["speak", release, _]:
                return release
        return ""

    def _read(self) -> list[str]:
        try:
            order = self._order.read_text().split()
        except FileNotFoundError:
            return []
        if order != self._current:
            self._current, self._passages = order, 0
        return order
