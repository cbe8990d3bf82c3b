"""What the library does to us when the link to the broker is lost, made harmless."""

import asyncio
import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

log = logging.getLogger(__name__)

GOODBYE_SECONDS = 2.0


@contextmanager
def link_errors() -> Iterator[None]:
    """Raise ConnectionError where the library cancels the call, or raises a bare Exception, because its link is gone.

    Nobody asked for that cancellation: a task group would take a loop that it ends for one that was stopped, and the
    process would live on without it.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the link to the broker was lost") from error
    except Exception as error:
        if type(error) is Exception:
            raise ConnectionError("the link to the broker was lost") from error
        raise


async def acknowledge(delivery: AbstractIncomingMessage, *, multiple: bool = False) -> None:
    """Acknowledge a delivery, or all of its channel up to it. When its link is gone, they come again."""
    try:
        with link_errors():
            await delivery.ack(multiple=multiple)
    except Exception as error:  # noqa: BLE001  # a dying link raises bare exceptions
        log.info("acknowledgement lost, the messages come again error=%s", error or type(error).__name__)


async def stop_consuming(queue: AbstractQueue, tag: str) -> None:
    """Tell the broker to deliver no more; one that is away delivers nothing anyway, and must not keep us waiting."""
    await _within_bound(queue.cancel(tag))


async def close_channel(channel: AbstractChannel) -> None:
    """Close a channel; what it received and did not acknowledge is the broker's again."""
    await _within_bound(channel.close())


async def _within_bound(goodbye: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(GOODBYE_SECONDS):
            with link_errors():
                await goodbye
    except Exception as error:  # noqa: BLE001  # a dying link raises bare exceptions
        log.info("stopped without the broker error=%s", error or type(error).__name__)
