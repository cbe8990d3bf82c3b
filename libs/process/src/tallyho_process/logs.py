"""Log lines: for people, or a JSON object each."""

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Any

from opentelemetry import trace

FORMATS = ("text", "json")
TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
# A place for an argument, with the name that the message gives it, if any: `job=%s`.
PLACE = re.compile(r"(?:(\w+)=)?%[-+ #0]*\d*(?:\.\d+)?([sdrfgx%])")


def set_up_logging() -> None:
    """Log to standard error, in the format that LOG_FORMAT names. Raises ValueError when it names none."""
    chosen = os.environ.get("LOG_FORMAT", "text")
    if chosen not in FORMATS:
        raise ValueError(f"bad setting LOG_FORMAT: {chosen!r} is none of {', '.join(FORMATS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if chosen == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, logger, message, what the message names (`job=…`), and the trace it is of."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_named(record),
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = trace.format_trace_id(context.trace_id)
            line["span_id"] = trace.format_span_id(context.span_id)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def _named(record: logging.LogRecord) -> dict[str, Any]:
    """The arguments that the message's own text names."""
    if not isinstance(record.args, tuple):
        return {}
    names = [found[1] for found in PLACE.finditer(str(record.msg)) if found[2] != "%"]
    if len(names) != len(record.args):
        return {}
    plain = (bool, int, float)
    return {
        name: value if isinstance(value, plain) else str(value)
        for name, value in zip(names, record.args, strict=True)
        if name
    }
