"""What is sent to whom: the newest state of each job, and which clients have not got it yet.

No I/O and no clock: states and interests go in, frames come out. The hub never moves a job to an older revision, and
never queues: a state that was not taken yet is replaced by the newer one.
"""

from collections.abc import Callable
from functools import cached_property
from itertools import islice
from uuid import UUID

from tallyho_contracts.jobs import Job, JobState

from ws_gateway import frames
from ws_gateway.frames import Outcome, Subscribed

MAX_LIVE_JOBS = 10_000
MAX_FINISHED_JOBS = 2_000
MAX_SUBSCRIPTIONS = 128

Wake = Callable[[bool], None]


def state_of(job: Job) -> JobState:
    """A job's state without what was asked for, which can be large."""
    return JobState(**job.model_dump(exclude={"seeds", "options", "waits_for"}))


class TooManySubscriptionsError(Exception):
    """A client follows as many jobs as it may."""


class Latest:
    """A job's state at one revision; encoded once, and only if somebody takes it."""

    def __init__(self, state: JobState) -> None:
        self.state = state

    @cached_property
    def frame(self) -> bytes:
        """The bytes to write, the same for every client."""
        return frames.on_the_wire(frames.progress(self.state))


class Interest:
    """A client's subscription to one job: `revision` is the newest it has, or -1. Nothing is sent before the answer."""

    __slots__ = ("answered", "revision")

    def __init__(self, revision: int | None) -> None:
        self.revision = -1 if revision is None else revision
        self.answered = False


class Client:
    """A connection as the hub sees it. `wake` is called when there is something to take: with True, at once."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self.interests: dict[UUID, Interest] | None = None  # none: every job
        self.pending: dict[UUID, Latest] = {}

    def offer(self, latest: Latest) -> None:
        """Have this state sent, unless it is not wanted or not newer than what was sent."""
        state = latest.state
        if self.interests is not None:
            interest = self.interests.get(state.job_id)
            if interest is None or not interest.answered or state.revision <= interest.revision:
                return
            interest.revision = state.revision
        self.pending[state.job_id] = latest
        self._wake(state.status.is_terminal)

    def take(self, limit: int) -> list[bytes]:
        """The next frames to write, at most `limit`."""
        return [self.pending.pop(job_id).frame for job_id in list(islice(self.pending, limit))]


class Hub:
    """The newest state of every job that is live or ended lately, and the clients that follow them."""

    def __init__(self) -> None:
        self._live: dict[UUID, Latest] = {}
        self._finished: dict[UUID, Latest] = {}
        self._everything: set[Client] = set()
        self._watchers: dict[UUID, set[Client]] = {}

    def join(self, wake: Wake) -> Client:
        """Add a client that follows every job, beginning with the live ones."""
        client = Client(wake)
        self._everything.add(client)
        for latest in self._live.values():
            client.offer(latest)
        return client

    def leave(self, client: Client) -> None:
        """Forget a client and all it had pending."""
        self._everything.discard(client)
        for job_id in client.interests or ():
            self._unwatch(client, job_id)
        client.interests = {}
        client.pending.clear()

    def offer(self, state: JobState) -> bool:
        """Take a state in and have it sent; false if it is not newer than what is known."""
        if (known := self.newest(state.job_id)) and known.state.revision >= state.revision:
            return False
        self._tell_watchers(latest := self._remember(state))
        for client in self._everything:
            client.offer(latest)
        return True

    def subscribe(self, client: Client, job_id: UUID, revision: int | None) -> None:
        """Narrow a client to the jobs it subscribes to. This job's states wait for `answer`; none is lost between."""
        if client.interests is None:
            self._everything.discard(client)
            client.interests = {}
            client.pending.clear()
        if job_id not in client.interests and len(client.interests) >= MAX_SUBSCRIPTIONS:
            raise TooManySubscriptionsError
        client.interests[job_id] = Interest(revision)
        client.pending.pop(job_id, None)
        self._watchers.setdefault(job_id, set()).add(client)

    def answer(self, client: Client, snapshot: JobState) -> Subscribed | None:
        """Begin a subscription with the newest of `snapshot` and what came meanwhile; none if it is gone."""
        job_id = snapshot.job_id
        interest = (client.interests or {}).get(job_id)
        if interest is None:
            return None
        newest = self._newest_with(snapshot)
        interest.answered = True
        outcome = Outcome.SNAPSHOT if newest.state.revision > interest.revision else Outcome.UP_TO_DATE
        client.offer(newest)
        return Subscribed(job_id=job_id, outcome=outcome, revision=newest.state.revision)

    def unsubscribe(self, client: Client, job_id: UUID) -> None:
        """Send this job to the client no longer. One that has subscribed to nothing goes on with every job."""
        if client.interests and job_id in client.interests:
            del client.interests[job_id]
            client.pending.pop(job_id, None)
            self._unwatch(client, job_id)

    def newest(self, job_id: UUID) -> Latest | None:
        """The newest state known, if any."""
        return self._live.get(job_id) or self._finished.get(job_id)

    def unsettled(self) -> set[UUID]:
        """The jobs whose end somebody waits for."""
        return set(self._live) | (set(self._watchers) - set(self._finished))

    def forget(self, job_id: UUID) -> None:
        """Drop a job that does not exist any more."""
        self._live.pop(job_id, None)

    def _newest_with(self, snapshot: JobState) -> Latest:
        known = self.newest(snapshot.job_id)
        if known is None and snapshot.status.is_terminal:  # it ended long ago: no news for those who follow every job
            self._tell_watchers(latest := self._remember(snapshot))
            return latest
        self.offer(snapshot)
        return self.newest(snapshot.job_id) or Latest(snapshot)

    def _tell_watchers(self, latest: Latest) -> None:
        for client in self._watchers.get(latest.state.job_id, ()):
            client.offer(latest)

    def _remember(self, state: JobState) -> Latest:
        latest = Latest(state)
        self._live.pop(state.job_id, None)
        self._finished.pop(state.job_id, None)
        ended = state.status.is_terminal
        jobs, most = (self._finished, MAX_FINISHED_JOBS) if ended else (self._live, MAX_LIVE_JOBS)
        jobs[state.job_id] = latest  # at the end: the one that changed longest ago is dropped first
        if len(jobs) > most:
            del jobs[next(iter(jobs))]
        return latest

    def _unwatch(self, client: Client, job_id: UUID) -> None:
        watchers = self._watchers.get(job_id, set())
        watchers.discard(client)
        if not watchers:
            self._watchers.pop(job_id, None)
