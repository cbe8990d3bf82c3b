from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tallyho.progress import Pace, lines, summary, time_left
from tallyho_contracts.jobs import JobState, JobStatus

if TYPE_CHECKING:
    from clients.python.tests.conftest import GatewayDouble


def test_lines_come_once_a_second_and_for_each_new_status(gateway: "GatewayDouble") -> None:
    now = 0.0
    written: list[str] = []
    show = lines(written.append, clock=lambda: now)
    for revision in range(25):
        now = revision / 10
        show(gateway.state(revision, documents=revision))
    show(gateway.state(25, JobStatus.PAUSED, 24))
    show(gateway.state(26, JobStatus.COMPLETED, 24))

    assert [line.partition(";")[0] for line in written] == [
        "running: 0 documents",
        "running: 10 documents",
        "running: 20 documents",
        "paused: 24 documents",
        "completed: 24 documents",
    ]


def test_silence_is_a_line_at_once_and_ends_the_summary(gateway: "GatewayDouble") -> None:
    written: list[str] = []
    show = lines(written.append, clock=lambda: 0.0)
    running = gateway.state(1, documents=3)
    silent = running.model_copy(update={"revision": 2, "stalled_since": running.timestamp})
    for state in (running, silent, silent, running.model_copy(update={"revision": 3})):
        show(state)

    assert ["no change since" in line for line in written] == [False, True, False]
    assert "no change since" in summary(silent)
    assert "no change since" not in summary(running)


def test_summary_says_why_a_job_failed(gateway: "GatewayDouble") -> None:
    state = gateway.state(3, JobStatus.FAILED).model_copy(update={"error": "no document was saved"})

    assert summary(state).startswith("failed: 0 documents in 0.0 s; ")
    assert summary(state).endswith("; no document was saved")


def pace(gateway: "GatewayDouble", *points: tuple[float, int, int], max_pages: int | None = None) -> Pace:
    """Of a running job that at these seconds had so many documents, and so many pages before it."""
    found = Pace(max_pages)
    for revision, (seconds, documents, waiting) in enumerate(points):
        state = gateway.state(revision, documents=documents)
        news = {"pending_children": waiting, "total_children": documents + waiting}
        found.add(state.model_copy(update=news | {"timestamp": state.timestamp + timedelta(seconds=seconds)}))
    return found


def steady(*, rate: int, waiting: int, seconds: int = 20) -> Iterable[tuple[float, int, int]]:
    """A point a second, with as many pages before it less as have been visited."""
    return [(second, rate * second, waiting - rate * second) for second in range(seconds)]


def test_time_left_is_what_waits_over_the_recent_rate(gateway: "GatewayDouble") -> None:
    found = pace(gateway, *steady(rate=5, waiting=295))

    assert found.rate == pytest.approx(5)
    assert found.seconds_left == pytest.approx(40)


def test_rate_forgets_what_was_long_ago(gateway: "GatewayDouble") -> None:
    found = pace(gateway, *steady(rate=100, waiting=5000), (30, 1900, 3100), (40, 1910, 3090))

    assert found.rate == pytest.approx(1)


def test_no_time_is_told_while_pages_are_found_faster_than_visited(gateway: "GatewayDouble") -> None:
    assert pace(gateway, (0, 0, 10), (5, 50, 400)).seconds_left is None


def test_budget_that_the_known_pages_fill_bounds_the_time(gateway: "GatewayDouble") -> None:
    assert pace(gateway, (0, 0, 10), (5, 50, 400), max_pages=100).seconds_left == pytest.approx(5)
    assert pace(gateway, (0, 0, 10), (5, 50, 400), max_pages=1000).seconds_left is None


@pytest.mark.parametrize("points", [[(0, 0, 10)], [(0, 0, 10), (1, 5, 5)], [(0, 5, 10), (9, 5, 10)]])
def test_nothing_is_told_too_early_or_of_a_job_that_stands_still(
    gateway: "GatewayDouble", points: list[tuple[float, int, int]]
) -> None:
    assert pace(gateway, *points).seconds_left is None


def test_paused_job_has_no_time_left(gateway: "GatewayDouble") -> None:
    found = pace(gateway, *steady(rate=5, waiting=295))
    paused: JobState = gateway.state(99, JobStatus.PAUSED, 95)
    found.add(paused.model_copy(update={"timestamp": paused.timestamp + timedelta(seconds=20)}))

    assert found.seconds_left is None


def test_time_is_told_no_more_exactly_than_it_is_known() -> None:
    assert [time_left(seconds) for seconds in (None, 0.2, 59, 61, 3500, 7500)] == [
        "",
        "≈ 1 s left",
        "≈ 59 s left",
        "≈ 1 min left",
        "≈ 58 min left",
        "≈ 2 h 5 min left",
    ]
