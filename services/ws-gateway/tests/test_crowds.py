"""Clients that follow the same are sent the same bytes; who falls behind or wants more goes alone, missing nothing."""

import asyncio
import json
import random
import re
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.jobs import JobState
from ws_gateway.clients import Pace
from ws_gateway.crowds import Crowds
from ws_gateway.hub import Hub
from ws_gateway.phases import Phases

State = Callable[..., JobState]
INTERVAL = 0.02


class Someone:
    """A connection that keeps what it is sent, and takes nothing while it `sleeps`."""

    def __init__(self, hub: Hub, crowds: Crowds, interval: float = INTERVAL) -> None:
        self.sleeps = False
        self.writes: list[bytes] = []
        self._hub = hub
        self._crowds = crowds
        self.client = hub.join(self._wake, interval)

    def settle(self) -> None:
        self._hub.settle(self.client)
        self._crowds.enter(self)

    def follow(self, job: int, known: int | None = None) -> None:
        """Subscribe to one job, of which it has this revision."""
        newest = self._hub.newest(UUID(int=job))
        assert newest
        self._hub.subscribe(self.client, UUID(int=job), known)
        self._hub.answer(self.client, newest.state)
        self.settle()

    @property
    def is_alone(self) -> bool:
        """Whether the hub itself tells it of something."""
        interests = self.client.interests.items()
        watchers = self._hub._watchers
        return self.client in self._hub._everything or any(one in watchers.get(job, ()) for job, one in interests)

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


@pytest.mark.parametrize("job", [None, 1])
async def test_members_are_sent_one_and_the_same_bytes(state: State, job: int | None) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), INTERVAL, one_by_one)
    hub.offer(state(1, 1))
    crowd = [Someone(hub, crowds) for _ in range(4)]
    for one in crowd:
        one.settle() if job is None else one.follow(job)
    hub.offer(state(1, 2))
    await until(lambda: not any(one.is_alone for one in crowd))

    hub.offer(state(1, 3))
    hub.offer(state(2, 1))
    await until(lambda: all(3 in one.revisions.get(1, []) for one in crowd))

    assert [one.revisions for one in crowd] == [{1: [2, 3]} | ({} if job else {2: [1]})] * 4
    assert len({id(one.writes[-1]) for one in crowd}) <= 2  # one for each moment of the interval


@pytest.mark.parametrize("job", [None, 1])
async def test_end_of_a_job_does_not_wait_for_the_crowds_moment(state: State, job: int | None) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), 3600.0, one_by_one)
    one = Someone(hub, crowds, 3600.0)
    if job:
        hub.offer(state(1, 1))
        one.follow(job)
    else:
        one.settle()
    [crowd] = crowds._crowds.values()
    crowd._let_in()
    assert not one.is_alone

    hub.offer(state(1, 2, "completed"))

    await until(lambda: 2 in one.revisions.get(1, []))


@pytest.mark.parametrize("job", [None, 1])
async def test_member_that_takes_nothing_gets_what_it_missed_later(state: State, job: int | None) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), INTERVAL, one_by_one)
    hub.offer(state(1, 1))
    sleeper, other = Someone(hub, crowds), Someone(hub, crowds)
    for one in (sleeper, other):
        one.settle() if job is None else one.follow(job)
    hub.offer(state(1, 2))
    await until(lambda: not (sleeper.is_alone or other.is_alone))

    sleeper.sleeps = True
    hub.offer(state(1, 3))
    await until(lambda: 3 in other.revisions[1])
    sleeper.sleeps = False
    await until(lambda: 3 in sleeper.revisions[1])

    assert sleeper.revisions == other.revisions == {1: [2, 3]}


@pytest.mark.parametrize("job", [None, 1])
async def test_last_member_that_leaves_ends_the_crowd(state: State, job: int | None) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), INTERVAL, one_by_one)
    hub.offer(state(1, 1))
    one = Someone(hub, crowds)
    one.settle() if job is None else one.follow(job)
    hub.offer(state(1, 2))
    await until(lambda: not one.is_alone)

    hub.leave(one.client)

    assert not crowds._crowds
    assert not hub._everything
    assert not hub._watchers
    assert not hub.wants_everything


async def test_client_is_in_one_crowd_however_often_it_says_what_it_follows(state: State) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), 0.05, one_by_one)  # of which there are two moments
    one = Someone(hub, crowds, 0.05)
    for _ in range(4):
        one.settle()
    for revision in (1, 2):
        hub.offer(state(1, revision))
        await until(lambda newest=revision: newest in one.revisions.get(1, []))  # type: ignore[misc]

    assert len(crowds._crowds) == 1
    assert one.revisions == {1: [1, 2]}


