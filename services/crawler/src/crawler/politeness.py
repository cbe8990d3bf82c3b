"""How each origin wants to be treated: its robots.txt and the delay between requests, shared through the database."""

import asyncio
from collections import defaultdict
from http import HTTPStatus
from time import monotonic
from typing import Literal, cast

from tallyho_postgres.pool import Pool

from crawler import origins
from crawler.fetch import Failed, Fetcher, NotModified, Result
from crawler.frontier import Lane
from crawler.robots import Robots, RobotsResult, fetch_robots

# How long a process trusts its own copy of what the database says.
COPY_SECONDS = 60.0
# A lane waits this long for its turn at an origin with a delay; beyond, it gives its slot back.
TURN_SECONDS = 5.0
# An origin with a delay is left idle so long for a job whose own delay is not over; beyond, others are served first.
IDLE_SECONDS = 0.5
# So long before its turn, a lane looks whether the origin has become too busy; a look takes time, too.
LOOK_SECONDS = 0.1
# What is later than this, and than this part of the delay, on a busy machine, waits for another turn; once, for the
# machine may stay busy.
LATE_SECONDS = 0.05
LATE_PART = 0.1
# How long all processes trust what a robots.txt says.
KNOWN_SECONDS = 3600.0
# A robots.txt that could not be had is not asked for again by every page that waits for it.
UNREACHABLE_SECONDS = 2.0
ORIGINS_REMEMBERED = 10_000
# Of all copies of robots.txt together: once read, each character can take 25 bytes. One that is longer than that other
# number is read in a thread: it can take half a second.
CHARACTERS_REMEMBERED = 4_000_000
LONG_CHARACTERS = 20_000
# An origin that says again and again that it is too busy is left alone for 1, 2, 4 … seconds, at most so many.
MAX_BACK_OFF = 60.0
_TOO_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
# What no retry mends, and all pages of a host have in common.
_OF_HOSTS = frozenset({"private_address", "dns", "tls"})
# After a page that took longer, its slot rests as long as the page took, at most so many seconds.
SLOW_SECONDS = 1.0
MAX_REST_SECONDS = 30.0


