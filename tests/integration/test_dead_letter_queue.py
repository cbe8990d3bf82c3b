"""The dead-letter queue on the real broker: read without a trace, replayed to where the letters died, discarded."""

import asyncio
from collections.abc import Sequence

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from mailboxes import encoded, holds, open_mailbox_of, page_started, send
from tallyho_contracts.event import BATCH_CONTENT_TYPE, EVENT_CONTENT_TYPE
from tallyho_contracts.registry import EVENTS
from tallyho_messaging.connection import Amqp
from tallyho_messaging.consumer import ATTEMPTS, Consumer
from tallyho_messaging.dead_letter_queue import (
    DeadLettersUnavailableError,
    ReplayFailedError,
    open_dead_letters,
)
from tallyho_messaging.dead_letters import DeadLetter, bury, read_letter
from tallyho_messaging.topology import DEAD_LETTERS, DELIVERY_LIMIT, TRACKER_EVENTS
from tallyho_messaging.wire import AnyEvent

# More than a quorum queue gives back in one piece, and more than a client may have unconfirmed at once.
MANY = 300


async def bury_many(amqp: Amqp, bodies: Sequence[bytes], queue: str = TRACKER_EVENTS) -> None:
    """Dead letters with these bodies, in this order."""
    delivery = await delivered(amqp)
    for body in bodies:
        await bury(amqp.publisher, delivery, queue, body, "because")


async def delivered(amqp: Amqp) -> AbstractIncomingMessage:
    """An event of the crawler as it reaches the tracker."""
    await send(amqp, EVENTS, page_started())
    channel = await amqp.consuming.channel()
    message = await (await channel.declare_queue(TRACKER_EVENTS, passive=True)).get(timeout=10)
    assert message is not None
    await message.ack()
    return message


async def read(url: str) -> list[tuple[DeadLetter, bytes]]:
    async with open_dead_letters(url) as queue:
        return [(read_letter(message), message.body) async for message in queue.letters()]


async def test_reading_leaves_the_letters_as_they_were(amqp: Amqp, amqp_url: str) -> None:
    bodies = [str(number).encode() for number in range(MANY)]
    await bury_many(amqp, bodies)

    first = await read(amqp_url)
    for _ in range(25):  # more often than RabbitMQ 4 delivers by default
        again = await read(amqp_url)

    assert [body for _, body in first] == bodies
    assert again == first
    assert await holds(amqp_url, DEAD_LETTERS, MANY)


async def test_letters_that_arrive_after_a_look_come_last(amqp: Amqp, amqp_url: str) -> None:
    await bury_many(amqp, [b"1", b"2", b"3"])
    await read(amqp_url)
    await bury_many(amqp, [b"4"])

    assert [body for _, body in await read(amqp_url)] == [b"1", b"2", b"3", b"4"]


async def test_settled_letters_are_gone_and_the_others_keep_their_order(amqp: Amqp, amqp_url: str) -> None:
    await bury_many(amqp, [str(number).encode() for number in range(MANY)])
    async with open_dead_letters(amqp_url) as queue:
        async for message in queue.letters():
            if int(message.body) % 3:
                await queue.discard(message)

    assert [int(body) for _, body in await read(amqp_url)] == list(range(0, MANY, 3))


async def test_every_letter_can_be_discarded(amqp: Amqp, amqp_url: str) -> None:
    await bury_many(amqp, [b"x"] * 1000)
    async with open_dead_letters(amqp_url) as queue:
        async for message in queue.letters():
            await queue.discard(message)

    assert await read(amqp_url) == []
    assert await holds(amqp_url, DEAD_LETTERS, 0)


async def test_replay_goes_to_the_queue_where_the_letter_died(amqp: Amqp, amqp_url: str) -> None:
    event = page_started()
    await bury_many(amqp, [encoded(event)])
    async with open_dead_letters(amqp_url) as queue, open_mailbox_of(amqp_url, TRACKER_EVENTS) as tracker:
        async for message in queue.letters():
            await queue.replay(message, read_letter(message).queue)
        [replayed] = await tracker.receive()

    assert (replayed.body, replayed.type) == (encoded(event), "page.started.v1")
    assert (replayed.content_type, replayed.delivery_mode) == (EVENT_CONTENT_TYPE, 2)
    assert await read(amqp_url) == []


