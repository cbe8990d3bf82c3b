"""The WebSocket of a crawl in Firecrawl's v2 API: every document once, and how the crawl ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from tallyho_contracts.jobs import JobState
from ws_gateway import firecrawl_watch

State = Callable[..., JobState]
Fill = Callable[..., None]
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
CRAWL = f"/v2/crawl/{UUID(int=1)}"


@asynccontextmanager
async def watching(gateway: Any, **options: Any) -> AsyncIterator[ClientWebSocketResponse]:
    async with gateway.http.ws_connect(CRAWL, **options) as socket:
        yield socket


async def frames_until(socket: ClientWebSocketResponse, *types: str) -> list[dict[str, Any]]:
    """The frames up to the first of one of these types."""
    frames = []
    while not frames or frames[-1]["type"] not in types:
        frames.append(await socket.receive_json(timeout=30))
    return frames


async def all_frames(socket: ClientWebSocketResponse) -> list[dict[str, Any]]:
    """The frames until the server closes."""
    frames = []
    while (message := await socket.receive(timeout=30)).type is WSMsgType.TEXT:
        frames.append(message.json())
    return frames


def numbers(frames: list[dict[str, Any]]) -> list[int]:
    """The documents in `frames`, each by the number at the end of its address."""
    documents = []
    for frame in frames:
        documents += {"catchup": lambda data: data["data"], "document": lambda data: [data]}.get(
            frame["type"], lambda _: []
        )(frame["data"])
    return [int(document["metadata"]["sourceURL"].rpartition("/")[2]) for document in documents]


async def test_what_there_is_comes_first_then_each_document_once(gateway: Any, state: State, fill: Fill) -> None:
    fill(3)
    gateway.tracker.add(state(1, revision=3, documents=3))
    async with watching(gateway) as socket:
        first = await frames_until(socket, "catchup")
        fill(5)
        gateway.hub.offer(state(1, revision=4, documents=5))
        gateway.hub.offer(state(1, revision=4, documents=5))
        live = [await socket.receive_json(timeout=30) for _ in range(2)]
        fill(6)
        gateway.hub.offer(state(1, revision=9, status="completed", documents=6))
        last = await all_frames(socket)

    assert (first[0]["data"]["status"], first[0]["data"]["completed"]) == ("scraping", 3)
    assert numbers(first) == [1, 2, 3]
    assert numbers(live) == [4, 5]
    assert numbers(last) == [6]
    assert [frame["type"] for frame in last] == ["document", "done"]
    assert (last[1]["data"]["status"], last[1]["data"]["completed"], last[1]["data"]["data"]) == ("completed", 6, [])
    assert socket.close_code == 1000


async def test_finished_crawl_is_told_whole_before_its_end(gateway: Any, state: State, fill: Fill) -> None:
    fill(350)
    gateway.tracker.batch = 40
    gateway.tracker.add(state(1, status="completed", documents=350))
    async with watching(gateway) as socket:
        frames = await all_frames(socket)

    assert numbers(frames) == list(range(1, 351))
    assert frames[0]["data"]["status"] == "scraping"  # or their clients would stop listening
    assert {frame["type"] for frame in frames[1:-1]} == {"document"}
    assert frames[-1]["type"] == "done"


async def test_small_finished_crawl_is_told_at_once(gateway: Any, state: State, fill: Fill) -> None:
    fill(2)
    gateway.tracker.add(state(1, status="completed", documents=2))
    async with watching(gateway) as socket:
        frames = await all_frames(socket)

    assert [frame["type"] for frame in frames] == ["catchup", "done"]
    assert frames[0]["data"]["status"] == "completed"


async def test_cancelled_crawl_is_not_done(gateway: Any, state: State, fill: Fill) -> None:
    gateway.tracker.add(state(1, revision=3))
    async with watching(gateway) as socket:
        await frames_until(socket, "catchup")
        fill(1)
        gateway.hub.offer(state(1, revision=4, status="cancelled", documents=1))
        frames = await all_frames(socket)

    assert [frame["type"] for frame in frames] == ["document", "catchup"]
    assert (frames[1]["data"]["status"], frames[1]["data"]["completed"]) == ("cancelled", 1)


async def test_failed_crawl_says_why(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, status="failed").model_copy(update={"error": "no document was saved"}))
    async with watching(gateway) as socket:
        frames = await all_frames(socket)

    assert [frame["type"] for frame in frames] == ["catchup", "error"]
    assert frames[0]["data"]["status"] == "scraping"  # or their clients would not wait for the reason
    assert frames[1]["error"] == "no document was saved"


async def test_unknown_crawl_is_an_error(gateway: Any) -> None:
    async with watching(gateway) as socket:
        frames = await all_frames(socket)

    assert [frame["type"] for frame in frames] == ["error"]
    assert socket.close_code == 1008


async def test_key_named_as_a_subprotocol_is_echoed(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1))
    async with watching(gateway, protocols=["fc-key"]) as socket:
        assert socket.protocol == "fc-key"


async def test_watcher_waits_for_services_that_are_away(
    gateway: Any, state: State, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firecrawl_watch, "RETRY_SECONDS", 0.01)
    gateway.tracker.add(state(1, revision=3))
    async with watching(gateway) as socket:
        await frames_until(socket, "catchup")
        gateway.tracker.away = True
        fill(1)
        gateway.hub.offer(state(1, revision=4, status="completed", documents=1))
        asked = len(gateway.tracker.asked)
        async with asyncio.timeout(30):
            while len(gateway.tracker.asked) < asked + 3:
                await asyncio.sleep(0)
        gateway.tracker.away = False
        frames = await all_frames(socket)

    assert [frame["type"] for frame in frames] == ["document", "done"]


async def test_restart_closes_watchers(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1))
    async with watching(gateway) as socket:
        await frames_until(socket, "catchup")
        closing = asyncio.create_task(firecrawl_watch.close_all(gateway.http.app))
        await all_frames(socket)
        await closing

    assert socket.close_code == 1012


async def test_client_that_leaves_is_forgotten(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1))
    async with watching(gateway) as socket:
        await frames_until(socket, "catchup")
    await nobody_watches(gateway)


async def test_client_that_takes_nothing_is_cut_off(
    gateway: Any, state: State, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firecrawl_watch, "STALLED_SECONDS", 0.2)
    fill(40, "x" * 1_000_000)
    gateway.tracker.add(state(1, documents=40))
    url = gateway.http.make_url(CRAWL)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(HANDSHAKE.format(path=CRAWL, host=url.host).encode())
    assert b" 101 " in await reader.readline()
    await nobody_watches(gateway)
    writer.close()


async def test_client_that_leaves_with_much_unread_is_no_fault(
    gateway: Any, state: State, fill: Fill, caplog: pytest.LogCaptureFixture
) -> None:
    fill(40, "x" * 1_000_000)
    gateway.tracker.add(state(1, documents=40))
    url = gateway.http.make_url(CRAWL)
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1_000)
    writer.write(HANDSHAKE.format(path=CRAWL, host=url.host).encode())
    assert b" 101 " in await reader.readline()

    writer.transport.abort()
    await nobody_watches(gateway)

    assert not [record for record in caplog.records if record.exc_info]


async def nobody_watches(gateway: Any) -> None:
    async with asyncio.timeout(30):
        while gateway.http.app[firecrawl_watch.WATCHERS]:
            await asyncio.sleep(0.01)  # a set can't be awaited
    gateway.hub.forget(UUID(int=1))
    assert gateway.hub.unsettled() == set()
