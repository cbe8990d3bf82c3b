"""What a process remembers of its jobs' URLs, within a bound."""

import tracemalloc
from uuid import UUID

import pytest
from crawler import known_urls
from crawler.known_urls import OVERHEAD, KnownUrls
from crawler.urls import MAX_LENGTH

JOB, OTHER = UUID(int=1), UUID(int=2)


def test_url_is_known_to_the_job_it_was_added_for() -> None:
    known = KnownUrls()
    known.add([(JOB, "http://site.test/")])

    assert (JOB, "http://site.test/") in known
    assert (OTHER, "http://site.test/") not in known


def test_full_memory_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_urls, "LIMIT", 2 * (len("http://site.test/a") + OVERHEAD))
    known = KnownUrls()
    known.add([(JOB, "http://site.test/a"), (JOB, "http://site.test/b")])
    known.add([(JOB, "http://site.test/b"), (JOB, "http://site.test/a")])

    assert (JOB, "http://site.test/a") in known

    known.add([(JOB, "http://site.test/c")])

    assert (JOB, "http://site.test/a") not in known
    assert (JOB, "http://site.test/c") in known


def test_long_urls_take_no_more_memory_than_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 1_000_000
    monkeypatch.setattr(known_urls, "LIMIT", limit)
    known = KnownUrls()
    tracemalloc.start()
    try:
        known.add((JOB, f"http://site.test/{number:0{MAX_LENGTH}d}") for number in range(5_000))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert limit / 2 < most < 1.2 * limit
