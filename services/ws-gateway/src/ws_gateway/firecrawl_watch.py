"""The WebSocket of a crawl in Firecrawl's v2 API: what there is at first, then each document once as it is saved."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any
from uuid import UUID

from aiohttp import WSCloseCode, WSMsgType, web
from pydantic_core import to_json
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import Job, JobGet, JobState, JobStatus
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.requests import RequestRefused, RequestTimedOut

from ws_gateway.access import close_at_once, has_expired, key_name, offered_protocols
from ws_gateway.clients import Latest
from ws_gateway.closing import EXPIRED, TOO_MANY_CONNECTIONS
from ws_gateway.connection import CLOSE_SECONDS, PING_SECONDS, STALLED_SECONDS
from ws_gateway.deps import DEPS, Deps
from ws_gateway.firecrawl import state_of_crawl
from ws_gateway.firecrawl_documents import documents_after
from ws_gateway.frames import Stream
from ws_gateway.http_api import Ask, job_id
from ws_gateway.hub import state_of
from ws_gateway.limits import NoPlaceError
from ws_gateway.metrics import CLIENTS

log = logging.getLogger(__name__)

DOCUMENTS_AT_ONCE = 100
MAX_FRAME_BYTES = 16 * 1024
RETRY_SECONDS = 1.0


async def watch(request: web.Request) -> web.WebSocketResponse:
    """Tell a client of a crawl to its end; what it says itself is not listened to."""
    deps, crawl_id = request.app[DEPS], job_id(request)
    place = request.remote or "", key_name(request)
    try:
        deps.places.take(*place)
    except NoPlaceError:
        return await close_at_once(request, TOO_MANY_CONNECTIONS)
    try:
        with CLIENTS.labels("firecrawl").track_inprogress():
            return await _serve(request, deps, crawl_id)
    finally:
        deps.places.give_back(*place)


async def _serve(request: web.Request, deps: Deps, crawl_id: UUID) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(
        protocols=offered_protocols(request),  # their JavaScript client gives up unless its key is echoed
        compress=False,
        heartbeat=PING_SECONDS,
        max_msg_size=MAX_FRAME_BYTES,
        timeout=CLOSE_SECONDS,
    )
    await ws.prepare(request)
    if request.transport is None:  # it is gone already
        return ws
    line = _Line(ws, request.transport)
    request.app[WATCHERS].add(line)
    tasks = [asyncio.create_task(_tell(line, deps, crawl_id)), asyncio.create_task(_close_with_key(request, line))]
    try:
        async for _ in ws:
            pass
    finally:
        request.app[WATCHERS].discard(line)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return ws


async def _close_with_key(request: web.Request, line: "_Line") -> None:
    """Close when the key has expired with which the client was let in."""
    while True:
        await asyncio.sleep(PING_SECONDS)
        if has_expired(request):
            await line.close(EXPIRED.code, EXPIRED.text())


async def close_all(app: web.Application) -> None:
    """Close at a restart: their clients poll then."""
    await asyncio.gather(*(line.close(WSCloseCode.SERVICE_RESTART) for line in app[WATCHERS]))


class _Newest:
    """The newest state of one job, and whether it is news."""

    def __init__(self) -> None:
        self.latest: Latest | None = None
        self.changed = asyncio.Event()

    def offer(self, latest: Latest) -> None:
        self.latest = latest
        self.changed.set()


async def states(deps: Deps, ask: Ask, crawl_id: UUID) -> AsyncGenerator[JobState]:
    """A job's state, then each newer one, without those that a newer one overtook; the last is terminal."""
    newest = _Newest()
    deps.hub.watch(crawl_id, newest)
    try:
        await deps.hear(Stream.PROGRESS, crawl_id)
        job: Job = await ask(JobGet(job_id=crawl_id))
        state = deps.hub.learn(state_of(job)).state
        yield state
        while not state.status.is_terminal:
            await newest.changed.wait()
            newest.changed.clear()
            if newest.latest and newest.latest.revision > state.revision:
                yield (state := newest.latest.state)
    finally:
        deps.hub.unwatch(crawl_id, newest)