async def test_letter_that_dies_again_is_replayed_once(amqp: Amqp, amqp_url: str) -> None:
    stop = asyncio.Event()
    attempts = 0

    async def fail(_: Sequence[AnyEvent]) -> None:
        nonlocal attempts
        attempts += 1
        raise ValueError("still wrong")

    await bury_many(amqp, [encoded(page_started()), b"{"])
    consumer = Consumer(amqp, TRACKER_EVENTS, fail, lambda error: False, stop)
    replayed = 0
    async with asyncio.timeout(30), asyncio.TaskGroup() as running:
        running.create_task(consumer.run())
        async with open_dead_letters(amqp_url) as queue:
            async for message in queue.letters():
                await queue.replay(message, TRACKER_EVENTS)
                replayed += 1
        while len(letters := await read(amqp_url)) < 2:
            pass
        stop.set()

    assert replayed == 2
    assert attempts == ATTEMPTS
    assert {letter.queue for letter, _ in letters} == {TRACKER_EVENTS}
    assert "ValueError: still wrong" in {letter.reason for letter, _ in letters}


async def test_letter_stays_when_its_queue_is_gone(amqp: Amqp, amqp_url: str) -> None:
    await bury_many(amqp, [b"1"], queue="no-such-queue")
    async with open_dead_letters(amqp_url) as queue:
        async for message in queue.letters():
            with pytest.raises(ReplayFailedError, match="no-such-queue"):
                await queue.replay(message, "no-such-queue")

    assert [body for _, body in await read(amqp_url)] == [b"1"]


async def test_what_the_broker_dead_letters_says_where_it_died(amqp: Amqp, amqp_url: str) -> None:
    event = page_started()
    body = b"[" + encoded(event) + b"]"
    message = aio_pika.Message(body, content_type=BATCH_CONTENT_TYPE, type=event.type, message_id=str(event.id))
    await amqp.publisher.publish(EVENTS, event.type, message)
    channel = await amqp.consuming.channel()
    queue = await channel.declare_queue(TRACKER_EVENTS, passive=True)
    for _ in range(DELIVERY_LIMIT + 1):
        refused = await queue.get(timeout=10)
        assert refused is not None
        await refused.reject(requeue=True)
    async with asyncio.timeout(20):
        while not (letters := await read(amqp_url)):
            pass
    [(letter, kept)] = letters
    async with open_dead_letters(amqp_url) as dead:
        async for one in dead.letters():
            await dead.replay(one, letter.queue)
    replayed = await queue.get(timeout=10)
    assert replayed is not None
    await replayed.ack()

    assert (letter.id, letter.queue, letter.reason) == (str(event.id), TRACKER_EVENTS, "delivery_limit")
    assert (letter.type, letter.job) == (event.type, str(event.subject))
    assert letter.time is not None
    assert kept == replayed.body == body
    assert (replayed.type, replayed.content_type) == (event.type, BATCH_CONTENT_TYPE)
    assert not replayed.redelivered


async def test_what_a_dead_reader_left_behind_is_no_letter(amqp: Amqp, amqp_url: str) -> None:
    await bury_many(amqp, [b"1"])
    async with open_dead_letters(amqp_url) as queue:
        await queue._mark()
    await bury_many(amqp, [b"2"])

    assert [body for _, body in await read(amqp_url)] == [b"1", b"2"]
    assert await holds(amqp_url, DEAD_LETTERS, 2)


async def test_two_readers_at_once_do_not_share_the_letters(amqp: Amqp, amqp_url: str) -> None:
    await bury_many(amqp, [b"1", b"2"])
    async with open_dead_letters(amqp_url) as queue:
        first = [message.body async for message in queue.letters()]
        with pytest.raises(DeadLettersUnavailableError, match="somebody else"):
            await read(amqp_url)

    assert first == [b"1", b"2"]
    assert [body for _, body in await read(amqp_url)] == [b"1", b"2"]


async def test_broker_that_is_away_is_said_in_one_line() -> None:
    with pytest.raises(DeadLettersUnavailableError, match=r"^[^\n]+$"):
        await read("amqp://127.0.0.1:1/")
