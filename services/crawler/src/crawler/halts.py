"""Of which jobs nothing may be fetched now: those that are paused, cancelled, or have spent their budget."""

from collections.abc import Iterable
from uuid import UUID


class Halts:
    """What this process knows of it; it looks several times a second at the jobs whose pages it holds."""

    def __init__(self) -> None:
        self._job_ids: frozenset[UUID] = frozenset()

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._job_ids

    def replace(self, job_ids: Iterable[UUID]) -> None:
        """These are halted, and no others."""
        self._job_ids = frozenset(job_ids)
