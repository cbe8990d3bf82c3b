"""The way to the job tracker: requests while the broker is there, and what it announces."""

import asyncio
import logging
import random
from contextlib import AsyncExitStack
from typing import Any, NoReturn
from uuid import UUID, uuid4

from tallyho_contracts.crawls import CrawlChanged, CrawlStarted
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import Job, JobGet, JobList, JobsQuery, JobState
from tallyho_contracts.logs import JobLog
from tallyho_contracts.pages import PageFinished
from tallyho_contracts.registry import TYPE_OF
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.connection import open_amqp
from tallyho_messaging.requests import Requester, RequestRefused, RequestTimedOut
from tallyho_messaging.subscription import subscribe
from tallyho_messaging.wire import AnyEvent
from tallyho_process.traces import caused_by, tracer

from ws_gateway import frames
from ws_gateway.bindings import Bindings, key_of, keys_for
from ws_gateway.frames import Spawn, Stream
from ws_gateway.http_api import Ask
from ws_gateway.hub import MAX_LIVE_JOBS, Hub, state_of
from ws_gateway.logs import LogBook
from ws_gateway.metrics import STATES

log = logging.getLogger(__name__)

NO_JOB = UUID(int=0)
# The queue of states drops its oldest under pressure, silently: what is live is compared from time to time.
COMPARE_SECONDS = 60.0
RETRY_SECONDS = (0.5, 15.0)
LINES_LENGTH = 1_000

PROGRESS = TYPE_OF[JobState].name
LOG = TYPE_OF[JobLog].name
# Where the pages are named that join a job; only the old system's clients want to hear of each.
SPAWNS = frozenset(TYPE_OF[type_].name for type_ in (CrawlStarted, CrawlChanged, PageFinished))