class _Line:
    """The way to one client. It is awaited, since nobody else waits for it, and cut off when it takes nothing."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self._ws = ws
        self._transport = transport

    async def send(self, type_: str, **fields: bytes) -> None:
        """Send a frame; `fields` are JSON. Raises ConnectionError when the client is gone."""
        members = b",".join(b'"%s":%s' % (name.encode(), value) for name, value in fields.items())
        frame = b'{"type":"%s"%s%s}' % (type_.encode(), b"," if members else b"", members)
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await self._ws.send_frame(frame, WSMsgType.TEXT)
        except TimeoutError:
            self._transport.abort()
            raise ConnectionResetError("it takes nothing") from None

    async def close(self, code: int, message: bytes = b"") -> None:
        """Say goodbye, within bounds."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._ws.close(code=code, message=message, drain=False)
        except TimeoutError:
            self._transport.abort()


WATCHERS = web.AppKey("firecrawl_watchers", set[_Line])


async def _tell(line: _Line, deps: Deps, crawl_id: UUID) -> None:
    try:
        await _tell_all(line, deps, _patient(deps.ask), crawl_id)
    except RequestRefused as refusal:
        with suppress(ConnectionError):
            await line.send("error", error=to_json(refusal.refused.message))
        await line.close(WSCloseCode.POLICY_VIOLATION)
    except ConnectionError:
        pass
    except Exception:  # the edge: a client that is told nothing more must not wait for it
        log.exception("watcher failed job=%s", crawl_id)
        await line.close(WSCloseCode.INTERNAL_ERROR)


async def _tell_all(line: _Line, deps: Deps, ask: Ask, crawl_id: UUID) -> None:
    job: Job = await ask(JobGet(job_id=crawl_id))
    markdown = job.options.markdown
    told: int | None = None
    async with aclosing(states(deps, ask, crawl_id)) as changes:
        async for state in changes:
            if told is None:
                told = await _catch_up(line, ask, state, markdown=markdown)
            while told < state.document_count:
                documents = await documents_after(ask, state, told, DOCUMENTS_AT_ONCE, markdown=markdown)
                if not documents:
                    raise LookupError(f"document {told + 1} of {state.document_count} is not listed")
                for document in documents:
                    await line.send("document", data=document.as_json())
                told += len(documents)
    await _finish(line, state)


async def _catch_up(line: _Line, ask: Ask, state: JobState, *, markdown: bool) -> int:
    """Send the state with the first documents; returns how many.

    Their clients stop at a state that is the end: that waits until they have all documents, and for the reason why.
    """
    documents = await documents_after(ask, state, 0, DOCUMENTS_AT_ONCE, markdown=markdown)
    crawl = state_of_crawl(state, documents)
    if len(documents) < state.document_count or state.status is JobStatus.FAILED:
        crawl = crawl.model_copy(update={"status": "scraping"})
    await line.send("catchup", data=crawl.as_json())
    return len(documents)


async def _finish(line: _Line, state: JobState) -> None:
    crawl = state_of_crawl(state).as_json()
    match state.status:
        case JobStatus.COMPLETED:
            await line.send("done", data=crawl)
        case JobStatus.FAILED:
            await line.send("error", error=to_json(state.error or "the crawl failed"), data=crawl)
        case _:  # to their clients, done is completed
            await line.send("catchup", data=crawl)
    await line.close(WSCloseCode.OK, b'{"type":"done"}')


def _patient(ask: Ask) -> Ask:
    """Ask again while a service is away: the client has a connection, and nothing better to do."""

    async def ask_again(message: Message) -> Any:
        while True:
            try:
                return await ask(message)
            except (RequestRefused, RequestTimedOut) as error:
                if isinstance(error, RequestRefused) and error.refused.code is not ErrorCode.UNAVAILABLE:
                    raise
                log.warning("watcher waits for a service error=%s", error)
            await asyncio.sleep(RETRY_SECONDS)

    return ask_again
