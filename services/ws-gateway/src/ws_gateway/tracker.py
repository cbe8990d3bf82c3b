"""The way to the job tracker: requests while the broker is there, and the states that it announces."""

import asyncio
import logging
import random
from typing import Any, NoReturn
from uuid import UUID, uuid4

from tallyho_contracts.event import Message
from tallyho_contracts.jobs import Job, JobGet, JobList, JobsQuery, JobState
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.connection import open_amqp
from tallyho_messaging.requests import Requester, RequestRefused, RequestTimedOut
from tallyho_messaging.subscription import subscribe
from tallyho_messaging.wire import AnyEvent

from ws_gateway.http_api import Ask
from ws_gateway.hub import MAX_LIVE_JOBS, Hub, state_of

log = logging.getLogger(__name__)

NO_JOB = UUID(int=0)
# The queue of states drops its oldest under pressure, silently: what is live is compared from time to time.
COMPARE_SECONDS = 60.0
RETRY_SECONDS = (0.5, 15.0)


class Tracker:
    """The job tracker as the gateway's other parts see it. `connected` is set by the first connection, for good."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._requester: Requester | None = None
        self.connected = asyncio.Event()

    async def ask(self, message: Message) -> Any:
        """Send a request and return its reply; raises RequestRefused or RequestTimedOut."""
        if self._requester is None:
            raise RequestTimedOut("the broker has not answered yet")
        return await self._requester.request(message, subject=getattr(message, "job_id", NO_JOB), timeout=self._timeout)

    async def follow(self, amqp_url: str, hub: Hub) -> NoReturn:
        """Connect, then keep the hub current until cancelled."""
        stale = asyncio.Event()

        def on_event(event: AnyEvent) -> None:
            if isinstance(event.data, JobState):
                hub.offer(event.data)

        async with open_amqp(amqp_url, name="ws-gateway") as amqp, Requester.open(amqp) as requester:
            self._requester = requester
            async with subscribe(
                amqp,
                queue=f"ws-gateway.{uuid4()}",
                binding_keys=["job.progress.v1.*"],
                on_event=on_event,
                on_gap=stale.set,
            ):
                self.connected.set()
                await keep_current(hub, self.ask, stale)


async def keep_current(hub: Hub, ask: Ask, stale: asyncio.Event) -> NoReturn:
    """Catch up after each gap, and now and then while jobs are live; try again for as long as it takes."""
    wait = RETRY_SECONDS[0]
    while True:
        try:
            async with asyncio.timeout(COMPARE_SECONDS):
                await stale.wait()
        except TimeoutError:
            if not hub.unsettled():
                continue
        stale.clear()
        try:
            await catch_up(hub, ask)
            wait = RETRY_SECONDS[0]
        except (RequestRefused, RequestTimedOut) as error:
            log.warning("live jobs not fetched retry_s=%.1f error=%s", wait, error)
            stale.set()
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  # jitter
            wait = min(wait * 2, RETRY_SECONDS[1])


async def catch_up(hub: Hub, ask: Ask) -> None:
    """Fetch every live job, then one by one those whose end was missed."""
    before: UUID | None = None
    listed: set[UUID] = set()
    while True:
        page: JobList = await ask(JobsQuery(live=True, before=before, limit=1000))
        for state in page.jobs:
            hub.offer(state)
            listed.add(state.job_id)
        before = page.next
        if before is None or len(listed) >= MAX_LIVE_JOBS:
            break
    for job_id in hub.unsettled() - listed:
        await _settle(hub, ask, job_id)


async def _settle(hub: Hub, ask: Ask, job_id: UUID) -> None:
    try:
        job: Job = await ask(JobGet(job_id=job_id))
        hub.offer(state_of(job))
    except RequestRefused as refusal:
        if refusal.refused.code is not ErrorCode.NOT_FOUND:
            raise
        hub.forget(job_id)
