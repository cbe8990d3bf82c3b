"""Two gateways before a real tracker, and clients that drop and resume at random: nothing is missed or repeated."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from gateways import Gateway, running_gateway
from job_tracker import requests
from job_tracker.commands import SOURCE
from job_tracker.progress import Progress
from tallyho_contracts.jobs import JobCancel, JobState, JobStatus
from tallyho_contracts.registry import EVENTS
from tallyho_messaging.announcing import announce
from tallyho_messaging.connection import Amqp
from tallyho_messaging.publisher import PublishFailedError
from tallyho_messaging.requests import serve
from tallyho_messaging.topology import TRACKER_COMMANDS
from tallyho_messaging.wire import event_of
from tallyho_postgres.pool import Pool
from tracking import Tracker, made_up_crawl, saved, spawned, started
from ws_gateway import bindings, sockets
from ws_gateway.deps import DEPS

PAGES = 800


@pytest.fixture
async def tracker(amqp: Amqp, tracker_pool: Pool) -> AsyncIterator[Tracker]:
    """A tracker that announces and answers over the broker."""
    tracker, stop = Tracker(tracker_pool), asyncio.Event()
    progress = Progress(tracker_pool, partial(announce, amqp.publisher, SOURCE))
    tracker.deps = replace(tracker.deps, progress=progress)
    answer = partial(requests.answer, tracker.deps)
    async with asyncio.TaskGroup() as loops:
        loops.create_task(progress.run(stop))
        loops.create_task(serve(amqp, TRACKER_COMMANDS, answer, is_transient=lambda _: False, stop=stop))
        yield tracker
        stop.set()


@pytest.fixture
async def gateways(gateway_amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Gateway]]:
    # On a busy machine a client would be taken for one that follows every job, before it has subscribed.
    monkeypatch.setattr(sockets, "SILENCE_SECONDS", 3600.0)
    async with running_gateway(gateway_amqp_url) as one, running_gateway(gateway_amqp_url) as other:
        yield [one, other]


@dataclass
class Resuming:
    """A client that follows one job's states and documents, and whose connection breaks all the time."""

    gateways: list[Gateway]
    job_id: UUID
    dice: random.Random
    revisions: list[int] = field(default_factory=list)
    ordinals: list[int] = field(default_factory=list)
    drops: int = 0
    last: JobState | None = None

    async def follow(self) -> None:
        """Until the last state and all its documents are here."""
        while not self.has_all:
            socket = await self.dice.choice(self.gateways).ws_connect("/v1/ws")
            await self._subscribe(socket, "progress", revision=self.revisions[-1] if self.revisions else None)
            await self._subscribe(socket, "document_saved", ordinal=self.ordinals[-1] if self.ordinals else 0)
            for _ in range(self.dice.randint(1, 6)):
                message = await socket.receive(timeout=20)
                if message.type is not WSMsgType.TEXT:
                    break
                self._take(json.loads(message.data))
                if self.has_all:
                    break
            await self._drop(socket)

    @property
    def has_all(self) -> bool:
        return (
            self.last is not None
            and self.last.status.is_terminal
            and bool(self.ordinals)
            and self.ordinals[-1] >= self.last.document_count
        )

    async def _subscribe(self, socket: ClientWebSocketResponse, stream: str, **known: int | None) -> None:
        payload = {"job_id": str(self.job_id), "stream": stream}
        await socket.send_json({"type": "subscribe", "payload": payload | known})

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "parent_job_progress":
            self.last = JobState.model_validate(frame["payload"])
            self.revisions.append(self.last.revision)
        elif frame["type"] == "document_saved":
            self.ordinals += [document["ordinal"] for document in frame["payload"]["documents"]]
        else:
            assert frame["type"] == "subscribed", frame

    async def _drop(self, socket: ClientWebSocketResponse) -> None:
        self.drops += 1
        if self.dice.random() < 0.5 and (connection := socket._response.connection):
            assert connection.transport
            connection.transport.abort()
        else:
            await socket.close()


async def test_clients_that_drop_and_resume_at_random_miss_nothing_and_get_nothing_twice(
    tracker: Tracker, gateways: list[Gateway]
) -> None:
    dice = random.Random(11)
    job_id = await tracker.create()
    crawl = made_up_crawl(dice, job_id, PAGES)
    clients = [Resuming(gateways, job_id, random.Random(seed)) for seed in range(8)]

    events, applied = crawl.events, 0
    async with asyncio.timeout(120), asyncio.TaskGroup() as following:
        for client in clients:
            following.create_task(client.follow())
        while events:
            number = dice.randint(1, 40)
            await tracker.apply(*events[:number])
            events = events[number:]
            applied += 1
            while sum(client.drops for client in clients) < min(applied, 25):
                await asyncio.sleep(0.01)
    job = await tracker.job(job_id)

    assert job.status is JobStatus.COMPLETED
    assert job.document_count > PAGES / 3
    assert sum(client.drops for client in clients) > 20
    for client in clients:
        assert client.ordinals == list(range(1, job.document_count + 1))
        assert client.revisions == sorted(set(client.revisions))
        assert client.last is not None
        assert (client.last.revision, client.last.document_count) == (job.revision, job.document_count)