class Tracker:
    """The job tracker as the gateway's other parts see it. `connected` is set by the first connection, for good."""

    def __init__(self, timeout_seconds: float, hub: Hub, logs: LogBook) -> None:
        self._timeout = timeout_seconds
        self._hub = hub
        self._logs = logs
        self._requester: Requester | None = None
        self._stale = asyncio.Event()
        self._is_listed = asyncio.Event()
        self._states = Bindings(self._wanted_states, self._bound, self._unbound)
        self._lines = Bindings(self._wanted_lines)
        self.connected = asyncio.Event()
        hub.on_interest = logs.on_interest = self._check

    async def ask(self, message: Message) -> Any:
        """Send a request and return its reply; raises RequestRefused or RequestTimedOut."""
        if self._requester is None:
            raise RequestTimedOut("the broker has not answered yet")
        return await self._requester.request(message, subject=getattr(message, "job_id", NO_JOB), timeout=self._timeout)

    async def hear(self, stream: Stream, job_id: UUID | None) -> None:
        """Wait until a job's states or its log come in here; for None, until every live job is known, too.

        Somebody must follow it already. Raises RequestTimedOut.
        """
        bindings, type_ = (self._lines, LOG) if stream is Stream.LOG else (self._states, PROGRESS)
        try:
            async with asyncio.timeout(self._timeout):
                await bindings.until_covered(type_, job_id)
                if job_id is None:
                    await self._is_listed.wait()
        except TimeoutError:
            raise RequestTimedOut("the broker did not answer") from None

    async def follow(self, amqp_url: str) -> NoReturn:
        """Connect, then keep the hub current until cancelled."""
        name = f"ws-gateway.{uuid4()}"
        async with AsyncExitStack() as opened:
            amqp = await opened.enter_async_context(open_amqp(amqp_url, name="ws-gateway"))
            self._requester = await opened.enter_async_context(Requester.open(amqp))
            states = await opened.enter_async_context(
                subscribe(amqp, queue=name, binding_keys=[], on_event=self._on_state, on_gap=self._stale.set)
            )
            # A queue of its own: chatter must never push a state out.
            lines = await opened.enter_async_context(
                subscribe(
                    amqp,
                    queue=f"{name}.lines",
                    binding_keys=[],
                    on_event=self._on_line,
                    on_gap=lambda: None,
                    length=LINES_LENGTH,
                )
            )
            async with asyncio.TaskGroup() as loops:
                loops.create_task(self._states.run(states))
                loops.create_task(self._lines.run(lines))
                self.connected.set()
                await self._keep_current()

    def _check(self) -> None:
        self._states.check()
        self._lines.check()

    def _wanted_states(self) -> set[str]:
        return keys_for(PROGRESS, self._hub.watched, everything=self._hub.wants_everything)

    def _wanted_lines(self) -> set[str]:
        legacy = self._hub.has_legacy_clients
        return keys_for(LOG, self._logs.read, everything=legacy) | (SPAWNS if legacy else set())

    def _bound(self, keys: set[str]) -> None:
        if key_of(PROGRESS, None) in keys:
            self._is_listed.clear()
            self._stale.set()

    def _unbound(self, keys: set[str]) -> None:
        if key_of(PROGRESS, None) in keys:
            self._is_listed.clear()
        if not self._states.cover(PROGRESS, None):
            self._hub.forget_unwatched()

    def _on_state(self, event: AnyEvent) -> None:
        # A message may bring the states of jobs that nobody here follows: of those, not every state would come.
        if isinstance(event.data, JobState) and self._states.cover(PROGRESS, event.data.job_id):
            on_taken = None
            if event.traceparent:
                attributes = {"job": str(event.data.job_id)}
                on_taken = tracer.start_span("write state", caused_by(event.traceparent), attributes=attributes).end
            STATES.labels("yes" if self._hub.offer(event.data, on_taken) else "no").inc()

    def _on_line(self, event: AnyEvent) -> None:
        match event.data:
            case JobLog() as line if self._lines.cover(LOG, line.job_id):
                self._logs.offer(line)
                self._hub.tell_legacy(frames.log(line))
            case PageFinished(spawned=pages) | CrawlStarted(pages=pages) | CrawlChanged(pages=pages):
                for page in pages:
                    spawn = Spawn(
                        parent_job_id=event.subject,
                        job_id=page.page_id,
                        url=page.url,
                        depth=page.depth,
                        timestamp=event.time,
                    )
                    self._hub.tell_legacy(frames.spawn(spawn), if_room=True)

    async def _keep_current(self) -> NoReturn:
        """Catch up after each gap, and now and then while jobs are live; try again for as long as it takes."""
        wait = RETRY_SECONDS[0]
        while True:
            try:
                async with asyncio.timeout(COMPARE_SECONDS):
                    await self._stale.wait()
            except TimeoutError:
                if not self._hub.unsettled():
                    continue
            self._stale.clear()
            try:
                if everything := self._states.cover(PROGRESS, None):
                    await catch_up(self._hub, self.ask)
                else:
                    await settle(self._hub, self.ask, self._hub.unsettled())
                wait = RETRY_SECONDS[0]
            except (RequestRefused, RequestTimedOut) as error:
                log.warning("live jobs not fetched retry_s=%.1f error=%s", wait, error)
                self._stale.set()
                await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  # jitter
                wait = min(wait * 2, RETRY_SECONDS[1])
            else:
                if everything and self._states.cover(PROGRESS, None):
                    self._is_listed.set()


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
    await settle(hub, ask, hub.unsettled() - listed)


async def settle(hub: Hub, ask: Ask, jobs: set[UUID]) -> None:
    """Fetch each of these jobs, and drop those that do not exist any more."""
    for job_id in jobs:
        try:
            job: Job = await ask(JobGet(job_id=job_id))
            hub.offer(state_of(job))
        except RequestRefused as refusal:
            if refusal.refused.code is not ErrorCode.NOT_FOUND:
                raise
            hub.forget(job_id)
