"""A job's progress, shown to a person: a live bar on a terminal, otherwise a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from tallyho_contracts.jobs import JobState

LINE_INTERVAL = 1.0  # seconds

Show = Callable[[JobState], None]


@contextmanager
def shown_on(console: Console) -> Iterator[Show]:
    """A function that shows a state: call it with every state of the job as it comes."""
    if not console.is_terminal:
        yield lines(lambda line: console.out(line, highlight=False), clock=time.monotonic)
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} pages"),
        TextColumn("[bold]{task.fields[documents]:,} documents[/bold]"),
        TextColumn("{task.fields[rate]:.0f}/s"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("waiting", total=0, documents=0, rate=0.0)

        def show(state: JobState) -> None:
            bar.update(
                task,
                description="silent" if state.stalled_since else state.status,
                completed=state.total_children - state.pending_children - state.running_children,
                total=state.total_children,
                documents=state.document_count,
                rate=state.documents_per_second,
            )

        yield show


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
    error = f"; {state.error}" if state.error else ""
    return f"{state.status}: {state.document_count} documents{seconds}; pages: {pages}{error}{silence(state)}"


def silence(state: JobState) -> str:
    """Since when a silent job has not changed, as the end of a line; nothing for any other."""
    return f"; no change since {state.stalled_since.astimezone():%H:%M:%S}" if state.stalled_since else ""
