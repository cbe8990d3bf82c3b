"""What a process remembers of its jobs' URLs, within a bound."""

from uuid import UUID

import pytest
from crawler import known_urls
from crawler.known_urls import KnownUrls

JOB, OTHER = UUID(int=1), UUID(int=2)


def test_url_is_known_to_the_job_it_was_added_for() -> None:
    known = KnownUrls()
    known.add([(JOB, "http://site.test/")])

    assert (JOB, "http://site.test/") in known
    assert (OTHER, "http://site.test/") not in known


def test_full_memory_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_urls, "LIMIT", 2)
    known = KnownUrls()
    known.add([(JOB, "http://site.test/a"), (JOB, "http://site.test/b")])
    known.add([(JOB, "http://site.test/c")])

    assert (JOB, "http://site.test/a") not in known
    assert (JOB, "http://site.test/c") in known
