"""The blocking client: in threads, as programs without async have them."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import pytest
from tallyho import SyncTallyho, Tallyho
from tallyho.errors import CrawlUnsuccessful, GatewayUnreachable, NotFound
from tallyho_contracts.jobs import JobState, JobStatus

if TYPE_CHECKING:
    from clients.python.tests.conftest import GatewayDouble

T = TypeVar("T")


async def in_thread(gateway: "GatewayDouble", work: Callable[[SyncTallyho], T]) -> T:
    """Run a blocking program against the gateway, which lives in this thread's loop."""

    def program() -> T:
        with SyncTallyho(gateway.url) as client:
            return work(client)

    async with asyncio.timeout(20):
        return await asyncio.to_thread(program)


def public(kind: type) -> dict[str, object]:
    return {name: member for name, member in vars(kind).items() if not name.startswith("_")}


def test_both_clients_have_the_same_calls_with_the_same_arguments() -> None:
    asynchronous, blocking = public(Tallyho), public(SyncTallyho)
    own = {"close": blocking.pop("close")}

    assert own["close"]
    assert blocking.keys() == asynchronous.keys()
    for name, call in blocking.items():
        if callable(call):
            theirs = asynchronous[name]
            assert callable(theirs)
            assert inspect.signature(call).parameters == inspect.signature(theirs).parameters
    assert inspect.signature(SyncTallyho).parameters == inspect.signature(Tallyho).parameters


async def test_crawl_blocks_to_the_end_and_tells_each_state_in_the_callers_thread(gateway: "GatewayDouble") -> None:
    told: list[tuple[int, str]] = []

    def tell(state: JobState) -> None:
        told.append((state.revision, threading.current_thread().name))

    def program(client: SyncTallyho) -> JobState:
        threading.current_thread().name = "the caller"
        return client.crawl("http://site/", max_pages=5, on_progress=tell)

    crawling = asyncio.create_task(in_thread(gateway, program))
    await gateway.subscribed()
    await gateway.publish(gateway.state(2, JobStatus.COMPLETED, 7))
    last = await crawling

    assert (last.revision, told[-1]) == (2, (2, "the caller"))


async def test_everything_can_be_read_and_steered(gateway: "GatewayDouble") -> None:
    gateway.document_count = 250
    gateway.cut_documents_after = 120
    gateway.saved = [UUID(int=number) for number in range(1, 6)]
    gateway.job_pages = 2

    def program(client: SyncTallyho) -> tuple[list[int], list[UUID], int, str, str, list[str]]:
        for steer in (client.cancel, client.pause, client.resume, client.job):
            assert steer(gateway.job_id).job_id == gateway.job_id
        ordinals = [document.ordinal for document in client.documents(gateway.job_id)]
        return (
            ordinals,
            list(client.saved_documents(gateway.job_id)),
            len(list(client.jobs())),
            client.document(UUID(int=7)).title,
            client.html(UUID(int=7))[:9],
            [line.message for line in client.log(gateway.job_id, limit=1)],
        )

    assert await in_thread(gateway, program) == (
        *(list(range(1, 251)), gateway.saved, 2, "Seven", "<p>Sieben"),
        ["page failed: http_404"],
    )


async def test_live_documents_are_followed_to_the_end_of_the_job(gateway: "GatewayDouble") -> None:
    gateway.document_count = 3
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(
            in_thread(gateway, lambda client: [one.ordinal for one in client.documents(gateway.job_id, live=True)])
        )
        while not gateway.followers:
            await gateway.subscribed()
        await gateway.save(6)
        await gateway.publish(gateway.state(2, JobStatus.COMPLETED, 6))

    assert following.result() == [1, 2, 3, 4, 5, 6]


async def test_errors_are_those_of_the_async_client(gateway: "GatewayDouble") -> None:
    gateway.present = gateway.state(2, JobStatus.FAILED)

    def program(client: SyncTallyho) -> None:
        with pytest.raises(NotFound):
            client.job(UUID(int=1))
        with pytest.raises(NotFound):
            next(client.watch(UUID(int=1)))
        with pytest.raises(CrawlUnsuccessful):
            client.crawl("http://site/", check=True)

    await in_thread(gateway, program)


async def test_iterator_that_is_left_early_ends_its_connection(gateway: "GatewayDouble") -> None:
    def program(client: SyncTallyho) -> bool:
        for _ in client.watch(gateway.job_id):
            break
        deadline = time.monotonic() + 15
        while gateway.sockets and time.monotonic() < deadline:
            time.sleep(0.01)  # the stand-in notices in its own time
        return not gateway.sockets

    assert await in_thread(gateway, program)


async def test_close_ends_what_waits_in_another_thread_and_can_be_repeated(gateway: "GatewayDouble") -> None:
    client = await asyncio.to_thread(SyncTallyho, gateway.url)
    states = client.watch(gateway.job_id)
    await asyncio.to_thread(next, states)
    waiting = asyncio.create_task(asyncio.to_thread(next, states))
    while not (states.gi_running or waiting.done()):
        await asyncio.sleep(0)  # a generator can't be awaited
    await asyncio.to_thread(client.close)
    with pytest.raises(RuntimeError, match="closed"):
        await waiting
    client.close()
    with pytest.raises(RuntimeError, match="is closed"):
        client.job(gateway.job_id)

    assert not [thread for thread in threading.enumerate() if thread.name == "tallyho"]


def test_gateway_that_is_not_there_is_an_error_not_a_hang() -> None:
    with (
        SyncTallyho("http://127.0.0.1:1", first_patience=0.2) as client,
        pytest.raises(GatewayUnreachable),
    ):
        client.job(UUID(int=1))