async def test_document_of_a_job_comes_with_its_description(tracker: Tracker, gateways: list[Gateway]) -> None:
    job_id = await tracker.create()
    socket = await gateways[0].ws_connect("/v1/ws")
    payload = {"job_id": str(job_id), "stream": "document_saved"}
    await socket.send_json({"type": "subscribe", "payload": payload})
    answer = await socket.receive_json(timeout=10)

    await tracker.apply(started(job_id, "a"), saved(job_id, "a", title="The first"))
    frame = await socket.receive_json(timeout=10)

    assert answer["payload"] == payload | {"outcome": "up_to_date"}
    [document] = frame["payload"]["documents"]
    assert (document["ordinal"], document["title"]) == (1, "The first")
    assert document["page_id"] == str(spawned(job_id, "a").page_id)


async def is_heard(amqp: Amqp, job_id: UUID) -> bool:
    """Whether an announcement about the job reaches any gateway at all; it says nothing new."""
    state = JobState(
        job_id=job_id,
        revision=0,
        status=JobStatus.RUNNING,
        progress_text="",
        timestamp="2025-01-02T12:00:00Z",
        **dict.fromkeys((f"{kind}_children" for kind in KINDS), 0),
        document_count=0,
        documents_per_second=0,
        created_at="2025-01-02T12:00:00Z",
    )
    event = event_of(state, source="test", subject=job_id)
    key = f"{event.type}.{job_id}"
    try:
        await amqp.publisher.publish_events(EVENTS, key, event.type, [uuid4()], [event.model_dump_json().encode()])
    except PublishFailedError:
        return False
    return True


KINDS = ("total", "pending", "running", "completed", "failed", "skipped", "cancelled")


async def until_heard(amqp: Amqp, job_id: UUID, *, heard: bool) -> None:
    async with asyncio.timeout(15):
        while await is_heard(amqp, job_id) is not heard:
            await asyncio.sleep(0.02)


async def test_gateway_hears_only_of_the_jobs_that_somebody_follows(
    tracker: Tracker, gateways: list[Gateway], amqp: Amqp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bindings, "LINGER_SECONDS", 0.5)
    followed, other = await tracker.create(), await tracker.create()
    at_first = [await is_heard(amqp, followed), await is_heard(amqp, other)]

    narrow = await gateways[0].ws_connect("/v1/ws")
    await narrow.send_json({"type": "subscribe", "payload": {"job_id": str(followed)}})
    await narrow.receive_json(timeout=10)
    with_one = [await is_heard(amqp, followed), await is_heard(amqp, other)]

    wide = await gateways[1].ws_connect("/v1/ws")
    await wide.send_json({"type": "subscribe"} | {"payload": {}})
    answer = await wide.receive_json(timeout=10)
    states = {(await wide.receive_json(timeout=10))["payload"]["job_id"] for _ in range(2)}
    with_all = [await is_heard(amqp, followed), await is_heard(amqp, other)]

    await wide.close()
    await until_heard(amqp, other, heard=False)
    await narrow.close()
    await until_heard(amqp, followed, heard=False)

    assert (at_first, with_one, with_all) == ([False, False], [True, False], [True, True])
    assert answer["payload"]["outcome"] == "snapshot"
    assert states == {str(followed), str(other)}


async def test_job_that_is_left_and_followed_again_at_once_stays_bound(
    tracker: Tracker, gateways: list[Gateway], amqp: Amqp
) -> None:
    job_id = await tracker.create()
    for _ in range(5):
        socket = await gateways[0].ws_connect("/v1/ws")
        await socket.send_json({"type": "subscribe", "payload": {"job_id": str(job_id)}})
        answer = await socket.receive_json(timeout=10)
        await socket.close()

        assert answer["type"] == "subscribed"
        assert await is_heard(amqp, job_id)


async def test_states_of_one_message_that_nobody_follows_are_not_taken_for_known(
    tracker: Tracker, gateways: list[Gateway], amqp: Amqp
) -> None:
    followed, other = await tracker.create(), await tracker.create()
    socket = await gateways[0].ws_connect("/v1/ws")
    await socket.send_json({"type": "subscribe", "payload": {"job_id": str(followed), "revision": 1}})
    await socket.receive_json(timeout=10)

    await tracker.apply(started(followed, "a"), started(other, "b"))  # both states in one message
    state = await socket.receive_json(timeout=10)
    hub = gateways[0].app[DEPS].hub

    assert (state["payload"]["job_id"], state["payload"]["status"]) == (str(followed), "running")
    assert hub.newest(followed) is not None
    assert hub.newest(other) is None


async def test_resumed_client_of_every_job_hears_of_an_end_that_came_between(
    tracker: Tracker, gateways: list[Gateway]
) -> None:
    job_id = await tracker.create()
    first = await gateways[0].ws_connect("/v1/ws")
    await first.send_json({"type": "subscribe", "payload": {}})
    await first.receive_json(timeout=10)
    live = (await first.receive_json(timeout=10))["payload"]
    await first.close()

    await tracker.ask(JobCancel(job_id=job_id))
    await tracker.apply(started(job_id))
    second = await gateways[1].ws_connect("/v1/ws")
    held = {live["job_id"]: live["revision"]}
    await second.send_json({"type": "subscribe", "payload": {"revisions": held}})
    await second.receive_json(timeout=10)
    end = (await second.receive_json(timeout=10))["payload"]

    assert live["job_id"] == end["job_id"] == str(job_id)
    assert end["status"] == "cancelled"
