"""JSON Lines: as many models as there are, while the client takes them."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel
from tallyho_messaging.requests import RequestRefused, RequestTimedOut

from ws_gateway.places import hold_place

log = logging.getLogger(__name__)

JSON_LINES = ("application/jsonl", "application/x-ndjson")
# So much at once, for which a client may take so long: it may work on what it has before it reads on.
WRITE_BYTES = 64 * 1024
STALLED_SECONDS = 120.0


def wants_json_lines(request: web.Request) -> bool:
    """Whether the client asked for JSON Lines."""
    accepted = {part.partition(";")[0].strip().lower() for part in request.headers.get("Accept", "").split(",")}
    return not accepted.isdisjoint(JSON_LINES)


async def stream_lines(
    request: web.Request, batches: AsyncGenerator[Sequence[BaseModel]], *, about: UUID
) -> web.StreamResponse:
    """Answer with a line of JSON for each model, a batch at a time as the client takes them."""
    with hold_place(request):
        async with aclosing(batches):
            batch = await anext(batches)  # an unknown job is a problem, not a stream
            response = web.StreamResponse(headers={"Content-Type": JSON_LINES[0]})
            try:
                await response.prepare(request)
                await _write(response, batch)
                async for batch in batches:
                    await _write(response, batch)
                await response.write_eof()
            except ConnectionError:
                log.info("client left a document stream job=%s", about)
            except (RequestRefused, RequestTimedOut, TimeoutError) as error:
                # The status is sent: only a connection that breaks tells the client that documents are missing.
                log.warning("document stream broken off job=%s error=%r", about, error)
                if request.transport:
                    request.transport.abort()
            return response


async def _write(response: web.StreamResponse, models: Sequence[BaseModel]) -> None:
    """Raises TimeoutError: the client takes nothing."""
    lines = b"".join(model.model_dump_json().encode() + b"\n" for model in models)
    for start in range(0, len(lines), WRITE_BYTES):
        async with asyncio.timeout(STALLED_SECONDS):
            await response.write(lines[start : start + WRITE_BYTES])
