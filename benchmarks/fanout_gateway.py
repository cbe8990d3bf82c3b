"""The gateway, fed with what the broker would bring: `python -m benchmarks.fanout_gateway uvloop|asyncio JOBS [alone]`.

Says "listening PORT"; a line "ROUNDS MILLISECONDS STATES" on the standard input begins: each round brings the next
state of so many of the jobs, in turn, as one message of events. "done" ends. With "alone" no client joins a crowd.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import cycle, islice
from uuid import UUID

import uvloop
from aiohttp import web
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.event import BATCH_CONTENT_TYPE, Message
from tallyho_contracts.jobs import Job, JobGet, JobList, JobState, JobStatus
from tallyho_messaging.wire import Malformed, decode, event_of
from tallyho_process import spare_the_collector
from ws_gateway.app import Options, Readiness, build_app
from ws_gateway.crowds import Crowds
from ws_gateway.hub import Hub
from ws_gateway.limits import Limits

KINDS = ("total", "pending", "running", "completed", "failed", "skipped", "cancelled")


def state(job: int) -> JobState:
    """A job's first state, with marks where revision and moment go."""
    now = datetime.now(UTC)
    return JobState(
        job_id=UUID(int=job),
        revision=0,
        name="docs.example.org/guide",
        status=JobStatus.RUNNING,
        progress_text="t=MOMENT",
        timestamp=now,
        **dict.fromkeys((f"{kind}_children" for kind in KINDS), 1234),
        document_count=1234,
        documents_per_second=17.25,
        created_at=now,
        started_at=now,
    )


class Announcements:
    """The next state of one job after the other, as it comes from the broker."""

    def __init__(self, hub: Hub, jobs: int) -> None:
        self._hub = hub
        self._next = cycle(range(1, jobs + 1))
        self._revisions = dict.fromkeys(range(1, jobs + 1), 1)
        events = {job: event_of(state(job), source="job-tracker", subject=UUID(int=job)) for job in self._revisions}
        self._type = events[1].type
        self._templates = {
            job: event.model_dump_json().replace('"revision":0', '"revision":REVISION') for job, event in events.items()
        }

    def announce(self, states: int) -> None:
        """Take in the next state of so many jobs."""
        bodies = [self._body(job) for job in islice(self._next, states)]
        for item in decode(f"[{','.join(bodies)}]".encode(), BATCH_CONTENT_TYPE, self._type):
            assert not isinstance(item, Malformed)
            self._hub.offer(item.data)

    def _body(self, job: int) -> str:
        self._revisions[job] += 1
        text = self._templates[job].replace("REVISION", str(self._revisions[job]))
        return text.replace("MOMENT", str(time.time_ns() // 1000))


async def main(jobs: int) -> None:
    """Serve, and announce when told to."""
    hub = Hub()

    async def ask(message: Message) -> Job | JobList:
        if not isinstance(message, JobGet):
            return JobList(jobs=())
        return Job(**state(message.job_id.int).model_dump(), seeds=("https://example.com/",), options=CrawlOptions())

    readiness = Readiness(is_connected=lambda: True)
    limits = Limits(connections=0, connections_per_address=0)
    app = build_app(hub, ask, readiness, allow_private_addresses=False, options=Options(limits=limits))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    spare_the_collector()
    print(f"listening {runner.addresses[0][1]}", flush=True)
    await obey(Announcements(hub, jobs))


async def obey(announcements: Announcements) -> None:
    """Do what the standard input says, until it ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        count, milliseconds, states = map(int, line.split())
        start = loop.time()
        for number in range(1, count + 1):
            announcements.announce(states)
            await asyncio.sleep(max(0.0, start + number * milliseconds / 1000 - loop.time()))
        print("done", flush=True)


def run(arguments: Sequence[str]) -> None:
    """Run on the loop that is named."""
    if "alone" in arguments:
        Crowds.enter = lambda *_: None  # type: ignore[method-assign]
    factory = uvloop.new_event_loop if arguments[0] == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(int(arguments[1])))


if __name__ == "__main__":
    run(sys.argv[1:])
