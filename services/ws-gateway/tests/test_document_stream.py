"""Subscriptions to a job's documents: each ordinal once and in order, whatever the client and the tracker do."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.documents import Document
from tallyho_contracts.jobs import JobState
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_messaging.requests import RequestRefused
from ws_gateway import connection, documents, frames
from ws_gateway.limits import Limits

pytestmark = pytest.mark.usefixtures("no_silence")

State = Callable[..., JobState]
ONE, TWO = UUID(int=1), UUID(int=2)
UNAVAILABLE = RequestRefused(Refused(code=ErrorCode.UNAVAILABLE, message="the database is away"))


def a_document(ordinal: int) -> Document:
    return Document(
        document_id=UUID(int=ordinal),
        ordinal=ordinal,
        source_url=f"https://example.com/{ordinal}",
        title="Ein Titel, übersetzt",
        saved_at="2025-01-02T12:00:00Z",
    )


def grow(gateway: Any, state: State, documents: int, status: str = "running") -> None:
    """Job one has so many documents now, and says so."""
    known = gateway.tracker.documents
    known += [a_document(ordinal) for ordinal in range(len(known) + 1, documents + 1)]
    gateway.hub.offer(gateway.tracker.add(state(1, documents + 1, status, documents=documents)))


async def ordinals_until(watcher: Any, last: int, job: UUID = ONE) -> list[int]:
    ordinals: list[int] = []
    while not ordinals or ordinals[-1] < last:
        frame = await watcher.next()
        if frame["type"] == "document_saved":
            assert frame["payload"]["job_id"] == str(job)
            ordinals += [document["ordinal"] for document in frame["payload"]["documents"]]
    return ordinals


async def test_documents_are_replayed_from_the_first_then_live(gateway: Any, state: State) -> None:
    grow(gateway, state, 450)
    watcher = await gateway.watch("/v1/ws")

    answer = await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved")
    replayed = await ordinals_until(watcher, 450)
    grow(gateway, state, 451)
    grow(gateway, state, 700, "completed")
    live = await ordinals_until(watcher, 700)

    assert answer["payload"] == {
        "job_id": str(ONE),
        "stream": "document_saved",
        "outcome": "replayed",
        "from_ordinal": 1,
        "to_ordinal": 450,
    }
    assert replayed + live == list(range(1, 701))


async def test_documents_of_the_largest_size_come_in_frames_that_a_client_has_room_for(
    gateway: Any, state: State
) -> None:
    url, title = f"https://example.com/{'x' * 2_000}", "ü" * 1_000
    large = [a_document(number).model_copy(update={"source_url": url, "title": title}) for number in range(1, 451)]
    gateway.tracker.documents += large
    grow(gateway, state, 450)
    watcher = await gateway.watch("/v1/ws")

    await watcher.send("subscribe", job_id=str(ONE), stream="document_saved")

    assert await ordinals_until(watcher, 450) == list(range(1, 451))


async def test_documents_resume_after_the_ordinal_that_the_client_has(gateway: Any, state: State) -> None:
    grow(gateway, state, 10)
    watcher = await gateway.watch("/v1/ws")

    behind = await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=7)
    rest = await ordinals_until(watcher, 10)
    current = await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=10)
    ahead = await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=11)

    assert (behind["payload"]["from_ordinal"], behind["payload"]["to_ordinal"]) == (8, 10)
    assert rest == [8, 9, 10]
    assert current["payload"]["outcome"] == "up_to_date"
    assert (ahead["payload"]["code"], ahead["payload"]["field"]) == ("invalid", "ordinal")


async def test_document_has_the_fields_that_the_http_api_gives_it(gateway: Any, state: State) -> None:
    grow(gateway, state, 1)
    watcher = await gateway.watch("/v1/ws")

    await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved")
    frame = await watcher.next()

    assert frame["payload"]["documents"] == [a_document(1).model_dump(mode="json")]


@pytest.mark.parametrize("away", [True, UNAVAILABLE])
async def test_documents_the_tracker_does_not_answer_for_come_later(
    gateway: Any, state: State, monkeypatch: pytest.MonkeyPatch, away: bool | RequestRefused
) -> None:
    monkeypatch.setattr(documents, "RETRY_SECONDS", (0.01, 0.02))
    grow(gateway, state, 10)
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=10)

    gateway.tracker.away = away
    grow(gateway, state, 20)
    asked = len(gateway.tracker.asked)
    async with asyncio.timeout(30):
        while len(gateway.tracker.asked) < asked + 3:
            await asyncio.sleep(0.005)
    gateway.tracker.away = False

    assert await ordinals_until(watcher, 20) == list(range(11, 21))


async def test_followers_at_the_same_place_cost_one_request(gateway: Any, state: State) -> None:
    grow(gateway, state, 5)
    watchers = [await gateway.watch("/v1/ws") for _ in range(20)]
    for watcher in watchers:
        await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=5)
    asked = len(gateway.tracker.asked)

    grow(gateway, state, 105)
    received = [await ordinals_until(watcher, 105) for watcher in watchers]

    assert received == [list(range(6, 106))] * 20
    assert len(gateway.tracker.asked) == asked + 1


async def test_followers_further_on_than_anybody_before_share_a_request_too(gateway: Any, state: State) -> None:
    grow(gateway, state, 1000)
    shared = documents.Documents(gateway.tracker.ask)
    for after in (0, 700, 700):
        await shared.after(ONE, after)

    assert [query.after for query in gateway.tracker.asked] == [0, 700]


async def test_subscription_that_is_refused_takes_no_place(gateway_with: Any, state: State) -> None:
    gateway = await gateway_with(limits=Limits(subscriptions=1))
    grow(gateway, state, 5)
    watcher = await gateway.watch("/v1/ws")
    await watcher.answer_to("subscribe", job_id=str(ONE), stream="document_saved", ordinal=6)
    answer = await watcher.answer_to("subscribe", job_id=str(ONE))

    assert answer["type"] == "subscribed"


async def test_clients_that_drop_and_resume_at_random_get_every_ordinal_once(gateway_with: Any, state: State) -> None:
    gateways = [await gateway_with(flush_seconds=0.02), await gateway_with(flush_seconds=0.02)]
    dice = random.Random(7)
    last = 3_000

    async def follow() -> list[int]:
        ordinals: list[int] = []
        while not ordinals or ordinals[-1] < last:
            watcher = await dice.choice(gateways).watch("/v1/ws")
            have = ordinals[-1] if ordinals else 0
            await watcher.send("subscribe", job_id=str(ONE), stream="document_saved", ordinal=have)
            for _ in range(dice.randint(0, 8)):
                frame = await watcher.next()
                if frame["type"] == "document_saved":
                    ordinals += [document["ordinal"] for document in frame["payload"]["documents"]]
                if ordinals and ordinals[-1] == last:
                    break
            if dice.random() < 0.5:
                watcher.socket._response.connection.transport.abort()
            await watcher.socket.close()
        return ordinals

    grow(gateways[0], state, 1)
    following = [asyncio.create_task(follow()) for _ in range(10)]
    for documents_now in range(1, last + 1, 7):
        grow(gateways[0], state, documents_now)
        await asyncio.sleep(0.002)
    grow(gateways[0], state, last, "completed")

    async with asyncio.timeout(60):
        assert await asyncio.gather(*following) == [list(range(1, last + 1))] * 10


async def test_client_that_takes_documents_slowly_is_not_buffered_for(gateway: Any, state: State) -> None:
    grow(gateway, state, 20_000)
    watcher = await gateway.watch("/v1/ws")
    watcher.socket._response.connection.transport.pause_reading()

    await watcher.send("subscribe", job_id=str(ONE), stream="document_saved")
    [only] = gateway.connections
    async with asyncio.timeout(30):
        while only.client.queued_bytes < connection.ROOM_BYTES:
            await asyncio.sleep(0.01)
    gateway.tracker.add(state(2, 1, documents=20_000))
    other = await gateway.watch("/v1/ws")
    await other.send("subscribe", job_id=str(TWO), stream="document_saved")
    await ordinals_until(other, 20_000, TWO)  # in as many requests as could have been made for the slow one

    asked = Counter(message.job_id for message in gateway.tracker.asked)
    assert asked[ONE] < 60 < asked[TWO]
    watcher.socket._response.connection.transport.resume_reading()
    assert await ordinals_until(watcher, 20_000) == list(range(1, 20_001))


def test_frames_of_documents_are_valid_json() -> None:
    encoded = [a_document(one).model_dump_json().encode() for one in (1, 2)]
    frame = json.loads(frames.documents(ONE, encoded))

    assert frames.SavedDocuments.model_validate_json(json.dumps(frame["payload"])).documents == (
        a_document(1),
        a_document(2),
    )
