"""Clients that follow every job and are up to date: sent the same bytes at the same moment, put together once.

What a delivery costs beyond its system call is touching what belongs to the client. A crowd has one set of states that
wait, not one for each member. Whoever can't take a write falls behind, and follows alone until it has caught up.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from ws_gateway.clients import Client, Latest, Pace
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
    """The clients whose moment is `phase`."""

    def __init__(self, hub: Hub, phase: Phase, interval: float, make_writer: MakeWriter) -> None:
        self._hub = hub
        self._phase = phase
        self._make_writer = make_writer
        self._write_to_all: WriteToAll | None = None  # none when members have come or gone
        self._pace = Pace(self._wake, interval)
        self._members: dict[Client, Member] = {}
        self._waiting: dict[Client, Member] = {}

    def enter(self, member: Member) -> None:
        """Let it in at the next moment at which there is nothing left that it alone is to be sent."""
        member.client.crowd = self
        if member.client.everything:
            member.client.everything.phase = self._phase
        self._waiting[member.client] = member
        self._hub.add_crowd(self._pace)

    def leave(self, client: Client) -> None:
        """What was still to be sent to all becomes the client's own."""
        client.crowd = None
        self._waiting.pop(client, None)
        if self._members.pop(client, None):
            self._write_to_all = None
            self._hub.follow_alone(client, self._pace.dirty.values())
        if not self._members and not self._waiting:
            self._hub.remove_crowd(self._pace)
            self._pace.clear()

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
            self._write_to_all = None
            self._waiting[member.client] = self._members.pop(member.client)
            self._hub.follow_alone(member.client, [*states, *self._pace.dirty.values()])

    def _let_in(self) -> None:
        for client, member in list(self._waiting.items()):
            if client.everything and client.everything.dirty:
                member.flush(client.everything)  # which may end it
            if client in self._waiting and client.everything and not client.everything.dirty:
                self._members[client] = self._waiting.pop(client)
                self._write_to_all = None
                self._hub.follow_together(client)


class Crowds:
    """One crowd for each moment of the interval, filled in turn."""

    def __init__(self, hub: Hub, phases: Phases, interval: float, make_writer: MakeWriter) -> None:
        self._crowds = [Crowd(hub, phase, interval, make_writer) for phase in phases.all(interval)]
        self._next = 0

    def enter(self, member: Member) -> None:
        """Let a client that follows every job and nothing else into one of them."""
        self._next = (self._next + 1) % len(self._crowds)
        self._crowds[self._next].enter(member)


def is_one_of_many(client: Client) -> bool:
    """Whether a client wants just what all others want, at the usual pace."""
    pace = client.everything
    return pace is not None and pace.interval == client.default.interval and not (client.floors or client.interests)
