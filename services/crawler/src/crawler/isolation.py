"""Parsing in a process of its own: a page on which a parser hangs, crashes or takes all memory costs that page only.

So does a list of URLs, and none stops the event loop, as one of 50 MB does even in a thread.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter
from pydantic_core import to_json

from crawler.parser_process import LENGTH_BYTES, Answer
from crawler.parsing import Parsed, ToParse
from crawler.sitemaps import Listed

_ANSWER = TypeAdapter(Answer)

# Memory that a library does not give back ends with the process.
PAGES_PER_PROCESS = 200
MAX_ANSWER_BYTES = 256 * 1024 * 1024


class ParsingFailedError(Exception):
    """A page could not be parsed; `reason` says why, as a page's reason does."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class IsolatedParser:
    """Parses one page after another in a process that is started when it is needed; an async context manager.

    The process is killed when a page takes longer than `seconds`.
    """

    def __init__(self, *, seconds: float = 15.0) -> None:
        self._seconds = seconds
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._parsed = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        async with self._turn:
            await self._end()

    async def parse(self, page: ToParse) -> Parsed:
        """Parse a page. Raises ParsingFailedError."""
        parsed = (await self._answered(page)).parsed
        if parsed is None:
            raise ParsingFailedError("parser_error")
        return parsed

    async def read_list(self, body: bytes, url: str) -> Listed | None:
        """Read what the list at the canonical `url` lists; None when it is no list. Raises ParsingFailedError."""
        return (await self._answered(ToParse(body, "", url, is_list=True))).listed

    async def _answered(self, page: ToParse) -> Answer:
        async with self._turn:
            if self._process is None:
                self._process = await _started()
            try:
                answer = await self._asked(self._process, page)
            except BaseException:  # also when cancelled: what it still writes must not be taken for another answer
                await self._end()
                raise
            self._parsed += 1
            if self._parsed == PAGES_PER_PROCESS:
                await self._end()
        if answer.failed:
            raise ParsingFailedError(answer.failed)
        return answer

    async def _asked(self, process: Process, page: ToParse) -> Answer:
        assert process.stdin
        assert process.stdout
        asked = {name: getattr(page, name) for name in ("content_type", "url", "markdown", "keep_html", "is_list")}
        try:
            async with asyncio.timeout(self._seconds):
                process.stdin.write(to_json({**asked, "length": len(page.body)}) + b"\n" + page.body)
                await process.stdin.drain()
                length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES))
                if length > MAX_ANSWER_BYTES:
                    raise ParsingFailedError("parser_memory")
                answer = await process.stdout.readexactly(length)
        except TimeoutError as error:
            raise ParsingFailedError("parser_timeout") from error
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise ParsingFailedError("parser_crash") from error
        return _ANSWER.validate_json(answer)

    async def _end(self) -> None:
        process, self._process, self._parsed = self._process, None, 0
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)  # its own kill() would reap it behind the loop's back
        await process.wait()


async def _started() -> Process:
    """A parser process: it sees no secret of the environment, and no Ctrl-C that is meant for this process."""
    command = sys.executable, "-I", "-m", "crawler.parser_process"
    return await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, start_new_session=True
    )
