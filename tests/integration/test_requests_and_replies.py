"""Requests over a real broker: what the asker gets, and what becomes of those that can't be answered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import aio_pika
import pytest
from links import Link, open_link
from mailboxes import Mailbox, holds, open_mailbox_of
from tallyho_contracts.event import EVENT_CONTENT_TYPE, Message
from tallyho_contracts.jobs import JobGet, JobList, JobsQuery
from tallyho_contracts.registry import COMMANDS, REPLIES
from tallyho_contracts.replies import ErrorCode, Refused
from tallyho_messaging.connection import Amqp, open_amqp
from tallyho_messaging.dead_letters import QUEUE, REASON
from tallyho_messaging.requests import REQUESTS_AT_ONCE, Requester, RequestRefused, RequestTimedOut, serve
from tallyho_messaging.topology import DEAD_LETTERS, TRACKER_COMMANDS
from tallyho_messaging.wire import AnyEvent, Malformed, decode

JOB = UUID(int=1)
EMPTY = JobList(jobs=())


class AwayError(Exception):
    """The database is away."""


@pytest.fixture
async def link(amqp_url: str) -> AsyncIterator[Link]:
    async with open_link(amqp_url) as link:
        yield link


@pytest.fixture
async def letters(amqp_url: str) -> AsyncIterator[Mailbox]:
    async with open_mailbox_of(amqp_url, DEAD_LETTERS) as letters:
        yield letters


@pytest.fixture
async def requester(amqp: Amqp) -> AsyncIterator[Requester]:
    async with Requester.open(amqp) as requester:
        yield requester


@asynccontextmanager
async def serving(amqp: Amqp, answer: Callable[[AnyEvent], Awaitable[Message]]) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.create_task(
        serve(amqp, TRACKER_COMMANDS, answer, is_transient=lambda error: isinstance(error, AwayError), stop=stop)
    )
    yield stop
    stop.set()
    async with asyncio.timeout(10):
        await task


def failing(error: Exception) -> Callable[[AnyEvent], Awaitable[Message]]:
    async def answer(_: AnyEvent) -> Message:
        raise error

    return answer


async def empty(_: AnyEvent) -> Message:
    return EMPTY


async def refusal(requester: Requester) -> Refused:
    with pytest.raises(RequestRefused) as caught:
        await requester.request(JobGet(job_id=JOB), subject=JOB, timeout=10)
    return caught.value.refused


async def test_request_arrives_whole_and_its_reply_comes_back(amqp: Amqp, requester: Requester) -> None:
    asked: list[AnyEvent] = []

    async def answer(event: AnyEvent) -> Message:
        asked.append(event)
        return EMPTY

    async with serving(amqp, answer):
        reply = await requester.request(JobsQuery(limit=7), subject=JOB, timeout=10)

    assert reply == EMPTY
    assert [(event.type, event.subject, event.data) for event in asked] == [("job.list.v1", JOB, JobsQuery(limit=7))]


async def test_replies_find_the_request_they_belong_to(amqp: Amqp, requester: Requester) -> None:
    async def answer(event: AnyEvent) -> Message:
        await asyncio.sleep(0.001 * (20 - event.data.limit))  # the first asked is the last answered
        return JobList(jobs=(), next=UUID(int=event.data.limit))

    async with serving(amqp, answer):
        replies = await asyncio.gather(
            *(requester.request(JobsQuery(limit=limit), subject=JOB, timeout=10) for limit in range(1, 21))
        )

    assert [reply.next.int for reply in replies] == list(range(1, 21))


async def test_slow_request_does_not_hold_up_the_next(amqp: Amqp, requester: Requester) -> None:
    go_on = asyncio.Event()

    async def answer(event: AnyEvent) -> Message:
        if event.data.limit == 1:
            await go_on.wait()
        return EMPTY

    async with serving(amqp, answer):
        slow = asyncio.create_task(requester.request(JobsQuery(limit=1), subject=JOB, timeout=10))
        quick = await requester.request(JobsQuery(limit=2), subject=JOB, timeout=10)
        waiting = not slow.done()
        go_on.set()
        await slow

    assert (quick, waiting) == (EMPTY, True)


async def test_refusal_is_raised_with_its_code_and_field(amqp: Amqp, requester: Requester, letters: Mailbox) -> None:
    refused = Refused(code=ErrorCode.CONFLICT, message="this job is over", field="status")

    async with serving(amqp, failing(RequestRefused(refused))):
        received = await refusal(requester)

    assert received == refused
    assert letters.is_empty


async def test_transient_error_is_answered_as_unavailable(amqp: Amqp, requester: Requester, letters: Mailbox) -> None:
    async with serving(amqp, failing(AwayError())):
        received = await refusal(requester)

    assert (received.code, received.message) == (ErrorCode.UNAVAILABLE, "the database is not available")
    assert letters.is_empty


async def test_request_that_fails_is_answered_and_kept_with_its_reason(
    amqp: Amqp, requester: Requester, letters: Mailbox
) -> None:
    async with serving(amqp, failing(ValueError("a bug of ours"))):
        received = await refusal(requester)
        [letter] = await letters.receive()

    assert received.code is ErrorCode.INTERNAL
    assert (letter.headers[REASON], letter.headers[QUEUE]) == ("ValueError: a bug of ours", TRACKER_COMMANDS)
    assert letter.type == "job.get.v1"


async def test_malformed_request_is_refused_with_its_reason_and_kept(
    amqp: Amqp, amqp_url: str, letters: Mailbox
) -> None:
    async with await aio_pika.connect(amqp_url) as connection, serving(amqp, empty):
        channel = await connection.channel()
        replies: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        reply_to = await channel.declare_queue(exclusive=True)
        await reply_to.bind(REPLIES, reply_to.name)
        await reply_to.consume(replies.put, no_ack=True)
        request = aio_pika.Message(b"{}", type="job.get.v1", reply_to=reply_to.name, correlation_id="7")
        await (await channel.get_exchange(COMMANDS)).publish(request, "job.get.v1")
        reply = await asyncio.wait_for(replies.get(), 10)
        [letter] = await letters.receive()

    [answer] = decode(reply.body, EVENT_CONTENT_TYPE, reply.type)
    assert not isinstance(answer, Malformed)
    assert answer.data.code is ErrorCode.INVALID
    assert answer.data.message.startswith("id: Field required")
    assert reply.correlation_id == "7"
    assert letter.body == b"{}"


async def test_request_that_nobody_takes_times_out_and_is_forgotten(
    amqp: Amqp, amqp_url: str, requester: Requester, letters: Mailbox
) -> None:
    with pytest.raises(RequestTimedOut, match=r"no answer to job\.get\.v1 within 0\.2 s"):
        await requester.request(JobGet(job_id=JOB), subject=JOB, timeout=0.2)

    # It expires so long after the broker has it, which is later than whoever asked gave up.
    assert await holds(amqp_url, TRACKER_COMMANDS, 0)
    asked: list[UUID] = []

    async def answer(event: AnyEvent) -> Message:
        asked.append(event.subject)
        return EMPTY

    async with serving(amqp, answer):
        await requester.request(JobsQuery(), subject=UUID(int=2), timeout=10)

    assert asked == [UUID(int=2)]
    assert letters.is_empty


async def test_reply_that_comes_too_late_disturbs_nobody(amqp: Amqp, requester: Requester) -> None:
    go_on = asyncio.Event()

    async def answer(event: AnyEvent) -> Message:
        await go_on.wait()
        return JobList(jobs=(), next=event.subject)

    async with serving(amqp, answer):
        with pytest.raises(RequestTimedOut):
            await requester.request(JobsQuery(), subject=JOB, timeout=0.2)
        go_on.set()
        reply = await requester.request(JobsQuery(), subject=UUID(int=2), timeout=10)

    assert reply.next == UUID(int=2)


async def test_request_without_a_broker_times_out(link: Link) -> None:
    async with open_amqp(link.url, name="test") as amqp, Requester.open(amqp) as requester:
        link.cut()
        with pytest.raises(RequestTimedOut):
            await requester.request(JobGet(job_id=JOB), subject=JOB, timeout=0.5)


async def test_requests_work_again_after_the_broker_was_away(amqp: Amqp, link: Link) -> None:
    async with open_amqp(link.url, name="test") as breaking, Requester.open(breaking) as requester:
        link.cut()
        await link.mend()
        async with serving(amqp, empty), asyncio.timeout(15):
            while True:
                try:
                    reply = await requester.request(JobsQuery(), subject=JOB, timeout=0.5)
                    break
                except RequestTimedOut:
                    await asyncio.sleep(0.05)  # the requester's connection is not ours to await

    assert reply == EMPTY


async def test_server_takes_requests_again_after_the_broker_was_away(requester: Requester, link: Link) -> None:
    async with open_amqp(link.url, name="test") as breaking, serving(breaking, empty):
        await requester.request(JobsQuery(), subject=JOB, timeout=10)
        link.cut()
        await link.mend()
        reply = await requester.request(JobsQuery(), subject=JOB, timeout=10)

    assert reply == EMPTY


async def test_requests_whose_replies_can_not_be_sent_do_not_use_up_the_places(
    amqp: Amqp, requester: Requester, link: Link
) -> None:
    async with open_amqp(link.url, name="test") as away:
        link.cut()
        speechless = Amqp(name="test", consuming=amqp.consuming, publisher=away.publisher)
        asked = asyncio.Semaphore(0)

        async def answer(_: AnyEvent) -> Message:
            asked.release()
            return EMPTY

        async with serving(speechless, answer):
            requests = [
                asyncio.create_task(requester.request(JobsQuery(), subject=uuid4(), timeout=60))
                for _ in range(REQUESTS_AT_ONCE + 5)
            ]
            async with asyncio.timeout(60):  # the first places are free when publishing has timed out, after 5 s
                for _ in requests:
                    await asked.acquire()
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)


async def test_stopping_server_answers_what_it_has_begun(amqp: Amqp, requester: Requester) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def answer(_: AnyEvent) -> Message:
        begun.set()
        await go_on.wait()
        return EMPTY

    async with serving(amqp, answer) as stop:
        asking = asyncio.create_task(requester.request(JobsQuery(), subject=JOB, timeout=10))
        await begun.wait()
        stop.set()
        with pytest.raises(RequestTimedOut):
            await requester.request(JobsQuery(), subject=JOB, timeout=0.3)
        go_on.set()

    assert await asking == EMPTY
