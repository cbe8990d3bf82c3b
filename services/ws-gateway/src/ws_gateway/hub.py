"""What is sent to whom: the newest state of each job, and which clients have not got it yet.

No I/O and no clock: states and interests go in, frames come out. The hub never moves a job to an older revision, and
never queues: a state that was not taken yet is replaced by the newer one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol
from uuid import UUID

from tallyho_contracts.jobs import Job, JobState

from ws_gateway import frames
from ws_gateway.clients import FLUSH_SECONDS, MAX_QUEUED_BYTES, Client, Interest, Latest, Pace, Wake
from ws_gateway.frames import Outcome, Stream, Subscribed

MAX_LIVE_JOBS = 10_000
MAX_FINISHED_JOBS = 2_000


def state_of(job: Job) -> JobState:
    """A job's state without what was asked for, which can be large."""
    return JobState(**job.model_dump(exclude={"seeds", "options", "waits_for"}))


class Follower(Protocol):
    """Whoever wants to hear of one job, or of all."""

    def offer(self, latest: Latest) -> None:
        """Called with each newer state; must not block, nor change who follows."""


class Hub:
    """The newest state of every job that is live or ended lately, and the clients that follow them.

    `on_interest` is called when jobs, or all of them, begin or cease to be followed by anybody.
    """

    def __init__(self, on_interest: Callable[[], None] = lambda: None) -> None:
        self.on_interest = on_interest
        self._live: dict[UUID, Latest] = {}
        self._finished: dict[UUID, Latest] = {}
        self._everything: set[Follower] = set()
        self._legacy: set[Client] = set()
        self._wide: set[Client] = set()
        self._watchers: dict[UUID, set[Follower]] = {}

    @property
    def wants_everything(self) -> bool:
        """Whether somebody follows every job, and not just until it says what it is here for."""
        return bool(self._wide)

    @property
    def has_legacy_clients(self) -> bool:
        """Whether somebody wants to be told in the old system's words, too."""
        return not self._legacy.isdisjoint(self._wide)

    @property
    def watched(self) -> Iterable[UUID]:
        """The jobs that somebody follows by their ids."""
        return self._watchers.keys()

    def join(self, wake: Wake, interval: float = FLUSH_SECONDS, *, legacy: bool = False) -> Client:
        """Add a client that follows every job, beginning with the live ones once it has settled.

        A `legacy` one is told in the old system's words too, until it subscribes.
        """
        client = Client(wake, interval)
        self._everything.add(client)
        if legacy:
            self._legacy.add(client)
        for latest in self._live.values():
            client.offer(latest)
        return client

    def settle(self, client: Client) -> None:
        """A client that has been silent for a while: it does mean every job."""
        if client.is_silent and client.everything and client in self._everything:
            self._wide.add(client)
            client.everything.release()
            self.on_interest()

    def leave(self, client: Client) -> None:
        """Forget a client and all it had pending."""
        self.narrow(client)
        self.unsubscribe_all(client)
        for job_id in list(client.interests):
            self.unsubscribe(client, job_id)
        client.clear()

    def offer(self, state: JobState, on_taken: Callable[[], None] | None = None) -> bool:
        """Take a state in and have it sent; false if it is not newer than what is known.

        `on_taken` is called when it is first written to a client, unless a newer one comes before.
        """
        known = self.newest(state.job_id)
        if known and known.revision >= state.revision:
            return False
        self._tell_watchers(latest := self._remember(state, on_taken))
        for follower in self._everything:
            follower.offer(latest)
        if self._legacy and known and known.state.status is not state.status:
            self.tell_legacy(frames.status_change(known.state, state))
        return True

    def tell_legacy(self, frame: bytes, *, if_room: bool = False) -> None:
        """Have a frame sent to every client of the old system; if it may be left out, only while there is much room."""
        on_the_wire = frames.on_the_wire(frame)
        for client in self._legacy:
            if not if_room or client.queued_bytes < MAX_QUEUED_BYTES // 4:
                client.put(on_the_wire)

    def narrow(self, client: Client) -> None:
        """From now on a client gets only what it subscribes to."""
        if client.is_silent:
            client.is_silent = False
            self._end_everything(client)
            client.clear()
            self._legacy.discard(client)
            self.on_interest()

    def subscribe(self, client: Client, job_id: UUID, revision: int | None, interval: float | None = None) -> None:
        """Follow one job. Its states wait for `answer`; none is lost between."""
        self.narrow(client)
        _leave_crowd(client)
        if old := client.interests.pop(job_id, None):
            old.pace.dirty.pop(job_id, None)
            self.unwatch(job_id, old)
        interest = client.interests[job_id] = Interest(client.pace(interval), revision)
        if client.everything:
            client.everything.dirty.pop(job_id, None)
        self.watch(job_id, interest)

    def answer(self, client: Client, snapshot: JobState) -> Subscribed | None:
        """Begin a subscription with the newest of `snapshot` and what came meanwhile; none if it is gone."""
        job_id = snapshot.job_id
        interest = client.interests.get(job_id)
        if interest is None:
            return None
        newest = self.learn(snapshot)
        interest.answered = True
        outcome = Outcome.SNAPSHOT if newest.revision > interest.revision else Outcome.UP_TO_DATE
        interest.offer(newest)
        return Subscribed(job_id=job_id, stream=Stream.PROGRESS, outcome=outcome, revision=newest.revision)

    def unsubscribe(self, client: Client, job_id: UUID) -> None:
        """Send this job to the client no longer. One that has subscribed to nothing goes on with every job."""
        if interest := client.interests.get(job_id):
            _leave_crowd(client)
            del client.interests[job_id]
            unsent = interest.pace.dirty.pop(job_id, None)
            self.unwatch(job_id, interest)
            known = self.newest(job_id)
            if known and (unsent or known.revision > interest.revision):
                client.offer(known)  # with every job it would come no more if it is the last

    def subscribe_all(self, client: Client, revisions: Mapping[UUID, int], interval: float | None = None) -> None:
        """Follow every job. States wait for `answer_all`; those that the client has, by `revisions`, are not sent."""
        _leave_crowd(client)
        pending = dict(client.everything.dirty) if client.everything else {}
        self.narrow(client)
        self._end_everything(client)
        pace = client.everything = Pace(client.wake, interval or client.default.interval)
        pace.is_held = True
        client.floors = revisions
        for latest in pending.values():
            client.offer(latest)
        self._everything.add(client)
        self._wide.add(client)
        self.on_interest()

    def unknown_to(self, client: Client) -> list[UUID]:
        """The jobs that a client of every job holds as live, and of which nothing is known here."""
        return [job_id for job_id in client.floors if not self.newest(job_id)]

    def answer_all(self, client: Client) -> None:
        """Begin with every live job, and with the end of those that the client still held as live."""
        pace = client.everything
        if pace is None:
            return
        held = [known for job_id in client.floors if (known := self._finished.get(job_id))]
        for latest in [*self._live.values(), *held]:
            client.offer(latest)
        # What is known by now can only become newer, and what is not known is gone.
        client.floors = {
            job_id: revision
            for job_id, revision in client.floors.items()
            if (known := self.newest(job_id)) and known.revision < revision
        }
        pace.release()

    def unsubscribe_all(self, client: Client) -> None:
        """Send only the jobs that the client has subscribed to."""
        if not client.is_silent:
            self._end_everything(client)
            self.on_interest()

    def _end_everything(self, client: Client) -> None:
        _leave_crowd(client)
        if client.everything:
            client.everything.clear()  # its flush may be on its way
        client.everything = None
        client.floors = {}
        self._everything.discard(client)
        self._wide.discard(client)

    def watch(self, job_id: UUID | None, follower: Follower) -> None:
        """Tell a follower of every newer state of one job, or of every job."""
        if job_id is None:
            self._everything.add(follower)
            return
        if job_id not in self._watchers:
            self._watchers[job_id] = set()
            self.on_interest()
        self._watchers[job_id].add(follower)

    def unwatch(self, job_id: UUID | None, follower: Follower) -> None:
        """Tell it no longer."""
        if job_id is None:
            self._everything.discard(follower)
            return
        watchers = self._watchers.get(job_id, set())
        watchers.discard(follower)
        if not watchers and self._watchers.pop(job_id, None) is not None:
            self.on_interest()

    def learn(self, snapshot: JobState) -> Latest:
        """Take in what was asked for; returns the newest there is."""
        known = self.newest(snapshot.job_id)
        if known is None and snapshot.status.is_terminal:  # it ended long ago: no news for those who follow every job
            self._tell_watchers(latest := self._remember(snapshot))
            return latest
        self.offer(snapshot)
        return self.newest(snapshot.job_id) or Latest(snapshot)

    def newest(self, job_id: UUID) -> Latest | None:
        """The newest state known, if any."""
        return self._live.get(job_id) or self._finished.get(job_id)

    def unsettled(self) -> set[UUID]:
        """The jobs whose end somebody waits for."""
        return set(self._live) | (set(self._watchers) - set(self._finished))

    def forget(self, job_id: UUID) -> None:
        """Drop a job that does not exist any more, or of which nothing is heard any more."""
        self._live.pop(job_id, None)
        self._finished.pop(job_id, None)

    def forget_unwatched(self) -> None:
        """Drop every job that nobody follows by its id."""
        for job_id in [*self._live, *self._finished]:
            if job_id not in self._watchers:
                self.forget(job_id)

    def _tell_watchers(self, latest: Latest) -> None:
        for follower in self._watchers.get(latest.job_id, ()):
            follower.offer(latest)

    def _remember(self, state: JobState, on_taken: Callable[[], None] | None = None) -> Latest:
        latest = Latest(state, on_taken)
        self._live.pop(state.job_id, None)
        self._finished.pop(state.job_id, None)
        jobs, most = (self._finished, MAX_FINISHED_JOBS) if latest.is_final else (self._live, MAX_LIVE_JOBS)
        jobs[state.job_id] = latest  # at the end: the one that changed longest ago is dropped first
        if len(jobs) > most:
            del jobs[next(iter(jobs))]
        return latest


def _leave_crowd(client: Client) -> None:
    if client.crowd:
        client.crowd.leave(client)
