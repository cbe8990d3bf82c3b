"""What befalls an outbox: steps that hypothesis strings together, and the broker that keeps the books."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from hypothesis import strategies as st

PROCESSES = 2


class Fate(StrEnum):
    """What becomes of a message that a relay has sent."""

    CONFIRMED = "taken and confirmed"
    REFUSED = "refused"
    CONFIRM_LOST = "taken, but the confirm is lost"
    DIES_BEFORE = "the process dies before the broker has it"
    DIES_UNCONFIRMED = "the process dies after the broker took it"
    DIES_CONFIRMED = "the process dies after the confirm, before it could forget"

    @property
    def is_taken(self) -> bool:
        """Whether the broker has the message then."""
        return self not in (Fate.REFUSED, Fate.DIES_BEFORE)

    @property
    def is_death(self) -> bool:
        """Whether the process ends with it."""
        return self in (Fate.DIES_BEFORE, Fate.DIES_UNCONFIRMED, Fate.DIES_CONFIRMED)


@dataclass(frozen=True)
class Commit:
    """A transaction with events of these types; its process offers them to its relay, or dies before it can."""

    process: int
    types: tuple[int, ...]
    offered: bool


@dataclass(frozen=True)
class RollBack:
    """A transaction with so many events that is rolled back."""

    events: int


@dataclass(frozen=True)
class Relays:
    """These processes' relays each begin a round, at the same time; one that is at it goes on with it."""

    processes: tuple[int, ...]


@dataclass(frozen=True)
class Meets:
    """A message under way, the `number`-th of all, meets its fate."""

    number: int
    fate: Fate


@dataclass(frozen=True)
class Expire:
    """All leases end, also those of events under way."""


Step = Commit | RollBack | Relays | Meets | Expire

processes = st.integers(0, PROCESSES - 1)
one_step: st.SearchStrategy[Step] = st.one_of(
    st.builds(Commit, processes, st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), st.booleans()),
    st.builds(RollBack, st.integers(1, 2)),
    st.builds(Relays, st.sampled_from([(0, 1), (0,), (1,)])),
    st.builds(Meets, st.integers(0, 5), st.sampled_from(Fate)),
    st.builds(Meets, st.integers(0, 5), st.sampled_from(Fate)),
    st.just(Expire()),
)
# Left to itself, hypothesis makes short lists.
steps = st.integers(0, 40).flatmap(lambda size: st.lists(one_step, min_size=size, max_size=size))


class RefusedError(Exception):
    """The broker did not confirm a message."""


@dataclass
class Message:
    """A message under way from one process, until its fate is known."""

    process: int
    events: dict[UUID, bytes]
    fate: asyncio.Future[Fate]


@dataclass
class Books:
    """What was committed and what the broker has: the whole specification of an outbox."""

    committed: dict[UUID, bytes] = field(default_factory=dict)
    taken: dict[UUID, bytes] = field(default_factory=dict)
    under_way: list[Message] = field(default_factory=list)
    # What each process was offered and has not sent yet.
    remembered: list[set[UUID]] = field(default_factory=lambda: [set() for _ in range(PROCESSES)])
    # Events whose lease ended while a process had them: from then on others may send them at the same time.
    shared: set[UUID] = field(default_factory=set)
    # A relay takes an exception for a refusal; so what is wrong is noted, and raised by `check`.
    wrongs: list[str] = field(default_factory=list)

    def send(self, process: int, ids: Sequence[UUID], bodies: Sequence[bytes]) -> Message:
        """A relay sends a message: of committed events, none of which is under way already."""
        events = dict(zip(ids, bodies, strict=True))
        self._demand(len(events) == len(ids), "an event is twice in one message")
        self._demand(events.items() <= self.committed.items(), "an event is sent that was not committed")
        for other in self.under_way:
            again = events.keys() & other.events.keys()
            self._demand(process != other.process or not again, "an event is under way twice in one process")
            self._demand(again <= self.shared, "an event is under way twice though its lease has not ended")
        self.remembered[process] -= events.keys()
        message = Message(process, events, asyncio.get_running_loop().create_future())
        self.under_way.append(message)
        return message

    def settle(self, message: Message, fate: Fate) -> None:
        """A message has met its fate."""
        self.under_way.remove(message)
        if fate.is_taken:
            self.taken |= message.events
        if fate.is_death:
            self.remembered[message.process].clear()

    def expire(self) -> None:
        """All leases have ended."""
        self.shared.update(*self.remembered, *(message.events for message in self.under_way))

    def check(self, stored: Iterable[UUID]) -> None:
        """Nothing is lost: what was committed is stored or taken. Nothing else is ever either."""
        stored = set(stored)
        assert not self.wrongs
        assert self.committed.keys() <= stored | self.taken.keys(), "an event is lost"
        assert stored <= self.committed.keys()

    def _demand(self, holds: bool, wrong: str) -> None:  # reads as assert does
        if not holds:
            self.wrongs.append(wrong)
