"""Clients that follow the same and are up to date: sent the same bytes at the same moment, put together once.

What a delivery costs beyond its system call is touching what belongs to the client. A crowd has one set of states that
wait, not one for each member. Whoever can't take a write falls behind, and follows alone until it has caught up.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from ws_gateway.clients import Client, Interest, Latest, Pace
from ws_gateway.hub import Hub
from ws_gateway.metrics import FRAMES_SENT
from ws_gateway.phases import TICK_SECONDS, Phase, Phases

FRAMES_AT_ONCE = 256


class Member(Protocol):
    """A connection, as a crowd sees it."""

    client: Client

    def flush(self, pace: Pace) -> None:
        """Write what is its own."""


# Made for some members, writes so many frames to all of them; returns those that have not taken enough of what was sent
# before.
WriteToAll = Callable[[bytes, int], Sequence[Member]]
# Members are of one type; which one, only the composition root knows, hence Any.
MakeWriter = Callable[[Iterable[Any]], WriteToAll]


class Crowd:
    """The clients that follow one job, or every job (None), and whose moment is `phase`."""

    def __init__(
        self,
        hub: Hub,
        job_id: UUID | None,
        phase: Phase,
        interval: float,
        make_writer: MakeWriter,
        *,
        on_empty: Callable[[], object],
    ) -> None:
        self._hub = hub
        self._job_id = job_id
        self._on_empty = on_empty
        self._phase = phase
        self._make_writer = make_writer
        self._write_to_all: WriteToAll | None = None  # none when members have come or gone
        self._pace = Pace(self._wake, interval)
        self._members: dict[Client, Member] = {}
        self._waiting: dict[Client, Member] = {}

    def enter(self, member: Member) -> None:
        """Let it in at the next moment at which there is nothing left that it alone is to be sent."""
        member.client.crowd = self
        self._own_pace(member.client).phase = self._phase
        self._waiting[member.client] = member
        self._hub.watch(self._job_id, self._pace)

    def leave(self, client: Client) -> None:
        """What was still to be sent to all becomes the client's own."""
        client.crowd = None
        self._waiting.pop(client, None)
        if self._members.pop(client, None):
            self._follow_alone(client, self._pace.dirty.values())
        if not self._members and not self._waiting:
            self._hub.unwatch(self._job_id, self._pace)
            self._pace.clear()
            self._on_empty()

    def _follow_alone(self, client: Client, missed: Iterable[Latest]) -> None:
        self._write_to_all = None
        self._hub.watch(self._job_id, follower := self._follower(client))
        for latest in missed:
            follower.offer(latest)

    def _follower(self, client: Client) -> Client | Interest:
        return client if self._job_id is None else client.interests[self._job_id]

    def _own_pace(self, client: Client) -> Pace:
        return client.everything if self._job_id is None and client.everything else client.default

    def _wake(self, pace: Pace, urgent: bool) -> None:  # noqa: FBT001  # a Wake
        if urgent:
            asyncio.get_running_loop().call_soon(self._flush, pace)
        else:
            self._phase.add(self._flush, pace)

    def _flush(self, pace: Pace) -> None:
        states = pace.pop(FRAMES_AT_ONCE)
        if states:
            self._write(states)
        if pace.dirty:
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._flush, pace)
        else:
            self._let_in()

    def _write(self, states: list[Latest]) -> None:
        data = b"".join([latest.frame for latest in states])
        number = len(states)
        if self._write_to_all is None:
            self._write_to_all = self._make_writer(self._members.values())
        behind = self._write_to_all(data, number)
        FRAMES_SENT.inc(number * (len(self._members) - len(behind)))
        for member in behind:
            self._waiting[member.client] = self._members.pop(member.client)
            self._follow_alone(member.client, [*states, *self._pace.dirty.values()])

    def _let_in(self) -> None:
        for client, member in list(self._waiting.items()):
            pace = self._own_pace(client)
            if pace.dirty:
                member.flush(pace)  # which may end it
            if client in self._waiting and not pace.dirty:
                self._members[client] = self._waiting.pop(client)
                self._write_to_all = None
                self._hub.unwatch(self._job_id, self._follower(client))


class Crowds:
    """Crowds for what is followed: one for each moment of the interval, filled in turn."""

    def __init__(self, hub: Hub, phases: Phases, interval: float, make_writer: MakeWriter) -> None:
        self._hub = hub
        self._interval = interval
        self._make_writer = make_writer
        self._phases = phases.all(interval)
        self._crowds: dict[tuple[UUID | None, int], Crowd] = {}
        self._next = 0

    def enter(self, member: Member) -> None:
        """Let a client in that follows just what others may follow, every job or one, at the usual pace."""
        client = member.client
        job_id = next(iter(client.interests), None)
        if client.crowd or client.default.interval != self._interval or not self._is_common(client, job_id):
            return
        self._next = (self._next + 1) % len(self._phases)
        key = job_id, self._next
        if key not in self._crowds:
            self._crowds[key] = Crowd(
                self._hub,
                job_id,
                self._phases[self._next],
                self._interval,
                self._make_writer,
                on_empty=partial(self._crowds.pop, key),
            )
        self._crowds[key].enter(member)

    def _is_common(self, client: Client, job_id: UUID | None) -> bool:
        pace = client.everything
        if job_id is None:
            return pace is not None and pace.interval == self._interval and not (pace.is_held or client.floors)
        interest, known = client.interests[job_id], self._hub.newest(job_id)
        is_alone = pace is None and len(client.interests) == 1
        is_plain = interest.answered and interest.pace is client.default
        return is_alone and is_plain and known is not None and known.revision >= interest.revision
