from typing import TYPE_CHECKING

from tallyho.progress import lines, summary
from tallyho_contracts.jobs import JobStatus

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
