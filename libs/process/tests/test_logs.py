"""Log lines as a machine reads them."""

import json
import logging
import os
import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from tallyho_process.logs import JsonFormatter

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


def line(message: str, *args: object, **more: object) -> dict[str, object]:
    record = logging.LogRecord("job_tracker", logging.WARNING, __file__, 1, message, args, more.get("exc_info"))  # type: ignore[arg-type]  # as logging itself does
    parsed: dict[str, object] = json.loads(JsonFormatter().format(record))
    return parsed


def test_line_has_what_its_message_names() -> None:
    said = line("holding %d events queue=%s error=%s late=%.1f", 7, "job-tracker.events", OSError("away"), 1.5)

    assert said.pop("time")
    assert said == {
        "level": "warning",
        "logger": "job_tracker",
        "message": "holding 7 events queue=job-tracker.events error=away late=1.5",
        "queue": "job-tracker.events",
        "error": "away",
        "late": 1.5,
    }


def test_line_in_a_trace_names_it() -> None:
    with use_span(NonRecordingSpan(SpanContext(TRACE, SPAN, is_remote=False, trace_flags=TraceFlags(1)))):
        said = line("a page could not be visited job=%s", "x")

    assert (said["job"], said["trace_id"], said["span_id"]) == ("x", f"{TRACE:032x}", f"{SPAN:016x}")
    assert not trace.get_current_span().get_span_context().is_valid
    assert "trace_id" not in line("idle")


@pytest.mark.parametrize(
    ("message", "args"), [("100%% of %s", ("x",)), ("no arguments: 5%", ()), ("a=%(a)s", ({"a": 1},))]
)
def test_message_of_any_form_is_kept_on_one_line(message: str, args: tuple[object, ...]) -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, message + "\n", args, None)

    assert json.loads(JsonFormatter().format(record))["message"].endswith("\n")
    assert "\n" not in JsonFormatter().format(record)


def test_exception_is_part_of_the_line() -> None:
    try:
        int("bad")
    except ValueError:
        said = line("failed", exc_info=sys.exc_info())

    assert "ValueError: invalid literal" in str(said["exception"])


PROGRAM = """
import logging, sys
from tallyho_process import run_process
async def main(): logging.getLogger("x").info("started job=%s", 5)
sys.exit(run_process(main))
"""


def run(log_format: str) -> tuple[int, str]:
    environment = {**os.environ, "LOG_FORMAT": log_format}
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stderr


def test_format_is_a_setting() -> None:
    code, said = run("json")

    assert code == 0
    assert [(one["message"], one["job"]) for one in map(json.loads, said.splitlines())] == [("started job=5", 5)]
    assert run("text")[1].endswith(" INFO x started job=5\n")
    assert run("xml") == (2, "bad setting LOG_FORMAT: 'xml' is none of text, json\n")
