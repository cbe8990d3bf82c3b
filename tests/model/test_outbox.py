"""The outbox against its books: two relays on the real table, which die and are refused at any step."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from model.outbox_steps import (
    Books,
    Commit,
    Expire,
    Fate,
    Meets,
    Message,
    RefusedError,
    Relays,
    RollBack,
    Step,
    steps,
)
from model.profiles import examples
from tallyho_postgres import outbox
from tallyho_postgres.outbox import OutboxEvent, Relay
from tallyho_postgres.pool import Pool

pytestmark = pytest.mark.timeout(0)  # what fails is made smaller first; the database has time limits of its own

EXPIRE = "UPDATE outbox SET leased_until = now() - interval '1 second'"


@dataclass
class Process:
    """A process with a relay. `publish` stands for the broker: each message waits there for its fate."""

    number: int
    pool: Pool
    books: Books
    relay: Relay = field(init=False)
    round: asyncio.Task[None] | None = None
    sent: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.relay = Relay(self.pool, self.publish)

    async def publish(
        self, exchange: str, routing_key: str, type_: str, ids: Sequence[UUID], bodies: Sequence[bytes]
    ) -> None:
        """Send a message and wait for its fate."""
        assert (exchange, routing_key) == ("anywhere", type_)
        message = self.books.send(self.number, ids, bodies)
        self.sent.set()
        fate = Fate.DIES_BEFORE
        try:
            fate = await message.fate
        finally:
            self.books.settle(message, fate)
        if fate.is_death and self.round:
            # A cancelled task ends at its next step: after the confirm that is the one that would forget the events.
            self.round.cancel()
        if fate is Fate.DIES_BEFORE or fate is Fate.DIES_UNCONFIRMED:
            await asyncio.Event().wait()
        if fate is Fate.REFUSED or fate is Fate.CONFIRM_LOST:
            raise RefusedError(fate)

    async def begin(self) -> None:
        """Begin a round of the relay: what waits in memory, then what others left behind."""
        if self.round is None:
            stop = asyncio.Event()
            self.round = asyncio.create_task(self.relay.run(stop))
            await asyncio.sleep(0)
            # It looks at this after its sweep only, and leaves it at that.
            stop.set()

    async def rest(self) -> None:
        """Go on until the round is over or waits for the broker."""
        while self.round and not self.under_way:
            self.sent.clear()
            sending = asyncio.create_task(self.sent.wait())
            await asyncio.wait({self.round, sending}, return_when=asyncio.FIRST_COMPLETED)
            sending.cancel()
            if self.round.done():
                await self._end()

    async def meet(self, message: Message, fate: Fate) -> None:
        """Let a message of this process meet its fate, and see what comes of it."""
        assert self.round
        message.fate.set_result(fate)
        if fate.is_death:
            await asyncio.wait({self.round})
            await self._end()
        while message in self.under_way:
            await asyncio.sleep(0)
        await self.rest()

    @property
    def under_way(self) -> list[Message]:
        """The messages of this process whose fate is open."""
        return [message for message in self.books.under_way if message.process == self.number]

    async def _end(self) -> None:
        if self.round:
            with suppress(asyncio.CancelledError):
                await self.round
            if self.round.cancelled():
                # Another process takes its place; what this one remembered is gone.
                self.relay = Relay(self.pool, self.publish)
            self.round = None


@dataclass
class Outbox:
    """The table, its processes and its books."""

    processes: list[Process]
    books: Books

    @property
    def pool(self) -> Pool:
        """Any way to the table."""
        return self.processes[0].pool

    async def do(self, step: Step) -> None:
        """Let a step happen, and see that nothing is lost and nothing invented."""
        match step:
            case Commit():
                await self._commit(step)
            case RollBack(events=number):
                async with self.pool.acquire() as connection:
                    transaction = connection.transaction()
                    await transaction.start()
                    await outbox.add(connection, [event_of(0) for _ in range(number)])
                    await transaction.rollback()
            case Relays(processes=numbers):
                relays = [self.processes[number] for number in numbers]
                await asyncio.gather(*(relay.begin() for relay in relays))
                await asyncio.gather(*(relay.rest() for relay in relays))
            case Meets(number=number, fate=fate):
                if under_way := self.books.under_way:
                    message = under_way[number % len(under_way)]
                    await self.processes[message.process].meet(message, fate)
            case Expire():
                await self.pool.execute(EXPIRE)
                self.books.expire()
        self.books.check([row["event_id"] for row in await self.pool.fetch("SELECT event_id FROM outbox")])

    async def _commit(self, step: Commit) -> None:
        process, events = self.processes[step.process], [event_of(type_) for type_ in step.types]
        async with process.pool.acquire() as connection, connection.transaction():
            await outbox.add(connection, events)
        self.books.committed |= {event.event_id: event.body for event in events}
        if step.offered:
            self.books.remembered[step.process].update(event.event_id for event in events)
            process.relay.offer(events)

    async def recover(self) -> None:
        """Let every message be confirmed from now on, and a process sweep what the others left behind."""
        heir = self.processes[0]
        await self.do(Expire())
        for process in (*self.processes, heir):
            await process.begin()
            await process.rest()
            while under_way := process.under_way:
                await process.meet(under_way[0], Fate.CONFIRMED)
            await self.do(Expire())


def event_of(type_: int) -> OutboxEvent:
    """A new event of this type."""
    event_id = uuid4()
    return OutboxEvent(event_id, "anywhere", f"type-{type_}", f"type-{type_}", f"body of {event_id}".encode())


@examples(200)
@given(steps=steps)
async def test_what_was_committed_is_published_and_nothing_else_whoever_dies(
    pools: tuple[Pool, Pool], steps: list[Step]
) -> None:
    await pools[0].execute("DELETE FROM outbox")
    books = Books()
    table = Outbox([Process(number, pool, books) for number, pool in enumerate(pools)], books)

    for step in steps:
        await table.do(step)
    await table.recover()

    assert books.taken == books.committed
    assert await pools[0].fetchval("SELECT count(*) FROM outbox") == 0
