"""The newest log lines of jobs, and the clients that read them. No I/O and no clock."""

from collections import deque
from collections.abc import Callable, Iterable
from uuid import UUID

from tallyho_contracts.logs import JobLog

from ws_gateway import frames
from ws_gateway.clients import Client

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
        """Send a line to its readers, and remember it for those who come later."""
        frame = frames.on_the_wire(frames.job_log(line))
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

    def answer(self, client: Client, job_id: UUID) -> bool:
        """Begin with the lines that are remembered; says whether there are any."""
        readers = self._readers.get(job_id, {})
        tail = self._tails.get(job_id, ()) if client in readers else ()
        for frame in tail:
            client.put(frame)
        if client in readers:
            readers[client] = True
        return bool(tail)

    def unsubscribe(self, client: Client, job_id: UUID) -> None:
        """No more of this job's log."""
        readers = self._readers.get(job_id, {})
        readers.pop(client, None)
        if not readers and self._readers.pop(job_id, None) is not None:
            self.on_interest()
