"""Request/reply: a request names its reply queue; the answer is an event with the request's correlation id."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from tallyho_contracts.event import EVENT_CONTENT_TYPE, Message
from tallyho_contracts.registry import REPLIES, TYPE_OF, MessageType
from tallyho_contracts.replies import ErrorCode, Refused

from tallyho_messaging.connection import Amqp
from tallyho_messaging.dead_letters import bury
from tallyho_messaging.lost_links import acknowledge, stop_consuming
from tallyho_messaging.metrics import ASKED, ASKED_SECONDS, SERVED, SERVED_SECONDS
from tallyho_messaging.publisher import Publisher, PublishFailedError
from tallyho_messaging.wire import AnyEvent, Malformed, decode, event_of

log = logging.getLogger(__name__)

Answer = Callable[[AnyEvent], Awaitable[Message]]

REQUESTS_AT_ONCE = 16


class RequestRefused(Exception):  # noqa: N818  # it is an answer, not a fault
    """The service answered, and said no."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


class RequestTimedOut(Exception):  # noqa: N818  # it may still be carried out
    """No answer came in time, or the broker did not take the request."""


class Requester:
    """Sends requests and matches their replies, on an exclusive queue of this process."""

    def __init__(self, amqp: Amqp, reply_to: str) -> None:
        self._amqp = amqp
        self._reply_to = reply_to
        self._waiting: dict[str, asyncio.Future[Message]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, amqp: Amqp) -> AsyncIterator["Requester"]:
        """Declare the reply queue and listen on it."""
        requester = cls(amqp, f"{amqp.name}.replies.{uuid4()}")
        channel = await amqp.consuming.channel()
        queue = await channel.declare_queue(requester._reply_to, exclusive=True)
        await queue.bind(REPLIES, requester._reply_to)
        await queue.consume(requester._receive, no_ack=True)
        yield requester

    # The reply's model follows from the registry at run time, hence Any.
    async def request(self, data: Message, *, subject: UUID, timeout: float) -> Any:  # noqa: ASYNC109  # also its expiry
        """Send `data` as a request about job `subject`; returns the reply's data.

        Raises RequestRefused, or RequestTimedOut after `timeout` seconds, when the broker drops a request nobody took.
        """
        row = TYPE_OF[type(data)]
        started = monotonic()
        try:
            reply = await self._request(row, data, subject, timeout)
        except RequestRefused as refusal:
            ASKED.labels(row.name, refusal.refused.code).inc()
            raise
        except RequestTimedOut:
            ASKED.labels(row.name, "timed_out").inc()
            raise
        finally:
            ASKED_SECONDS.labels(row.name).observe(monotonic() - started)
        ASKED.labels(row.name, "ok").inc()
        return reply

    async def _request(self, row: MessageType, data: Message, subject: UUID, seconds: float) -> Any:
        event = event_of(data, source=self._amqp.name, subject=subject)
        message = aio_pika.Message(
            event.model_dump_json().encode(),
            content_type=EVENT_CONTENT_TYPE,
            type=row.name,
            message_id=str(event.id),
            correlation_id=str(event.id),
            reply_to=self._reply_to,
            expiration=seconds,
        )
        reply = self._waiting[str(event.id)] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._amqp.publisher.publish(row.exchange or "", row.name, message)
                return await reply
        except (TimeoutError, PublishFailedError) as error:
            raise RequestTimedOut(f"no answer to {row.name} within {seconds:g} s") from error
        finally:
            del self._waiting[str(event.id)]

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        reply = self._waiting.get(message.correlation_id or "")
        if reply is None or reply.done():
            return  # it came too late
        [item] = decode(message.body, EVENT_CONTENT_TYPE, message.type)
        if isinstance(item, Malformed):
            reply.set_exception(
                RequestRefused(Refused(code=ErrorCode.INTERNAL, message=f"unreadable reply: {item.reason}"))
            )
        elif isinstance(item.data, Refused):
            reply.set_exception(RequestRefused(item.data))
        else:
            reply.set_result(item.data)


async def serve(
    amqp: Amqp, queue_name: str, answer: Answer, *, is_transient: Callable[[BaseException], bool], stop: asyncio.Event
) -> None:
    """Answer the requests of `queue_name`, several at once, until `stop` is set; then finish those under way.

    `answer` returns the reply, or raises RequestRefused. A transient error is answered as unavailable.
    """
    responder = _Responder(amqp.publisher, amqp.name, queue_name, answer, is_transient)
    channel = await amqp.consuming.channel()
    await channel.set_qos(prefetch_count=REQUESTS_AT_ONCE)
    async with asyncio.TaskGroup() as under_way:
        queue = await channel.declare_queue(queue_name, passive=True)

        async def receive(message: AbstractIncomingMessage) -> None:
            # A task of our own: the library's is cancelled with its channel.
            under_way.create_task(responder.respond(message))

        tag = await queue.consume(receive)
        await stop.wait()
        await stop_consuming(queue, tag)


class _Responder:
    def __init__(
        self, publisher: Publisher, name: str, queue: str, answer: Answer, is_transient: Callable[[BaseException], bool]
    ) -> None:
        self._publisher = publisher
        self._name = name
        self._queue = queue
        self._answer = answer
        self._is_transient = is_transient

    async def respond(self, message: AbstractIncomingMessage) -> None:
        [item] = decode(message.body, EVENT_CONTENT_TYPE, message.type)
        type_ = "malformed" if isinstance(item, Malformed) else item.type
        started = monotonic()
        try:
            reply = await self._reply_to(message, item)
            SERVED_SECONDS.labels(type_).observe(monotonic() - started)
            SERVED.labels(type_, reply.code if isinstance(reply, Refused) else "ok").inc()
            if message.reply_to:
                await self._send(message, reply, item)
        except PublishFailedError as error:
            # Whoever asked gives up, and a request that we kept would take one of our places.
            log.warning("request not answered type=%s error=%s", message.type, error)
        await acknowledge(message)

    async def _reply_to(self, message: AbstractIncomingMessage, item: AnyEvent | Malformed) -> Message:
        if isinstance(item, Malformed):
            await bury(self._publisher, message, self._queue, item.body, item.reason)
            return Refused(code=ErrorCode.INVALID, message=item.reason)
        try:
            return await self._answer(item)
        except RequestRefused as refusal:
            return refusal.refused
        except Exception as error:  # the edge of the loop: answer, and dead-letter what is our fault
            if self._is_transient(error):
                log.warning("request can't be served now type=%s error=%s", item.type, error)
                return Refused(code=ErrorCode.UNAVAILABLE, message="the database is not available")
            log.exception("request failed type=%s id=%s", item.type, item.id)
            await bury(self._publisher, message, self._queue, message.body, f"{type(error).__name__}: {error}")
            return Refused(code=ErrorCode.INTERNAL, message="the request failed; it was kept as a dead letter")

    async def _send(self, request: AbstractIncomingMessage, reply: Message, item: AnyEvent | Malformed) -> None:
        subject = UUID(int=0) if isinstance(item, Malformed) else item.subject
        event = event_of(reply, source=self._name, subject=subject)
        message = aio_pika.Message(
            event.model_dump_json().encode(),
            content_type=EVENT_CONTENT_TYPE,
            type=event.type,
            message_id=str(event.id),
            correlation_id=request.correlation_id,
        )
        # Not mandatory: whoever asked may be gone. Not the default exchange, through which every queue can be reached.
        await self._publisher.publish(REPLIES, request.reply_to or "", message, mandatory=False)
