"""A job's progress, shown to a person: a live line on a terminal."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from tallyho_contracts.jobs import JobState, JobStatus

from tallyho.terminal import printable

LINE_INTERVAL = 1.0  # seconds
RECENT = 10.0  # seconds that a rate looks back
SOON = 2.0  # seconds: before that nothing is known of a rate

Show = Callable[[JobState], None]


class Point(NamedTuple):
    """What a rate is made of."""

    time: datetime
    documents: int
    finished: int
    waiting: int


class Pace:
    """How fast a job is at present, and how long it may still take; from its states alone."""

    def __init__(self, max_pages: int | None = None) -> None:
        self._max_pages = max_pages
        self._points: deque[Point] = deque()
        self._running = False

    def add(self, state: JobState) -> None:
        """Take the next state into account."""
        waiting = state.pending_children + state.running_children
        point = Point(state.timestamp, state.document_count, state.total_children - waiting, waiting)
        self._points.append(point)
        while len(self._points) > 2 and (point.time - self._points[1].time).total_seconds() >= RECENT:
            self._points.popleft()
        self._running = state.status is JobStatus.RUNNING

    @property
    def rate(self) -> float:
        """Documents a second."""
        first, last = self._points[0], self._points[-1]
        return (last.documents - first.documents) / self._seconds if self._seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate; none while nobody can know: the job does not run, or finds pages faster than it visits them."""
        if not self._running or self._seconds < SOON:
            return None
        first, last = self._points[0], self._points[-1]
        budget = None if self._max_pages is None else self._max_pages - last.documents
        if budget is not None and budget <= last.waiting:
            return budget / self.rate if self.rate > 0 else None
        visited = (last.finished - first.finished) / self._seconds
        return last.waiting / visited if visited > 0 and last.waiting <= first.waiting else None

    @property
    def _seconds(self) -> float:
        return (self._points[-1].time - self._points[0].time).total_seconds()


@contextmanager
def shown_on(console: Console, *, max_pages: int | None = None) -> Iterator[Show]:
    """A function that shows a state: call it with every state of the job as it comes. Quiet without a terminal."""
    if not console.is_terminal:
        yield lambda state: None
        return

    def text(template: str) -> TextColumn:
        return TextColumn(template, table_column=Column(no_wrap=True))

    columns = (
        text("{task.description}"),
        text("[bold]{task.fields[documents]:,} documents[/bold]"),
        text("{task.fields[rate]}"),
        text("[cyan]{task.fields[left]}[/cyan]"),
        BarColumn(bar_width=24),
        text("{task.completed:,.0f} of {task.total:,.0f} pages"),
    )
    pace = Pace(max_pages)
    # Transient: the line of what became of the job takes its place.
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("waiting", total=0, documents=0, rate="", left="")

        def show(state: JobState) -> None:
            pace.add(state)
            moves = state.status is JobStatus.RUNNING and state.stalled_since is None
            bar.update(
                task,
                description="silent" if state.stalled_since else state.status,
                completed=state.total_children - state.pending_children - state.running_children,
                total=state.total_children,
                documents=state.document_count,
                rate=per_second(pace.rate) if moves else "",
                left=time_left(pace.seconds_left) if moves else "",
            )

        yield show


def per_second(rate: float) -> str:
    """A rate in words."""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def time_left(seconds: float | None) -> str:
    """An estimate in words, as exact as it can be; nothing for none."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"≈ {max(1, round(seconds))} s left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"≈ {minutes} min left"
    return f"≈ {minutes // 60} h {minutes % 60} min left"


def lines(write: Callable[[str], object], *, clock: Callable[[], float]) -> Show:
    """Writes a line for a new status and when a job falls silent, otherwise at most one a second."""
    shown: tuple[tuple[str, object], float] | None = None

    def show(state: JobState) -> None:
        nonlocal shown
        now = clock()
        news = (state.status, state.stalled_since)
        if shown is None or shown[0] != news or now - shown[1] >= LINE_INTERVAL:
            shown = (news, now)
            write(f"{state.status}: {state.document_count} documents; {state.progress_text}{silence(state)}")

    return show


def summary(state: JobState) -> str:
    """What became of a job, in a line."""
    seconds = ""
    if state.started_at and state.finished_at:
        seconds = f" in {(state.finished_at - state.started_at).total_seconds():.1f} s"
    pages = (
        f"{state.completed_children} completed, {state.failed_children} failed, "
        f"{state.skipped_children} skipped, {state.cancelled_children} cancelled"
    )
    error = f"; {printable(state.error)}" if state.error else ""
    return f"{state.status}: {state.document_count} documents{seconds}; pages: {pages}{error}{silence(state)}"


def silence(state: JobState) -> str:
    """Since when a silent job has not changed, as the end of a line; nothing for any other."""
    return f"; no change since {state.stalled_since.astimezone():%H:%M:%S}" if state.stalled_since else ""
