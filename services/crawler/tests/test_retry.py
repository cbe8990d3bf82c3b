"""When a failed page is tried again."""

import pytest
from crawler.fetch import Failed
from crawler.retry import MAX_DELAY, backoff, next_attempt

TIMEOUT = Failed("timeout", retry=True)


def test_backoff_doubles_up_to_a_bound() -> None:
    delays = [backoff(attempt, jitter=1.0) for attempt in (1, 2, 3, 50, 5000)]

    assert delays == [1.0, 2.0, 4.0, MAX_DELAY, MAX_DELAY]


def test_backoff_is_fully_jittered() -> None:
    assert backoff(3, jitter=0.0) == 0.0
    assert backoff(3, jitter=0.5) == 2.0


def test_page_is_given_up_after_the_last_attempt() -> None:
    assert next_attempt(TIMEOUT, 2, 3, 0.5) == 1.0
    assert next_attempt(TIMEOUT, 3, 3, 0.5) is None


def test_page_that_can_not_succeed_is_given_up_at_once() -> None:
    assert next_attempt(Failed("http_404", 404), 1, 3, 0.5) is None


@pytest.mark.parametrize("random", [0.0, 0.999])
def test_server_is_never_asked_before_its_retry_after(random: float) -> None:
    delay = next_attempt(Failed("http_503", 503, retry=True, retry_after=120.0), 1, 3, random)

    assert delay is not None
    assert 120.0 <= delay < 121.0
