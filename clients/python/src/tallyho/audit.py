"""Compares what the crawler did for a job with what the job tracker counted, through the gateway.

What was saved is what was counted, and each URL that was met has one state and one reason.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from tallyho_contracts.jobs import JobState, JobStatus
from tallyho_contracts.pages import PageState
from tallyho_contracts.urls import JobLedger, is_reason

from tallyho.client import Tallyho
from tallyho.errors import NotFound

# Of each kind of drift; the numbers are exact.
MOST_NAMED = 100

ID_BYTES = 16


class Ordinals(BaseModel):
    """A run of ordinals that no document has."""

    model_config = ConfigDict(frozen=True)

    first: int
    last: int


class Audit(BaseModel):
    """The documents and URLs of one job on both sides, and where they differ. Lists name the first hundred.

    `urls_unfinished` have not ended, `urls_unexplained` have a reason that is none.
    """

    model_config = ConfigDict(frozen=True)

    job_id: UUID
    status: JobStatus
    document_count: int
    listed: int
    saved: int
    missing_in_tracker: int
    missing_in_crawler: int
    listed_twice: int
    missing_ordinals: int
    last_ordinal: int
    urls_met: int
    urls_accounted_for: int
    urls_unfinished: int
    urls_unexplained: int
    missing_in_tracker_ids: tuple[UUID, ...] = ()
    missing_in_crawler_ids: tuple[UUID, ...] = ()
    ordinal_gaps: tuple[Ordinals, ...] = ()

    @property
    def drift(self) -> int:
        """0 when both sides agree, and the count is the last ordinal."""
        count_is_off = self.document_count != self.last_ordinal
        sets = self.missing_in_tracker + self.missing_in_crawler + self.listed_twice
        urls = abs(self.urls_met - self.urls_accounted_for) + self.urls_unfinished + self.urls_unexplained
        return sets + self.missing_ordinals + count_is_off + urls


class SavedIds:
    """The crawler's document ids, 17 bytes each, and which of them the tracker has."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._listed = bytearray()

    def __len__(self) -> int:
        return len(self._listed)

    def add(self, document_id: UUID) -> None:
        """Add the next id; they come in their order."""
        self._ids += document_id.bytes
        self._listed.append(0)

    def mark(self, document_id: UUID) -> bool | None:
        """Mark an id as listed; returns whether it was before, None when it was not saved."""
        wanted = document_id.bytes
        place = bisect_left(range(len(self)), wanted, key=self._at)
        if place == len(self) or self._at(place) != wanted:
            return None
        before, self._listed[place] = self._listed[place], 1
        return bool(before)

    def unlisted(self, limit: int) -> tuple[int, tuple[UUID, ...]]:
        """How many were never marked, and the first of them."""
        places = (place for place, listed in enumerate(self._listed) if not listed)
        first = tuple(UUID(bytes=self._at(place)) for place, _ in zip(places, range(limit), strict=False))
        return self._listed.count(0), first

    def _at(self, place: int) -> bytes:
        return bytes(self._ids[place * ID_BYTES : (place + 1) * ID_BYTES])


async def audited_jobs(client: Tallyho, job_id: UUID | None) -> AsyncIterator[Audit]:
    """The audit of one job, or one by one of all that have ended and are not deleted meanwhile."""
    if job_id is not None:
        yield await audit_job(client, await client.job(job_id))
        return
    async for state in client.jobs():
        if not state.status.is_terminal:
            continue
        try:
            audit = await audit_job(client, state)
        except NotFound:  # deleted meanwhile
            continue
        yield audit


async def audit_job(client: Tallyho, state: JobState) -> Audit:
    """Compare the two sides of a job; of a live one, what is under way counts as drift."""
    saved = SavedIds()
    async for document_id in client.saved_documents(state.job_id):
        saved.add(document_id)
    listed = missing_in_crawler = twice = missing_ordinals = last = 0
    unsaved: list[UUID] = []
    gaps: list[Ordinals] = []
    async for document in client.documents(state.job_id):
        listed += 1
        known = saved.mark(document.document_id)
        if known is None:
            missing_in_crawler += 1
            unsaved += [document.document_id] if len(unsaved) < MOST_NAMED else []
        elif known:
            twice += 1
        if document.ordinal != last + 1:
            missing_ordinals += document.ordinal - last - 1
            gaps += [Ordinals(first=last + 1, last=document.ordinal - 1)] if len(gaps) < MOST_NAMED else []
        last = document.ordinal
    missing_in_tracker, unlisted = saved.unlisted(MOST_NAMED)
    ledger = await client.ledger(state.job_id)
    return Audit(
        job_id=state.job_id,
        status=state.status,
        document_count=state.document_count,
        listed=listed,
        saved=len(saved),
        missing_in_tracker=missing_in_tracker,
        missing_in_crawler=missing_in_crawler,
        listed_twice=twice,
        missing_ordinals=missing_ordinals,
        last_ordinal=last,
        urls_met=ledger.urls_met,
        urls_accounted_for=sum(entry.urls for entry in ledger.entries),
        urls_unfinished=_unfinished(ledger),
        urls_unexplained=sum(entry.urls for entry in ledger.entries if not is_reason(entry.state, entry.reason)),
        missing_in_tracker_ids=unlisted,
        missing_in_crawler_ids=tuple(unsaved),
        ordinal_gaps=tuple(gaps),
    )


def _unfinished(ledger: JobLedger) -> int:
    return sum(entry.urls for entry in ledger.entries if entry.state in (PageState.PENDING, PageState.RUNNING))


def in_words(audit: Audit) -> str:
    """What an audit found, in a line."""
    found = (
        f"{audit.job_id}  {audit.status:<10} {audit.saved} saved, {audit.document_count} counted, {audit.urls_met} URLs"
    )
    if not audit.drift:
        return f"{found}: drift 0"
    gaps = ", ".join(
        f"{gap.first}" if gap.first == gap.last else f"{gap.first}-{gap.last}" for gap in audit.ordinal_gaps
    )
    faults = (
        (audit.missing_in_tracker, "missing in tracker", _some(audit.missing_in_tracker_ids)),
        (audit.missing_in_crawler, "missing in crawler", _some(audit.missing_in_crawler_ids)),
        (audit.listed_twice, "listed twice", ""),
        (audit.missing_ordinals, "ordinals missing", gaps),
        (audit.document_count - audit.last_ordinal, "counted beyond the last ordinal", ""),
        (audit.urls_met - audit.urls_accounted_for, "URLs met but not accounted for", ""),
        (audit.urls_unfinished, "URLs not at their end", ""),
        (audit.urls_unexplained, "URLs for no reason that exists", ""),
    )
    said = [f"{number} {what}{f' ({which})' if which else ''}" for number, what, which in faults if number]
    return f"{found}: DRIFT {audit.drift}: {'; '.join(said)}"


def _some(ids: tuple[UUID, ...]) -> str:
    return ", ".join(map(str, ids[:3])) + (", …" if len(ids) > 3 else "")
