"""Which announcements reach this replica: of the jobs that somebody here follows, and of no others."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn
from uuid import UUID

from tallyho_messaging.subscription import BindFailedError, Subscription

log = logging.getLogger(__name__)

# From so many jobs on it is cheaper to hear of all of them.
MAX_JOBS = 1_000
# What nobody follows any more is heard of a while longer: pages are reloaded, connections break and come back.
LINGER_SECONDS = 30.0
RETRY_SECONDS = 1.0


def key_of(type_: str, job_id: UUID | None) -> str:
    """The key that brings messages of a type about one job, or about every job."""
    return f"{type_}.{job_id or '*'}"


def keys_for(type_: str, jobs: Iterable[UUID], *, everything: bool) -> set[str]:
    """The keys that bring what is wanted."""
    keys = {key_of(type_, job_id) for job_id in jobs}
    return {key_of(type_, None)} if everything or len(keys) > MAX_JOBS else keys


class Bindings:
    """Keeps a queue bound to the keys that are wanted: at once to new ones, for a while to those wanted no more.

    `on_bound` and `on_unbound` are told which keys.
    """

    def __init__(
        self,
        wanted: Callable[[], set[str]],
        on_bound: Callable[[set[str]], None] = lambda _: None,
        on_unbound: Callable[[set[str]], None] = lambda _: None,
    ) -> None:
        self._wanted = wanted
        self._on_bound = on_bound
        self._on_unbound = on_unbound
        self._bound: set[str] = set()
        self._unwanted_since: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._bound_more = asyncio.Event()

    def check(self) -> None:
        """What is wanted may have changed."""
        self._changed.set()

    def cover(self, type_: str, job_id: UUID | None) -> bool:
        """Whether every message of a type about that job (None: about every job) comes here."""
        return key_of(type_, None) in self._bound or (job_id is not None and key_of(type_, job_id) in self._bound)

    async def until_covered(self, type_: str, job_id: UUID | None) -> None:
        """Wait until they come; for ever, unless they are wanted."""
        while not self.cover(type_, job_id):
            await self._bound_more.wait()

    async def run(self, subscription: Subscription) -> NoReturn:
        """Bind and unbind until cancelled, however often the broker goes away."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            try:
                await self._bind(subscription, self._wanted() - self._bound)
                await self._unbind(subscription, self._lingered(loop.time()))
            except BindFailedError as error:
                log.warning("bindings not changed yet error=%s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._unwanted_since.values(), default=1e12) + LINGER_SECONDS):
                    await self._changed.wait()

    async def _bind(self, subscription: Subscription, keys: set[str]) -> None:
        if keys:
            await subscription.bind(*keys)
            self._bound |= keys
            self._on_bound(keys)
            more, self._bound_more = self._bound_more, asyncio.Event()
            more.set()

    def _lingered(self, now: float) -> set[str]:
        unwanted = self._bound - self._wanted()
        self._unwanted_since = {key: self._unwanted_since.get(key, now) for key in unwanted}
        return {key for key, since in self._unwanted_since.items() if now - since >= LINGER_SECONDS}

    async def _unbind(self, subscription: Subscription, keys: set[str]) -> None:
        if not keys:
            return
        # At once: who wants one of them now must wait until it is bound again.
        self._bound -= keys
        self._unwanted_since = {key: since for key, since in self._unwanted_since.items() if key not in keys}
        try:
            await subscription.unbind(*keys)
        except BindFailedError:
            self._bound |= keys
            raise
        self._on_unbound(keys)
