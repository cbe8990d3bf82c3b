"""For readers who are slower than what they read."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TypeVar

T = TypeVar("T")


async def newest_of(source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """What comes from `source`; of what came while the reader was busy only the newest."""
    kept: list[T] = []
    news = asyncio.Event()

    async def read() -> None:
        async with aclosing(source):
            async for item in source:
                kept[:] = [item]
                news.set()

    reading = asyncio.create_task(read())
    reading.add_done_callback(lambda _: news.set())
    try:
        while True:
            await news.wait()
            if kept:
                yield kept.pop()
            elif reading.done():
                reading.result()
                return
            else:
                news.clear()
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await reading
