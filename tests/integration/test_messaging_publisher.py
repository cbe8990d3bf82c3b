"""Publishing, subscribing and the topology on a real broker."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import TypeVar
from uuid import UUID, uuid4

import aio_pika
import pytest
from links import Link, open_link
from mailboxes import encoded, open_mailbox, page_started, send, send_raw
from tallyho_contracts.event import BATCH_CONTENT_TYPE, EVENT_CONTENT_TYPE
from tallyho_contracts.registry import EVENTS
from tallyho_messaging.__main__ import main
from tallyho_messaging.connection import Amqp, open_amqp
from tallyho_messaging.publisher import PublishFailedError
from tallyho_messaging.subscription import subscribe
from tallyho_messaging.topology import DEAD_LETTERS, WORK_QUEUES, declare
from tallyho_messaging.wire import AnyEvent, decode

T = TypeVar("T")


@pytest.fixture
async def link(amqp_url: str) -> AsyncIterator[Link]:
    async with open_link(amqp_url) as link:
        yield link


class Heard:
    """What a subscriber is told: events, and when it may have missed some."""

    def __init__(self) -> None:
        self.ids: asyncio.Queue[UUID] = asyncio.Queue()
        self.gaps: asyncio.Queue[None] = asyncio.Queue()

    def on_event(self, event: AnyEvent) -> None:
        self.ids.put_nowait(event.id)

    def on_gap(self) -> None:
        self.gaps.put_nowait(None)


async def soon(waiting: "asyncio.Queue[T]") -> T:
    async with asyncio.timeout(10):
        return await waiting.get()


async def test_single_event_is_a_cloudevent_and_several_are_a_batch(amqp: Amqp, amqp_url: str) -> None:
    one, two = page_started(), page_started()
    async with open_mailbox(amqp_url) as mailbox:
        await send(amqp, mailbox.exchange, one)
        await send(amqp, mailbox.exchange, one, two)
        single, batch = await mailbox.receive(2)

    assert (single.content_type, single.type, single.message_id) == (EVENT_CONTENT_TYPE, one.type, str(one.id))
    assert (batch.content_type, batch.type, batch.message_id) == (BATCH_CONTENT_TYPE, one.type, str(one.id))
    assert single.delivery_mode == batch.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert decode(single.body, single.content_type, single.type) == [one]
    assert decode(batch.body, batch.content_type, batch.type) == [one, two]


async def test_message_that_reaches_no_queue_is_a_failure_unless_nobody_need_listen(amqp: Amqp, amqp_url: str) -> None:
    event = page_started()
    async with open_mailbox(amqp_url, bound=False) as nowhere:
        with pytest.raises(PublishFailedError, match="NO_ROUTE"):
            await send(amqp, nowhere.exchange, event)
        await amqp.publisher.publish_events(
            nowhere.exchange, event.type, event.type, [event.id], [encoded(event)], mandatory=False
        )


async def test_publisher_goes_on_after_an_exchange_that_is_not_there(amqp: Amqp, amqp_url: str) -> None:
    event = page_started()
    with pytest.raises(PublishFailedError, match="NOT_FOUND"):
        await send(amqp, "no such exchange", event)

    async with open_mailbox(amqp_url) as mailbox:
        await asyncio.wait_for(_until_published(amqp, mailbox.exchange, event), 10)
        received = await mailbox.receive_events(1)

    assert received == [event.id]


async def test_publishing_fails_while_the_broker_is_away_and_works_when_it_is_back(link: Link, amqp_url: str) -> None:
    event = page_started()
    async with open_mailbox(amqp_url) as mailbox, open_amqp(link.url, name="test") as amqp:
        link.cut()
        with pytest.raises(PublishFailedError):
            await send(amqp, mailbox.exchange, event)
        await link.mend()
        await asyncio.wait_for(_until_published(amqp, mailbox.exchange, event), 10)
        received = await mailbox.receive_events(1)

    assert received == [event.id]


async def test_lost_link_fails_every_publish_and_cancels_none(amqp: Amqp, amqp_url: str) -> None:
    results: list[BaseException | None] = []
    async with open_mailbox(amqp_url) as mailbox:
        for under_way in (0, 1, 5):
            await asyncio.wait_for(_until_published(amqp, mailbox.exchange, page_started()), 30)
            sending = [asyncio.create_task(send(amqp, mailbox.exchange, page_started())) for _ in range(50)]
            for _ in range(under_way):  # steps of each on its way to the broker
                await asyncio.sleep(0)
            await _give_up_links(amqp)
            results += await asyncio.gather(*sending, return_exceptions=True)

    assert {type(result) for result in results} <= {type(None), PublishFailedError}
    assert any(results)


async def test_declaring_twice_changes_nothing_and_routes_every_family(amqp_url: str, amqp: Amqp) -> None:
    await declare(amqp_url)
    await declare(amqp_url)

    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for queue in WORK_QUEUES:
            for key in queue.binding_keys:
                await send_raw(amqp, queue.exchange, key.replace("#", "anything.v99"), b"{}")
            declared = await channel.declare_queue(queue.name, passive=True)
            assert declared.declaration_result.message_count == len(queue.binding_keys)
            await declared.purge()


async def test_rejected_message_reaches_the_dead_letters(amqp_url: str, amqp: Amqp) -> None:
    event = page_started()
    await send(amqp, EVENTS, event)
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("job-tracker.events", passive=True)
        letters: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        await (await channel.declare_queue(DEAD_LETTERS, passive=True)).consume(letters.put, no_ack=True)

        await (await queue.get(timeout=5)).reject(requeue=False)
        letter = await soon(letters)

    assert letter.body == encoded(event)


@pytest.mark.parametrize("arguments", [[], ["delete"], ["declare", "twice"]])
def test_declare_step_explains_itself(
    arguments: list[str], amqp_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AMQP_URL", amqp_url)

    assert main(arguments) == 2
    assert capsys.readouterr().err == "usage: AMQP_URL=amqp://… python -m tallyho_messaging declare | definitions\n"


@pytest.mark.parametrize(
    ("url", "code", "line"),
    [
        ("{broker}", 0, ""),
        ("", 2, "usage: "),
        ("amqp://127.0.0.1:1/", 2, "cannot declare the topology: "),
        ("amqp://nobody:wrong@{address}", 2, "cannot declare the topology: "),
    ],
    ids=["there", "unset", "away", "not ours"],
)
def test_declare_step_tells_how_it_went(url: str, code: int, line: str, amqp_url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tallyho_messaging", "declare"],
        env=os.environ | {"AMQP_URL": url.format(broker=amqp_url, address=amqp_url.rpartition("@")[2])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.count("\n") == (1 if line else 0)
    assert ended.stderr.startswith(line)


async def test_subscriber_hears_its_keys_only(amqp: Amqp) -> None:
    heard, mine, other = Heard(), page_started(), page_started()
    async with subscribe(
        amqp,
        queue=f"test.{uuid4()}",
        binding_keys=[f"job.progress.v1.{mine.id}"],
        on_event=heard.on_event,
        on_gap=heard.on_gap,
    ):
        for event in (other, mine):
            await amqp.publisher.publish_events(
                EVENTS, f"job.progress.v1.{event.id}", event.type, [event.id], [encoded(event)], mandatory=False
            )
        first = await soon(heard.ids)

    assert first == mine.id
    assert heard.gaps.qsize() == 1


async def test_subscriber_is_told_of_a_gap_once_it_hears_again(link: Link, amqp: Amqp) -> None:
    heard = Heard()
    key = f"job.progress.v1.{uuid4()}"
    async with (
        open_amqp(link.url, name="test") as breaking,
        subscribe(breaking, queue=f"test.{uuid4()}", binding_keys=[key], on_event=heard.on_event, on_gap=heard.on_gap),
    ):
        await soon(heard.gaps)
        link.cut()
        await link.mend()
        await soon(heard.gaps)
        event = page_started()
        await amqp.publisher.publish_events(EVENTS, key, event.type, [event.id], [encoded(event)])
        after = await soon(heard.ids)

    assert after == event.id


async def test_unreadable_event_does_not_end_a_subscription(amqp: Amqp) -> None:
    heard, event = Heard(), page_started()
    key = f"job.progress.v1.{uuid4()}"
    async with subscribe(
        amqp, queue=f"test.{uuid4()}", binding_keys=[key], on_event=heard.on_event, on_gap=heard.on_gap
    ):
        await send_raw(amqp, EVENTS, key, b"no json")
        await amqp.publisher.publish_events(EVENTS, key, event.type, [event.id], [encoded(event)])
        first = await soon(heard.ids)

    assert first == event.id


async def _until_published(amqp: Amqp, exchange: str, event: AnyEvent) -> None:
    while True:
        try:
            return await send(amqp, exchange, event)
        except PublishFailedError:
            await asyncio.sleep(0.05)  # the publisher's connection is not ours to await


async def _give_up_links(amqp: Amqp) -> None:
    """Do what the library does to a link on which no heartbeat comes any more."""
    connection = amqp.publisher._channel._connection  # type: ignore[attr-defined]  # the library shows it to nobody
    await connection.transport.connection.close(asyncio.CancelledError())