async def test_client_that_comes_back_with_what_it_has_joins_the_crowd(state: State) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), INTERVAL, one_by_one)
    hub.offer(state(1, 7))
    ahead, behind = Someone(hub, crowds), Someone(hub, crowds)
    for one, revision in ((ahead, 9), (behind, 7)):
        hub.subscribe_all(one.client, {UUID(int=1): revision, UUID(int=2): 3})
        hub.answer_all(one.client)
        one.settle()

    assert (ahead.client.crowd, behind.client.crowd) == (None, *crowds._crowds.values())


async def test_client_that_is_ahead_or_follows_two_jobs_goes_alone(state: State) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), INTERVAL, one_by_one)
    for job in (1, 2):
        hub.offer(state(job, 7))
    ahead, both, usual = (Someone(hub, crowds) for _ in range(3))
    ahead.follow(1, 9)
    usual.follow(1, 7)
    both.follow(1)
    both.follow(2)

    assert (ahead.client.crowd, both.client.crowd, usual.client.crowd) == (None, None, *crowds._crowds.values())


@pytest.mark.parametrize("job", [None, 1])
async def test_what_waits_for_all_becomes_the_own_of_who_leaves(state: State, job: int | None) -> None:
    hub = Hub()
    crowds = Crowds(hub, Phases(), 3600.0, one_by_one)
    for number in (1, 2):
        hub.offer(state(number, 1))
    one = Someone(hub, crowds, 3600.0)
    if job:
        one.follow(job)
    else:
        hub.subscribe_all(one.client, {})
        hub.answer_all(one.client)
        one.settle()
    [crowd] = crowds._crowds.values()
    crowd._let_in()
    assert not one.is_alone

    hub.offer(state(1, 2))
    hub.subscribe(one.client, UUID(int=2), 1)

    own = one.client.everything or one.client.default
    assert [latest.revision for latest in own.dirty.values()] == [2]


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


async def test_whoever_goes_from_job_to_job_misses_nothing_and_gets_nothing_twice(state: State) -> None:
    hub, dice = Hub(), random.Random(5)
    crowds = Crowds(hub, Phases(), INTERVAL, one_by_one)
    people = [Someone(hub, crowds) for _ in range(30)]
    revisions = dict.fromkeys(range(1, 4), 0)

    def go_on(job: int) -> None:
        revisions[job] += 1
        hub.offer(state(job, revisions[job]))

    in_crowds_of_one_job = 0
    for step in range(1_500):
        go_on(dice.choice(list(revisions)))
        one, job = dice.choice(people), dice.choice(list(revisions))
        match dice.randrange(8):
            case 0 | 1:
                one.sleeps = not one.sleeps
            case 2 | 3 if hub.newest(UUID(int=job)):
                for other in list(one.client.interests):
                    hub.unsubscribe(one.client, other)
                one.follow(job, one.revisions.get(job, [-1])[-1])
            case 4 if one.client.interests:
                hub.unsubscribe(one.client, dice.choice(list(one.client.interests)))
            case 5:
                hub.subscribe_all(one.client, {UUID(int=number): sent[-1] for number, sent in one.revisions.items()})
                hub.answer_all(one.client)
                one.settle()
            case 6:
                hub.unsubscribe_all(one.client)
        in_crowds_of_one_job += sum(not one.is_alone for one in people if one.client.interests)
        if step % 5 == 0:
            await asyncio.sleep(0.002)
    for job in revisions:
        go_on(job)
    for one in people:  # nothing comes after this that could hide what is lost here
        for other in list(one.client.interests) if one.client.everything else []:
            hub.unsubscribe(one.client, other)
        one.sleeps = False
        one.settle()

    def wanted(one: Someone) -> dict[int, int]:
        followed = revisions if one.client.everything else [job.int for job in one.client.interests]
        return {job: revisions[job] for job in followed}

    await until(lambda: all(wanted(one).items() <= newest_of(one).items() for one in people))

    assert in_crowds_of_one_job > 1_000
    for one in people:
        for sent in one.revisions.values():
            assert sent == sorted(set(sent))


def newest_of(one: Someone) -> dict[int, int]:
    return {job: sent[-1] for job, sent in one.revisions.items()}
