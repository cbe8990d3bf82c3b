"""Clients that follow every job are sent the same bytes; who falls behind or wants more goes alone, missing nothing."""

import asyncio
import json
import random
import re
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from tallyho_contracts.jobs import JobState
from ws_gateway.clients import Pace
from ws_gateway.crowds import Crowds, is_one_of_many
from ws_gateway.hub import Hub
from ws_gateway.phases import Phases

State = Callable[..., JobState]
INTERVAL = 0.02


class Someone:
    """A connection that keeps what it is sent, and takes nothing while it `sleeps`."""

    def __init__(self, hub: Hub, crowds: Crowds) -> None:
        self.sleeps = False
        self.writes: list[bytes] = []
        self._hub = hub
        self._crowds = crowds
        self.client = hub.join(self._wake, INTERVAL)

    def settle(self) -> None:
        self._hub.settle(self.client)
        if is_one_of_many(self.client):
            self._crowds.enter(self)

    def write(self, data: bytes, frames: int) -> bool:
        assert frames == data.count(b'"type"')
        if not self.sleeps:
            self.writes.append(data)
        return not self.sleeps

    def flush(self, pace: Pace) -> None:
        if self.sleeps:
            asyncio.get_running_loop().call_later(INTERVAL, self.flush, pace)
        elif frames := self.client.take(pace, 256):
            self.writes.append(b"".join(frames))

    def _wake(self, pace: Pace, urgent: bool) -> None:
        asyncio.get_running_loop().call_later(0 if urgent else INTERVAL, self.flush, pace)

    @property
    def revisions(self) -> dict[int, list[int]]:
        """What it was sent, by job."""
        sent: dict[int, list[int]] = {}
        for text in re.findall(rb'\{"type":.*?\}\}', b"".join(self.writes)):
            payload: dict[str, Any] = json.loads(text)["payload"]
            sent.setdefault(UUID(payload["job_id"]).int, []).append(payload["revision"])
        return sent


def one_by_one(members: Iterable[Someone]) -> Callable[[bytes, int], list[Someone]]:
    """Writes to all of them."""
    everyone = list(members)
    return lambda data, frames: [one for one in everyone if not one.write(data, frames)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def test_members_are_sent_one_and_the_same_bytes(state: State) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), INTERVAL, one_by_one)
    crowd = [Someone(hub, crowds) for _ in range(4)]
    for one in crowd:
        one.settle()
    hub.offer(state(1, 1))
    await until(lambda: all(one.writes for one in crowd) and not hub._everything)

    hub.offer(state(1, 2))
    hub.offer(state(2, 1))
    await until(lambda: all(len(one.writes) > 1 for one in crowd))

    assert [one.revisions for one in crowd] == [{1: [1, 2], 2: [1]}] * 4
    assert len({id(one.writes[-1]) for one in crowd}) <= 2  # one for each moment of the interval
    assert not hub._everything


async def test_end_of_a_job_does_not_wait_for_the_crowds_moment(state: State) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), 3600.0, one_by_one)
    one = Someone(hub, crowds)
    one.client.default.interval = 3600.0
    one.settle()
    for crowd in crowds._crowds:
        crowd._let_in()

    hub.offer(state(1, 1, "completed"))

    await until(lambda: bool(one.writes))


async def test_member_that_takes_nothing_gets_what_it_missed_later(state: State) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), INTERVAL, one_by_one)
    sleeper, other = Someone(hub, crowds), Someone(hub, crowds)
    for one in (sleeper, other):
        one.settle()
    hub.offer(state(1, 1))
    await until(lambda: not hub._everything)

    sleeper.sleeps = True
    hub.offer(state(2, 1))
    await until(lambda: 2 in other.revisions)
    sleeper.sleeps = False
    await until(lambda: 2 in sleeper.revisions)

    assert sleeper.revisions == other.revisions == {1: [1], 2: [1]}


async def test_last_member_that_leaves_ends_the_crowd(state: State) -> None:
    hub = Hub()
    one = Someone(hub, Crowds(hub, Phases(), INTERVAL, one_by_one))
    one.settle()
    hub.offer(state(1, 1))
    await until(lambda: bool(one.writes))

    hub.leave(one.client)

    assert not hub._crowds
    assert not hub._everything
    assert not hub.wants_everything


async def test_whoever_sleeps_leaves_subscribes_or_comes_back_misses_nothing_and_gets_nothing_twice(
    state: State,
) -> None:
    hub, dice = Hub(), random.Random(3)
    crowds = Crowds(hub, Phases(), INTERVAL, one_by_one)
    people = [Someone(hub, crowds) for _ in range(30)]
    revisions = dict.fromkeys(range(1, 6), 0)
    for step in range(1_500):
        job = dice.choice(list(revisions))
        revisions[job] += 1
        hub.offer(state(job, revisions[job]))
        one = dice.choice(people)
        match dice.randrange(8):
            case 0:
                one.settle() if not one.client.crowd else None
            case 1 | 2:
                one.sleeps = not one.sleeps
            case 3 if not one.client.is_silent or step > 200:
                newest = hub.newest(UUID(int=job))
                assert newest is not None
                known = one.revisions.get(job, [-1])[-1]
                if one.client.is_silent:
                    hub.subscribe_all(
                        one.client, {UUID(int=number): sent[-1] for number, sent in one.revisions.items()}
                    )
                    hub.answer_all(one.client)
                hub.subscribe(one.client, UUID(int=job), known)
                hub.answer(one.client, newest.state)
        if step % 5 == 0:
            await asyncio.sleep(0.002)
    for one in people:
        one.sleeps = False
        if one.client.is_silent and not one.client.crowd:
            one.settle()
    for job in revisions:
        revisions[job] += 1
        hub.offer(state(job, revisions[job]))
    await until(lambda: all(sent[-1:] == [revisions[job]] for one in people for job, sent in one.revisions.items()))

    for one in people:
        assert set(one.revisions) == set(revisions)
        for sent in one.revisions.values():
            assert sent == sorted(set(sent))
