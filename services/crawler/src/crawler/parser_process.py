"""`python -m crawler.parser_process`: parses pages and lists in a process that can be killed, with a limit of memory.

Reads a line of JSON with the length of the body, then the body; writes the length of the answer in eight bytes, then
the `Answer` as JSON. Ends with its input.
"""

import os
import resource
import sys
from dataclasses import dataclass
from typing import BinaryIO

from pydantic_core import from_json, to_json

from crawler.parsing import Parsed, ToParse, UnreadablePdfError, parse
from crawler.sitemaps import Listed, read_list

MEMORY_BYTES = 1024 * 1024 * 1024
# Should whoever started this process be gone, and with it the clock that it watches.
CPU_SECONDS_A_PAGE = 60
LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a page, or of a list (none where it is no list), or why it can't be parsed."""

    parsed: Parsed | None = None
    listed: Listed | None = None
    failed: str | None = None


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Answers go where standard output was; whatever a library prints does not get among them.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while line := sys.stdin.buffer.readline():
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_seconds = int(used.ru_utime + used.ru_stime) + CPU_SECONDS_A_PAGE
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, resource.RLIM_INFINITY))
        answer = _answer(line, sys.stdin.buffer)
        answers.write(len(answer).to_bytes(LENGTH_BYTES) + answer)
        answers.flush()


def _answer(line: bytes, bodies: BinaryIO) -> bytes:
    asked = from_json(line)
    body = bodies.read(asked.pop("length"))
    try:
        page = ToParse(body, **asked)
        return to_json(Answer(listed=read_list(body, page.url)) if page.is_list else Answer(parse(page)))
    except UnreadablePdfError as error:
        return to_json(Answer(failed=error.reason))
    except MemoryError:
        return to_json(Answer(failed="parser_memory"))
    except Exception as error:  # noqa: BLE001  # the edge of this process: whatever a page provokes costs that page only
        sys.stderr.write(f"page not parsed: {type(error).__name__}\n")
        return to_json(Answer(failed="parser_error"))


if __name__ == "__main__":
    main()
