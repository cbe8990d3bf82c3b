"""One WebSocket to a gateway, subscribed to one job."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
from pydantic import ValidationError
from tallyho_contracts.jobs import JobState
from tallyho_contracts.replies import ErrorCode

from tallyho.errors import NotAGateway, refused_by_frame
from tallyho.outage import GatewayAway

HEARTBEAT = 15  # seconds: a gateway that does not answer a ping in half of that is gone


async def subscribed_states(
    session: aiohttp.ClientSession, url: str, job_id: str, revision: int | None
) -> AsyncGenerator[JobState | None, None]:
    """What the gateway says of the job, unfiltered; None for a frame that only shows that the gateway is there.

    Never ends by itself: raises GatewayAway or aiohttp's errors when the connection does, RequestRefused when the
    gateway refuses the subscription.
    """
    async with session.ws_connect(url, heartbeat=HEARTBEAT, max_msg_size=0) as socket:
        known = {} if revision is None else {"revision": revision}
        await socket.send_json({"type": "subscribe", "payload": {"job_id": job_id} | known})
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                kind, payload = _frame(message.data)
                if kind == "ping":
                    await socket.send_json({"type": "pong", "payload": {}})
                yield _state(kind, payload, job_id)
        raise GatewayAway(f"the connection was closed with code {socket.close_code}")


def _frame(text: str) -> tuple[str, dict[str, Any]]:
    try:
        frame = json.loads(text)
        return str(frame["type"]), dict(frame.get("payload") or {})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotAGateway("a frame that came over the WebSocket is not a gateway's") from error


def _state(kind: str, payload: dict[str, Any], job_id: str) -> JobState | None:
    if kind == "error" and payload.get("job_id", job_id) == job_id:
        if payload.get("code") == ErrorCode.UNAVAILABLE:
            raise GatewayAway(payload.get("message", "unavailable"))
        raise refused_by_frame(payload)
    if kind != "parent_job_progress" or payload.get("job_id") != job_id:
        return None
    try:
        return JobState.model_validate(payload)
    except ValidationError as error:
        raise NotAGateway("a job's state that came over the WebSocket is not a gateway's") from error
