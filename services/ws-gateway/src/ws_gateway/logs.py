"""The newest log lines of jobs, and the clients that read them. No I/O and no clock."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from tallyho_contracts.logs import JobLog

from ws_gateway import frames
from ws_gateway.clients import MAX_QUEUED_BYTES, Client

TAIL_LINES = 100
MAX_TAILS = 1_000


class LogBook:
    """Who reads which job's log, and the last lines of those that are heard of here."""

    def __init__(self, on_interest: Callable[[], None] = lambda: None) -> None:
        self.on_interest = on_interest
        self._readers: dict[UUID, dict[Client, bool]] = {}  # whether they have been answered
        self._tails: dict[UUID, deque[bytes]] = {}

    @property
    def read(self) -> Iterable[UUID]:
        """The jobs whose log somebody reads."""
        return self._readers.keys()

    def offer(self, line: JobLog) -> None:
        """Send a line to its readers, and remember it for those who come before it is kept by the tracker."""
        frame = _frame_of(line)
        tail = self._tails.pop(line.job_id, None) or deque(maxlen=TAIL_LINES)
        tail.append(frame)
        self._tails[line.job_id] = tail  # at the end: the log that was silent for longest is dropped first
        if len(self._tails) > MAX_TAILS:
            del self._tails[next(iter(self._tails))]
        for client, is_answered in self._readers.get(line.job_id, {}).items():
            if is_answered:
                client.put(frame)

    def subscribe(self, client: Client, job_id: UUID) -> None:
        """Read a job's log. Its lines wait for `answer`."""
        self._readers.setdefault(job_id, {})[client] = False
        self.on_interest()

    def answer(self, client: Client, job_id: UUID, kept: Sequence[JobLog]) -> bool:
        """Begin with the lines that the tracker keeps and those that it may not have yet; tells if there are any."""
        readers = self._readers.get(job_id, {})
        if client not in readers:
            return False
        readers[client] = True
        begin = dict.fromkeys([*map(_frame_of, kept), *self._tails.get(job_id, ())])
        for frame in _newest(begin, MAX_QUEUED_BYTES // 2 - client.queued_bytes):
            client.put(frame)
        return bool(begin)

    def unsubscribe(self, client: Client, job_id: UUID) -> None:
        """No more of this job's log."""
        readers = self._readers.get(job_id, {})
        readers.pop(client, None)
        if not readers and self._readers.pop(job_id, None) is not None:
            self.on_interest()


def _frame_of(line: JobLog) -> bytes:
    return frames.on_the_wire(frames.job_log(line))


def _newest(lines: Iterable[bytes], room: int) -> list[bytes]:
    """The last ones, as many as have room (bytes)."""
    taken: list[bytes] = []
    for line in reversed(list(lines)):
        if (room := room - len(line)) < 0:
            break
        taken.append(line)
    return taken[::-1]
