"""A connection as the hub sees it: what it follows, and what it has not been sent yet. No I/O and no clock."""

from asyncio import TimerHandle
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Protocol
from uuid import UUID

from tallyho_contracts.jobs import JobState

from ws_gateway import frames
from ws_gateway.metrics import FRAMES_DROPPED

FLUSH_SECONDS = 0.05
# Of what can't be replaced by something newer: items and log lines.
MAX_QUEUED_BYTES = 256 * 1024


class Latest:
    """A job's state at one revision; encoded once, and only if somebody takes it, which `on_taken` is told."""

    __slots__ = ("_frame", "_on_taken", "is_final", "job_id", "revision", "state")

    def __init__(self, state: JobState, on_taken: Callable[[], None] | None = None) -> None:
        self.state = state
        self._on_taken = on_taken
        self.job_id = state.job_id
        self.revision = state.revision
        self.is_final = state.status.is_terminal
        self._frame: bytes | None = None

    @property
    def frame(self) -> bytes:
        """The bytes to write, the same for every client."""
        if self._frame is None:
            self._frame = frames.on_the_wire(frames.progress(self.state))
            if self._on_taken:
                self._on_taken()
        return self._frame


class Moment(Protocol):
    """When to write; see `phases`."""

    def add(self, flush: "Callable[[Pace], None]", pace: "Pace") -> None:
        """Flush `pace` then."""


class Pace:
    """States that go out together, at most once in `interval` seconds; of each job the newest only.

    `wake(pace, urgent)` is called when there is something to take. While it is held, nobody is told. `phase` and
    `again` are for whoever writes: when that is due, and when the rest is.
    """

    __slots__ = ("_is_awake", "_wake", "again", "dirty", "interval", "is_held", "phase")

    def __init__(self, wake: "Wake", interval: float) -> None:
        self.interval = interval
        self.dirty: dict[UUID, Latest] = {}
        self.is_held = False
        self.phase: Moment | None = None
        self.again: TimerHandle | None = None
        self._is_awake = False
        self._wake = wake

    def offer(self, latest: Latest) -> None:
        """Have this state sent in place of any older one of its job."""
        self.dirty[latest.job_id] = latest
        if (latest.is_final or not self._is_awake) and not self.is_held:
            self._is_awake = True
            self._wake(self, latest.is_final)

    def wake(self, *, urgent: bool = False) -> None:
        """Say that there is something to take, unless that was said."""
        if (urgent or not self._is_awake) and not self.is_held:
            self._is_awake = True
            self._wake(self, urgent)

    def clear(self) -> None:
        """Forget what waits."""
        self.dirty.clear()
        self._is_awake = False

    def release(self) -> None:
        """Hold it no longer."""
        self.is_held = False
        if self.dirty:
            self.wake(urgent=any(latest.is_final for latest in self.dirty.values()))

    def take(self, limit: int) -> list[bytes]:
        """The next frames to write, at most `limit`."""
        return [latest.frame for latest in self.pop(limit)]

    def pop(self, limit: int) -> list[Latest]:
        """The next states to write, at most `limit`."""
        self._is_awake = False
        dirty = self.dirty
        if len(dirty) > limit:
            return [dirty.pop(job_id) for job_id in list(islice(dirty, limit))]
        popped = list(dirty.values())
        dirty.clear()
        return popped


Wake = Callable[[Pace, bool], None]


class Together(Protocol):
    """Those that follow the same as a client; see `crowds`."""

    def leave(self, client: "Client") -> None:
        """Before it follows anything else."""


class Interest:
    """A subscription to one job's states; nothing is sent before the answer. `revision` is the newest that was sent."""

    __slots__ = ("answered", "pace", "revision")

    def __init__(self, pace: Pace, revision: int | None) -> None:
        self.pace = pace
        self.revision = -1 if revision is None else revision
        self.answered = False

    def offer(self, latest: Latest) -> None:
        """Have this state sent, unless it is not newer than what was sent."""
        if self.answered and latest.revision > self.revision:
            self.revision = latest.revision
            self.pace.offer(latest)


class Client:
    """What one connection follows. Until it subscribes to anything it is silent, and follows every job.

    That is held back at first: a client that subscribes at once gets nothing before the answer.
    """

    __slots__ = ("_paces", "crowd", "default", "everything", "floors", "interests", "is_flooded", "is_silent",
                 "queue", "queued_bytes", "wake")  # fmt: skip

    def __init__(self, wake: Wake, interval: float = FLUSH_SECONDS) -> None:
        self.wake = wake
        self.default = Pace(wake, interval)
        self.everything: Pace | None = Pace(wake, interval)
        self.everything.is_held = True
        self.floors: Mapping[UUID, int] = {}
        self.interests: dict[UUID, Interest] = {}
        self.crowd: Together | None = None
        self.is_silent = True
        self.is_flooded = False
        self.queue: list[bytes] = []
        self.queued_bytes = 0
        self._paces: dict[float, Pace] = {}

    @property
    def paces(self) -> list[Pace]:
        """Every pace at which it is sent something."""
        return [self.default, *([self.everything] if self.everything else []), *self._paces.values()]

    def pace(self, interval: float | None) -> Pace:
        """The pace of that interval; the default one for None."""
        if interval is None or interval == self.default.interval:
            return self.default
        used = {interest.pace.interval for interest in self.interests.values()}
        self._paces = {one: pace for one, pace in self._paces.items() if one in used}
        return self._paces.setdefault(interval, Pace(self.wake, interval))

    def offer(self, latest: Latest) -> None:
        """A state for a client that follows every job; a job with a subscription of its own is sent by that one."""
        if self.everything is None or latest.job_id in self.interests:
            return
        if not self.floors or latest.revision > self.floors.get(latest.job_id, -1):
            self.everything.offer(latest)

    def put(self, frame: bytes, *, urgent: bool = False) -> None:
        """Have a frame sent that nothing may replace. One too many, and the client is flooded: it must resume."""
        if self.is_flooded:
            return
        self.queue.append(frame)
        self.queued_bytes += len(frame)
        if self.queued_bytes > MAX_QUEUED_BYTES:
            FRAMES_DROPPED.inc(len(self.queue))
            self.clear()
            self.is_flooded = urgent = True
        self.default.wake(urgent=urgent)

    def take(self, pace: Pace, limit: int) -> list[bytes]:
        """The next frames to write: what is queued, then the states of that pace; at most `limit`."""
        if not self.queue:
            return pace.take(limit)
        taken = self.queue[:limit]
        del self.queue[:limit]
        self.queued_bytes -= sum(map(len, taken))
        return taken + pace.take(limit - len(taken))

    def clear(self) -> None:
        """Forget everything that is to be sent."""
        for pace in self.paces:
            pace.dirty.clear()
        self.queue.clear()
        self.queued_bytes = 0
