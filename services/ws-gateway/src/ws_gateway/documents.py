"""The documents of jobs, by ordinal: fetched from the tracker and encoded once for all who follow at the same place.

The tracker's ordinals are the one source of truth. A follower asks for what comes after the last that it has, whenever
a state shows that there is more; so there is no second stream that could be out of step.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from tallyho_contracts.documents import DocumentList, DocumentsQuery
from tallyho_contracts.replies import ErrorCode
from tallyho_messaging.requests import RequestRefused, RequestTimedOut

from ws_gateway import frames
from ws_gateway.clients import Latest
from ws_gateway.connection import ROOM_BYTES, Connection
from ws_gateway.http_api import Ask

log = logging.getLogger(__name__)

PAGE = 200
MAX_TAIL_BYTES = 256 * 1024
MAX_TAILS = 100
RETRY_SECONDS = (0.2, 5.0)


@dataclass
class Tail:
    """The documents of a job up to the last one known here, each encoded; the oldest are dropped."""

    last: int
    encoded: list[bytes] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The ordinal of the oldest; one more than `last` if there is none."""
        return self.last - len(self.encoded) + 1

    def after(self, ordinal: int, limit: int) -> list[bytes]:
        """What comes after an ordinal; nothing if that is not known here."""
        if not self.first - 1 <= ordinal < self.last:
            return []
        start = ordinal - self.first + 1
        return self.encoded[start : start + limit]

    def extend(self, encoded: list[bytes]) -> None:
        """Add the documents that come next."""
        self.last += len(encoded)
        self.encoded += encoded
        size = sum(map(len, self.encoded))
        drop = 0
        while size > MAX_TAIL_BYTES:
            size -= len(self.encoded[drop])
            drop += 1
        del self.encoded[:drop]


class Documents:
    """Asks the tracker for documents, once for all who want the same ones."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._tails: dict[UUID, Tail] = {}
        self._asking: dict[tuple[UUID, int], asyncio.Task[list[bytes]]] = {}

    async def after(self, job_id: UUID, ordinal: int) -> list[bytes]:
        """The next documents after an ordinal, at most a page. Raises RequestRefused or RequestTimedOut."""
        if (tail := self._tails.get(job_id)) and (known := tail.after(ordinal, PAGE)):
            return known
        key = job_id, ordinal
        if key not in self._asking:
            asking = self._asking[key] = asyncio.create_task(self._fetch(job_id, ordinal))
            asking.add_done_callback(lambda _: self._asking.pop(key))
        # One follower that leaves must not take the answer away from the others.
        return await asyncio.shield(self._asking[key])

    async def _fetch(self, job_id: UUID, ordinal: int) -> list[bytes]:
        reply: DocumentList = await self._ask(DocumentsQuery(job_id=job_id, after=ordinal, limit=PAGE))
        ordinals = [one.ordinal for one in reply.documents]
        if not ordinals or ordinals != list(range(ordinal + 1, ordinal + 1 + len(ordinals))):
            raise RequestTimedOut(f"the documents that come next are not there: {ordinals[:1]}")
        encoded = [one.model_dump_json().encode() for one in reply.documents]
        self._remember(job_id, ordinal, encoded)
        return encoded

    def _remember(self, job_id: UUID, ordinal: int, encoded: list[bytes]) -> None:
        tail = self._tails.pop(job_id, None)
        if tail is None or tail.last < ordinal:
            tail = Tail(ordinal)
        if tail.last == ordinal:
            tail.extend(encoded)
        self._tails[job_id] = tail  # at the end: the one that was of no use for longest is dropped first
        if len(self._tails) > MAX_TAILS:
            del self._tails[next(iter(self._tails))]


class DocumentsOfJob:
    """A client's place among the documents of a job. The hub tells it of newer states: how many documents there are."""

    def __init__(self, job_id: UUID, ordinal: int, interval: float) -> None:
        self.job_id = job_id
        self.ordinal = ordinal
        self.count = 0
        self._interval = interval
        self._is_more = asyncio.Event()

    def offer(self, latest: Latest) -> None:
        """Notice that there are more documents."""
        if latest.state.document_count > self.count:
            self.count = latest.state.document_count
            self._is_more.set()

    async def send_to(self, connection: Connection, documents: Documents) -> None:
        """Send every document after the ordinal, once, until cancelled. Raises RequestRefused: the job is gone.

        While the tracker or its database is away it waits. A client that takes them slowly gets them slowly: the next
        ones are fetched when it has room.
        """
        wait = RETRY_SECONDS[0]
        while True:
            if self.ordinal >= self.count:
                self._is_more.clear()
                await self._is_more.wait()
            await connection.has_room()
            try:
                encoded = await documents.after(self.job_id, self.ordinal)
            except (RequestRefused, RequestTimedOut) as error:
                if isinstance(error, RequestRefused) and error.refused.code is not ErrorCode.UNAVAILABLE:
                    raise
                log.warning("documents not fetched job=%s after=%s error=%s", self.job_id, self.ordinal, error)
                await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  # jitter
                wait = min(wait * 2, RETRY_SECONDS[1])
                continue
            wait = RETRY_SECONDS[0]
            for part in _parts(encoded, ROOM_BYTES):
                await connection.has_room()
                self.ordinal += len(part)
                frame = frames.on_the_wire(frames.documents(self.job_id, part))
                connection.client.put(frame, urgent=self.ordinal < self.count)
            if self.ordinal >= self.count:
                await asyncio.sleep(self._interval)


def _parts(encoded: list[bytes], most: int) -> Iterator[list[bytes]]:
    """The documents in lists of at most so many bytes, or of one document."""
    part: list[bytes] = []
    for one in encoded:
        if part and sum(map(len, part)) + len(one) > most:
            yield part
            part = []
        part.append(one)
    yield part