class OriginUnreachableError(Exception):
    """The origin's robots.txt can't be had for now, so nothing of it may be fetched."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.reason)
        self.failed = failed


class Politeness:
    """Asks each origin for its rules once, whoever visits it, and spaces the requests to it."""

    def __init__(self, pool: Pool, fetcher: Fetcher, *, user_agent: str, host_delay: float) -> None:
        self._pool = pool
        self._fetcher = fetcher
        self._user_agent = user_agent
        self._host_delay = host_delay
        self._unreachable: dict[str, tuple[float, Failed]] = {}
        self._held: dict[str, float] = {}
        self._resting: dict[tuple[str, int], float] = {}
        self._copies: dict[str, tuple[float, Robots]] = {}
        self._characters = 0
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def robots(self, origin: str) -> Robots:
        """The rules of an origin. Raises OriginUnreachableError."""
        if len(self._asking) >= ORIGINS_REMEMBERED:
            self._forget()
        async with self._asking[origin]:
            asked_until, failed = self._unreachable.get(origin, (0.0, None))
            if failed and asked_until > monotonic():
                raise OriginUnreachableError(failed)
            until, robots = self._copies.get(origin, (0.0, None))
            if robots is None or until < monotonic():
                robots = await self._stored_or_asked(origin)
                self._copies[origin] = (monotonic() + COPY_SECONDS, robots)
        return robots

    def _forget(self) -> None:
        self._copies.clear()
        self._characters = 0
        self._unreachable.clear()
        asking = {origin: lock for origin, lock in self._asking.items() if lock.locked()}
        self._asking = defaultdict(asyncio.Lock, asking)

    async def _stored_or_asked(self, origin: str) -> Robots:
        async with self._pool.acquire() as connection:
            stored = await origins.get_robots(connection, origin)
        if stored:
            verdict = cast("Literal['body', 'allow']", stored[0])
            return await self._read(RobotsResult(verdict, stored[1]))
        result = await fetch_robots(self._fetcher, origin)
        if isinstance(result, Failed):
            raise OriginUnreachableError(await self._cut_off(origin, result))
        robots = await self._read(result)
        async with self._pool.acquire() as connection:
            await origins.set_robots(
                connection,
                origin,
                verdict=result.verdict,
                body=result.body,
                ttl=KNOWN_SECONDS,
                delay=max(self._host_delay, robots.crawl_delay or 0.0),
            )
        return robots

    async def _read(self, result: RobotsResult) -> Robots:
        characters = len(result.body or "")
        if self._characters + characters > CHARACTERS_REMEMBERED:
            self._copies.clear()
            self._characters = 0
        self._characters += characters
        if characters <= LONG_CHARACTERS:
            return Robots.of(result, self._user_agent)
        return await asyncio.to_thread(Robots.of, result, self._user_agent)

    async def _cut_off(self, origin: str, failed: Failed) -> Failed:
        """Ask an origin for nothing as long as its answer for robots.txt says; returns what that means for a page."""
        if _is_too_busy(failed):
            await self._hold(origin, failed)
        seconds = max(UNREACHABLE_SECONDS, failed.retry_after or 0.0)
        is_about_host = failed.reason in _OF_HOSTS and not failed.retry
        reason = failed.reason if is_about_host else f"robots_{failed.reason}"
        # A page that comes back earlier would spend its attempts on this one answer.
        unreachable = Failed(reason, retry=failed.retry, retry_after=seconds)
        self._unreachable[origin] = (monotonic() + seconds, unreachable)
        return unreachable

    async def turn(self, lane: Lane, robots: Robots) -> bool:
        """Wait until a lane's job may send a request to its origin; False when that is too far off to wait for."""
        held = max(self._held.get(lane.origin, 0.0), self._resting.get((lane.origin, lane.slot), 0.0))
        if held > monotonic():
            return False
        host_delay, job_delay = max(self._host_delay, robots.crawl_delay or 0.0), lane.options.delay or 0.0
        if not (host_delay or job_delay):
            await asyncio.sleep(0)  # the other lanes' requests first: what comes together is saved together
            return True
        is_spaced = host_delay > 0
        late = await self._waited(lane, is_spaced=is_spaced)
        if late is not None and late > max(LATE_SECONDS, LATE_PART * max(host_delay, job_delay)):
            late = await self._waited(lane, is_spaced=is_spaced)  # it would come too near to the next one
        return late is not None

    async def _waited(self, lane: Lane, *, is_spaced: bool) -> float | None:
        """Reserve a lane's next request and wait until then; returns how late it is, None if it can't be."""
        async with self._pool.acquire() as connection, connection.transaction():
            asked = monotonic()
            wait = await origins.reserve_turn(
                connection, lane, is_spaced=is_spaced, within=TURN_SECONDS, idle=IDLE_SECONDS
            )
        if wait is None:
            return None
        await asyncio.sleep(asked + wait - LOOK_SECONDS - monotonic())
        async with self._pool.acquire() as connection:
            if await origins.is_held(connection, lane.origin):
                return None
        await asyncio.sleep(asked + wait - monotonic())  # the reserved time itself is what is waited for
        return monotonic() - asked - wait

    async def answered(self, lane: Lane, result: Result | NotModified, seconds: float) -> None:
        """Learn from an answer, and from how long it took, whether the origin needs a rest."""
        if isinstance(result, Failed) and _is_too_busy(result):
            await self._hold(lane.origin, result)
        elif lane.origin in self._held and self._held[lane.origin] <= monotonic() and not isinstance(result, Failed):
            del self._held[lane.origin]
            async with self._pool.acquire() as connection:
                await origins.calm_origin(connection, lane.origin)
        if seconds > SLOW_SECONDS:
            # As long as the page took: a host that is slow has half the requests under way at once, on average.
            await self._rest(lane, min(seconds, MAX_REST_SECONDS))

    async def _hold(self, origin: str, failed: Failed) -> None:
        if len(self._held) >= ORIGINS_REMEMBERED:
            self._held.clear()
        async with self._pool.acquire() as connection:
            seconds = await origins.hold_origin(
                connection,
                origin,
                at_least=failed.retry_after or 0.0,
                at_most=MAX_BACK_OFF,
                # A single 503 may be about one page; a 429 is about us.
                counts_at_once=failed.status == HTTPStatus.TOO_MANY_REQUESTS,
            )
        # The lanes that are being served here stop at once; those of other processes when they are given back.
        self._held[origin] = monotonic() + seconds

    async def _rest(self, lane: Lane, seconds: float) -> None:
        if len(self._resting) >= ORIGINS_REMEMBERED:
            self._resting.clear()
        self._resting[lane.origin, lane.slot] = monotonic() + seconds
        async with self._pool.acquire() as connection:
            await origins.rest_slot(connection, lane, seconds)


def _is_too_busy(failed: Failed) -> bool:
    return bool(failed.retry_after) or failed.status in _TOO_BUSY
