"""When connections write: at their moments, and less often while writing takes much of the time."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from ws_gateway.clients import Pace
from ws_gateway.phases import Phases


class Clock:
    """In place of the event loop: its time is set, and what is due later is kept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        self.due.append((when, call))

    def run(self) -> float:
        """Go to the one moment that is due, and do what is due then; returns when that was."""
        [(when, call)] = self.due
        self.due.clear()
        self.now = when
        call()
        return when


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    return clock


def moments(clock: Clock, interval: float, *costs: float) -> list[float]:
    """How long after the one before each moment comes (ms), when writing at them takes so long (seconds)."""
    left = list(costs)
    pace = Pace(lambda *_: None, interval)
    phase = Phases().deal(interval)

    def flush(_: Pace) -> None:
        clock.now += left.pop(0)

    times = []
    while left:
        phase.add(flush, pace)
        times.append(clock.run())
    return [round((later - before) * 1000) for before, later in pairwise(times)]


def test_changes_go_out_at_each_moment_of_the_interval(clock: Clock) -> None:
    assert moments(clock, 0.05, 0.001, 0.001, 0.001) == [50, 50]


@pytest.mark.parametrize("interval", [0.05, 0.02])
def test_interval_is_a_tenth_of_a_second_while_writing_takes_much_of_the_time(clock: Clock, interval: float) -> None:
    usual = round(interval * 1000)

    assert moments(clock, interval, 0.0, 0.01, 0.01, 0.0, 0.0) == [usual, 100, 100, usual]


@pytest.mark.parametrize("interval", [0.1, 0.25])
def test_longer_interval_that_was_asked_for_stays(clock: Clock, interval: float) -> None:
    usual = round(interval * 1000)

    assert moments(clock, interval, 0.05, 0.05, 0.0) == [usual, usual]


def test_connections_are_dealt_different_moments(clock: Clock) -> None:
    phases = Phases()
    for _ in range(2):
        phases.deal(0.05).add(lambda _: None, Pace(lambda *_: None, 0.05))

    first, second = sorted(when for when, _ in clock.due)
    assert second - first == pytest.approx(0.025)


def test_moments_are_shared_and_last_as_long_as_somebody_has_them(clock: Clock) -> None:
    phases = Phases()
    everyone = phases.all(0.05)
    dealt = {id(phases.deal(0.05)) for _ in range(4)}
    for milliseconds in range(60, 1_000):
        phases.deal(milliseconds / 1000)

    assert dealt == set(map(id, everyone))
    assert len(phases._phases) == len(everyone)


def test_moment_at_which_something_is_due_comes_although_nobody_has_it(clock: Clock) -> None:
    flushed: list[Pace] = []
    pace = Pace(lambda *_: None, 0.3)
    Phases().deal(0.3).add(flushed.append, pace)

    clock.run()

    assert flushed == [pace]
