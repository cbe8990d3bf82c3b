"""A process's own memory of which URLs are pages of which job: nine of ten found links need no database."""

from collections.abc import Iterable
from uuid import UUID

# Bytes: 500,000 URLs of 50 characters, 45,000 of the longest.
LIMIT = 100_000_000
# What one takes besides its characters: a tuple, the head of a string, a place in the set.
OVERHEAD = 150


class KnownUrls:
    """A bounded set of (job, URL). A URL that it does not hold may be known to the database all the same."""

    def __init__(self) -> None:
        self._urls: set[tuple[UUID, str]] = set()
        self._bytes = 0

    def __contains__(self, job_and_url: object) -> bool:
        return job_and_url in self._urls

    def add(self, known: Iterable[tuple[UUID, str]]) -> None:
        """Remember URLs whose rows are committed; when the bound is reached, start anew."""
        for one in known:
            if one in self._urls:
                continue
            size = OVERHEAD + len(one[1])
            if self._bytes + size > LIMIT:
                self._urls.clear()
                self._bytes = 0
            self._urls.add(one)
            self._bytes += size
