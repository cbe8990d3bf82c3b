"""A process's own memory of which URLs are pages of which job: nine of ten found links need no database."""

from collections.abc import Iterable
from uuid import UUID

LIMIT = 500_000


class KnownUrls:
    """A bounded set of (job, URL). A URL that it does not hold may be known to the database all the same."""

    def __init__(self) -> None:
        self._urls: set[tuple[UUID, str]] = set()

    def __contains__(self, job_and_url: object) -> bool:
        return job_and_url in self._urls

    def add(self, known: Iterable[tuple[UUID, str]]) -> None:
        """Remember URLs whose rows are committed; when the bound is reached, start anew."""
        if len(self._urls) >= LIMIT:
            self._urls.clear()
        self._urls.update(known)
