"""What a client says over its WebSocket, and how each of its frames is carried out and answered."""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from uuid import UUID

from tallyho_contracts.jobs import Job, JobGet
from tallyho_contracts.logs import JobLogQuery, JobLogTail
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.requests import RequestRefused, RequestTimedOut

from ws_gateway import frames
from ws_gateway.closing import ABUSE, FAILED, TOO_MANY_MESSAGES
from ws_gateway.connection import Connection
from ws_gateway.deps import Deps
from ws_gateway.documents import DocumentsOfJob
from ws_gateway.frames import (
    Ack,
    BadFrameError,
    Error,
    Outcome,
    Stream,
    Subscribe,
    Subscribed,
    ToSubscribe,
    Unsubscribe,
)
from ws_gateway.hub import state_of
from ws_gateway.limits import Allowance

log = logging.getLogger(__name__)

ASK_AT_ONCE = 16
# For the last lines of a log; then there are only as many as have room. Meanwhile nothing else is received.
ROOM_SECONDS = 1.0


class Session:
    """One client's subscriptions."""

    __slots__ = ("_allowance", "_bad_frames", "_connection", "_deps", "_sending", "_subscribed")

    def __init__(self, deps: Deps, connection: Connection) -> None:
        self._deps = deps
        self._connection = connection
        self._subscribed: dict[tuple[Stream, UUID | None], None] = {}  # as a set, which would be larger
        self._sending: dict[UUID, tuple[DocumentsOfJob, asyncio.Task[None] | None]] = {}
        self._allowance = Allowance(deps.limits, asyncio.get_running_loop().time())
        self._bad_frames = 0

    async def receive(self, text: str | None) -> None:
        """Carry out one frame (None: it is no text); what is wrong with it is answered, and the connection goes on."""
        if not self._allowance.spend(self._deps.limits, asyncio.get_running_loop().time()):
            self._connection.close(TOO_MANY_MESSAGES)
            return
        try:
            await self._carry_out(text)
        except BadFrameError as bad:
            self._bad_frames += 1
            if self._bad_frames > self._deps.limits.bad_frames:
                self._connection.close(ABUSE)
            else:
                await self._connection.reply(frames.error(bad.error))

    def end(self) -> None:
        """Forget every subscription."""
        for stream, job_id in list(self._subscribed):
            self._drop(stream, job_id)

    async def _carry_out(self, text: str | None) -> None:
        if text is None:
            raise BadFrameError(Error(code="not_text", message="Frames are text, with JSON in them."))
        frame = frames.parse(text)
        if isinstance(frame, Subscribe):
            await self._subscribe(frame.payload)
        elif isinstance(frame, Unsubscribe):
            self._drop(frame.payload.stream, frame.payload.job_id)
            await self._connection.reply(frames.unsubscribed(frame.payload))
        elif isinstance(frame, Ack) and not self._connection.acknowledge(frame.payload.received):
            message = "received: so many frames were never sent"
            raise BadFrameError(Error(code="invalid", message=message, field="received"))

    async def _subscribe(self, wanted: ToSubscribe) -> None:
        """Register first, then hear of it, then fetch the snapshot: what changes between is not lost."""
        key = wanted.stream, wanted.job_id
        most = self._deps.limits.subscriptions
        if key not in self._subscribed and len(self._subscribed) >= most:
            message = f"A connection may have {most} subscriptions."
            raise BadFrameError(_error(wanted, "too_many_subscriptions", message))
        if wanted.ack_window is not None:
            self._connection.expect_acks(wanted.ack_window)
        self._subscribed[key] = None
        try:
            answer = await self._begin(wanted)
        except (RequestRefused, RequestTimedOut) as error:
            self._drop(*key)
            raise BadFrameError(_refusal(wanted, error)) from None
        except BadFrameError:
            self._drop(*key)
            raise
        if answer:
            await self._connection.reply(frames.subscribed(answer))

    async def _begin(self, wanted: ToSubscribe) -> Subscribed | None:
        if wanted.job_id is None:
            return await self._every_job(wanted)
        if wanted.stream is Stream.PROGRESS:
            return await self._states(wanted, wanted.job_id)
        if wanted.stream is Stream.DOCUMENTS:
            return await self._documents(wanted, wanted.job_id)
        return await self._log(wanted.job_id)

    async def _every_job(self, wanted: ToSubscribe) -> Subscribed:
        hub, client = self._deps.hub, self._connection.client
        hub.subscribe_all(client, wanted.revisions, _seconds(wanted.interval_ms))
        await self._deps.hear(Stream.PROGRESS, None)
        unknown = hub.unknown_to(client)
        for start in range(0, len(unknown), ASK_AT_ONCE):
            await asyncio.gather(*map(self._learn, unknown[start : start + ASK_AT_ONCE]))
        hub.answer_all(client)
        self._connection.settle()
        return Subscribed(job_id=None, stream=Stream.PROGRESS, outcome=Outcome.SNAPSHOT)

    async def _learn(self, job_id: UUID) -> None:
        try:
            job: Job = await self._deps.ask(JobGet(job_id=job_id))
        except RequestRefused as refusal:
            if refusal.refused.code is not ErrorCode.NOT_FOUND:
                raise
        else:
            self._deps.hub.learn(state_of(job))

    async def _states(self, wanted: ToSubscribe, job_id: UUID) -> Subscribed | None:
        hub, client = self._deps.hub, self._connection.client
        hub.subscribe(client, job_id, wanted.revision, _seconds(wanted.interval_ms))
        await self._deps.hear(Stream.PROGRESS, job_id)
        job: Job = await self._deps.ask(JobGet(job_id=job_id))
        answer = hub.answer(client, state_of(job))
        self._connection.settle()
        return answer

    async def _documents(self, wanted: ToSubscribe, job_id: UUID) -> Subscribed:
        hub = self._deps.hub
        hub.narrow(self._connection.client)
        self._stop_sending(job_id)
        interval = _seconds(wanted.interval_ms) or self._deps.flush_seconds
        documents = DocumentsOfJob(job_id, wanted.ordinal or 0, interval)
        self._sending[job_id] = documents, None
        hub.watch(job_id, documents)
        await self._deps.hear(Stream.PROGRESS, job_id)
        job: Job = await self._deps.ask(JobGet(job_id=job_id))
        documents.offer(hub.learn(state_of(job)))
        if documents.ordinal > documents.count:
            message = f"ordinal: the job has {documents.count} documents"
            raise BadFrameError(_error(wanted, "invalid", message, field="ordinal"))
        sending = asyncio.create_task(documents.send_to(self._connection, self._deps.documents))
        sending.add_done_callback(partial(self._sent, job_id))
        self._sending[job_id] = documents, sending
        if documents.ordinal == documents.count:
            return Subscribed(job_id=job_id, stream=Stream.DOCUMENTS, outcome=Outcome.UP_TO_DATE)
        return Subscribed(
            job_id=job_id,
            stream=Stream.DOCUMENTS,
            outcome=Outcome.REPLAYED,
            from_ordinal=documents.ordinal + 1,
            to_ordinal=documents.count,
        )

    def _sent(self, job_id: UUID, sending: asyncio.Task[None]) -> None:
        error = None if sending.cancelled() else sending.exception()
        if isinstance(error, RequestRefused):
            gone = _refusal(ToSubscribe(job_id=job_id, stream=Stream.DOCUMENTS), error)
            self._drop(Stream.DOCUMENTS, job_id)
            self._connection.client.put(frames.on_the_wire(frames.error(gone)))
        elif error:
            log.error("documents are not sent any more because of a fault", exc_info=error)
            self._connection.close(FAILED)

    async def _log(self, job_id: UUID) -> Subscribed:
        hub, client = self._deps.hub, self._connection.client
        hub.narrow(client)
        self._deps.logs.subscribe(client, job_id)
        await self._deps.hear(Stream.LOG, job_id)
        tail: JobLogTail = await self._deps.ask(JobLogQuery(job_id=job_id))
        with suppress(TimeoutError):
            async with asyncio.timeout(ROOM_SECONDS):
                await self._connection.has_room()
        outcome = Outcome.REPLAYED if self._deps.logs.answer(client, job_id, tail.lines) else Outcome.UP_TO_DATE
        return Subscribed(job_id=job_id, stream=Stream.LOG, outcome=outcome)

    def _drop(self, stream: Stream, job_id: UUID | None) -> None:
        self._subscribed.pop((stream, job_id), None)
        hub, client = self._deps.hub, self._connection.client
        if job_id is None:
            hub.unsubscribe_all(client)
        elif stream is Stream.PROGRESS:
            hub.unsubscribe(client, job_id)
        elif stream is Stream.DOCUMENTS:
            self._stop_sending(job_id)
        else:
            self._deps.logs.unsubscribe(client, job_id)

    def _stop_sending(self, job_id: UUID) -> None:
        if job_id in self._sending:
            documents, sending = self._sending.pop(job_id)
            if sending:
                sending.cancel()
            self._deps.hub.unwatch(job_id, documents)


def _seconds(interval_ms: int | None) -> float | None:
    return None if interval_ms is None else interval_ms / 1000


def _error(wanted: ToSubscribe, code: str, message: str, field: str | None = None) -> Error:
    job_id = wanted.job_id and str(wanted.job_id)
    return Error(code=code, message=message, field=field, job_id=job_id, stream=wanted.stream)


def _refusal(wanted: ToSubscribe, error: RequestRefused | RequestTimedOut) -> Error:
    if isinstance(error, RequestTimedOut):
        return _error(wanted, "unavailable", "The job tracker did not answer; subscribe again.")
    refused = error.refused
    field = "job_id" if refused.code is ErrorCode.NOT_FOUND else refused.field
    return _error(wanted, refused.code, refused.message, field)
