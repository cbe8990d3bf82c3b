"""Server-Sent Events: the same states as over the WebSocket, and the same way to resume."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.jobs import JobState
from ws_gateway import events, sockets
from ws_gateway.keys import KeyRing, Scope, new_key
from ws_gateway.limits import Limits

State = Callable[..., JobState]
ONE = UUID(int=1)
PATH = f"/v1/jobs/{ONE}/events"


async def next_event(response: Any) -> dict[str, str]:
    """The next event's fields; a comment has the name of none."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(30):
        while (line := (await response.content.readline()).decode()) != "\n":
            assert line, "the stream has ended"
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value
    return fields


async def test_states_come_with_their_revisions_until_the_last(gateway: Any, state: State) -> None:
    gateway.hub.offer(gateway.tracker.add(state(1, 5, documents=0)))

    response = await gateway.http.get(PATH)
    snapshot = await next_event(response)
    gateway.hub.offer(state(2, 9))
    gateway.hub.offer(state(1, 6, documents=1))
    newer = await next_event(response)
    gateway.hub.offer(state(1, 7, "completed", documents=2))
    last = await next_event(response)
    rest = await response.content.read()

    assert response.content_type == "text/event-stream"
    assert [event["id"] for event in (snapshot, newer, last)] == ["5", "6", "7"]
    assert {event["event"] for event in (snapshot, newer, last)} == {"parent_job_progress"}
    assert json.loads(snapshot["data"]) == state(1, 5, documents=0).model_dump(mode="json")
    assert rest == b""
    assert list(gateway.hub.watched) == []


async def test_stream_resumes_after_the_last_event_and_ends_for_good_after_the_last_state(
    gateway: Any, state: State
) -> None:
    gateway.hub.offer(gateway.tracker.add(state(1, 5)))

    response = await gateway.http.get(PATH, headers={"Last-Event-ID": "5"})
    gateway.hub.offer(gateway.tracker.add(state(1, 6, "completed")))
    event = await next_event(response)
    again = await gateway.http.get(PATH, headers={"Last-Event-ID": "6"})
    late = await gateway.http.get(PATH, headers={"Last-Event-ID": "5"})

    assert event["id"] == "6"
    assert again.status == 204
    assert (await next_event(late))["id"] == "6"


@pytest.mark.parametrize("last", ["x", "-1", "1.5", str(2**63)])
async def test_last_event_id_that_is_none_is_refused(gateway: Any, state: State, last: str) -> None:
    gateway.tracker.add(state(1, 5))

    response = await gateway.http.get(PATH, headers={"Last-Event-ID": last})

    assert response.status == 422
    assert (await response.json())["errors"][0]["field"] == "Last-Event-ID"


async def test_unknown_job_is_not_found(gateway: Any) -> None:
    response = await gateway.http.get(PATH)

    assert response.status == 404
    assert list(gateway.hub.watched) == []


async def test_silence_is_broken_by_a_comment(gateway: Any, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_SECONDS", 0.05)
    gateway.hub.offer(gateway.tracker.add(state(1, 5)))

    response = await gateway.http.get(PATH, headers={"Last-Event-ID": "5"})

    assert await next_event(response) == {"": "ping"}


async def test_gateway_that_stops_says_when_to_come_back(gateway: Any, state: State) -> None:
    gateway.hub.offer(gateway.tracker.add(state(1, 5)))
    response = await gateway.http.get(PATH)
    await next_event(response)

    await sockets.close_all(gateway.http.app)
    hint = await next_event(response)

    assert 500 <= int(hint["retry"]) <= 5_000
    assert await response.content.read() == b""


async def test_client_that_left_is_forgotten(gateway: Any, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_SECONDS", 0.05)
    gateway.hub.offer(gateway.tracker.add(state(1, 5)))
    response = await gateway.http.get(PATH)
    response.close()

    async with asyncio.timeout(30):
        while list(gateway.hub.watched):
            await asyncio.sleep(0.01)


async def test_browser_comes_with_a_ticket(gateway_with: Any, state: State) -> None:
    secret, key = new_key("reader", [Scope.READ])
    gateway = await gateway_with(keys=KeyRing([key]))
    gateway.hub.offer(gateway.tracker.add(state(1, 5)))
    issued = await gateway.http.post("/v1/tickets", headers={"Authorization": f"Bearer {secret}"})
    ticket = (await issued.json())["ticket"]

    let_in = await gateway.http.get(f"{PATH}?ticket={ticket}")
    again = await gateway.http.get(f"{PATH}?ticket={ticket}")

    assert (await next_event(let_in))["id"] == "5"
    assert again.status == 401


async def test_streams_count_among_the_connections(gateway_with: Any, state: State) -> None:
    gateway = await gateway_with(limits=Limits(connections=1))
    gateway.hub.offer(gateway.tracker.add(state(1, 5)))
    await gateway.http.get(PATH)

    refused = await gateway.http.get(PATH)

    assert (refused.status, (await refused.json())["code"]) == (429, "too_many_connections")
