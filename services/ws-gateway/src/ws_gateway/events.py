"""A job's states as Server-Sent Events, for clients that can't have a WebSocket: the same states, as conflated."""

import asyncio
import random
from contextlib import suppress
from http import HTTPStatus
from uuid import UUID

from aiohttp import web
from pydantic import TypeAdapter, ValidationError
from tallyho_contracts.event import Count
from tallyho_contracts.jobs import Job, JobGet

from ws_gateway.access import has_expired
from ws_gateway.clients import Client, Latest, Pace
from ws_gateway.closing import RESTARTING
from ws_gateway.connection import PING_SECONDS, STALLED_SECONDS, bound_unsent
from ws_gateway.deps import DEPS, Deps
from ws_gateway.frames import Outcome, Stream
from ws_gateway.http_api import job_id, query
from ws_gateway.hub import state_of
from ws_gateway.inputs import EventParameters
from ws_gateway.metrics import CLIENTS
from ws_gateway.places import hold_place
from ws_gateway.problems import FieldError, invalid

HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
PING = b": ping\n\n"


def routes() -> list[web.RouteDef]:
    """The path of a job's events."""
    return [web.get("/v1/jobs/{job_id}/events", job_events, allow_head=False)]


async def job_events(request: web.Request) -> web.StreamResponse:
    """Stream a job's states; `Last-Event-ID` is the newest revision that the client has.

    After the last state the stream ends, and a client that comes back with it is told so: no content, don't reconnect.
    """
    query(request, EventParameters)
    deps, job, revision = request.app[DEPS], job_id(request), _last_event_id(request)
    with hold_place(request), CLIENTS.labels("events").track_inprogress():
        return await _stream(request, deps, job, revision)


class _Due:
    """Set when there is something to write."""

    def __init__(self, deps: Deps) -> None:
        self._phase = deps.phases.deal(deps.flush_seconds)
        self.event = asyncio.Event()
        self.is_stopping = False

    def wake(self, pace: Pace, urgent: bool) -> None:  # noqa: FBT001  # a Wake
        if urgent:
            self.event.set()
        else:
            self._phase.add(lambda _: self.event.set(), pace)

    def stop(self) -> None:
        self.is_stopping = True
        self.event.set()


async def _stream(request: web.Request, deps: Deps, job: UUID, revision: int | None) -> web.StreamResponse:
    due = _Due(deps)
    client = deps.hub.join(due.wake, deps.flush_seconds)
    deps.hub.subscribe(client, job, revision)
    try:
        await deps.hear(Stream.PROGRESS, job)
        found: Job = await deps.ask(JobGet(job_id=job))
        answer = deps.hub.answer(client, state_of(found))
        if answer and answer.outcome is Outcome.UP_TO_DATE and found.status.is_terminal:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        if request.transport:
            bound_unsent(request.transport)
        deps.on_stop.add(due.stop)
        with suppress(ConnectionError):
            await _write(request, response, due, client)
        return response
    finally:
        deps.on_stop.discard(due.stop)
        deps.hub.leave(client)


async def _write(request: web.Request, response: web.StreamResponse, due: _Due, client: Client) -> None:
    """Write states until the last one, while the key is good; a client that takes none for long is cut off."""
    is_over = False
    try:
        while not is_over and not has_expired(request):
            text = PING
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_SECONDS):
                    await due.event.wait()
                due.event.clear()
                states = client.default.pop(1)
                text = b"".join(map(_event, states))
                is_over = due.is_stopping or any(latest.is_final for latest in states)
            if due.is_stopping and RESTARTING.retry_ms:
                text += f"retry: {random.randint(*RESTARTING.retry_ms)}\n\n".encode()  # noqa: S311  # jitter
            async with asyncio.timeout(STALLED_SECONDS):
                await response.write(text)
        await response.write_eof()
    except TimeoutError:
        if request.transport:
            request.transport.abort()


def _event(latest: Latest) -> bytes:
    data = latest.state.model_dump_json()
    return f"id: {latest.revision}\nevent: parent_job_progress\ndata: {data}\n\n".encode()


def _last_event_id(request: web.Request) -> int | None:
    text = request.headers.get("Last-Event-ID")
    if not text:
        return None
    try:
        return TypeAdapter(Count).validate_python(text)
    except ValidationError:
        raise invalid(FieldError(field="Last-Event-ID", message="must be the id of an event of this stream")) from None
