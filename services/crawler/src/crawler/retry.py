"""When a page that failed is tried again. Pure: random numbers are passed in."""

from crawler.fetch import Failed

FIRST_DELAY = 1.0
MAX_DELAY = 60.0


def backoff(attempt: int, *, jitter: float) -> float:
    """Return the seconds to wait after the attempt of that number (from 1): exponential, times `jitter` (0 to 1)."""
    return min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(attempt - 1, 16)) * jitter


def next_attempt(failed: Failed, attempts: int, max_attempts: int, random: float) -> float | None:
    """Return the seconds until the next attempt after `attempts` of them, or None when the page is given up.

    Never earlier than the server asked for; `random` (0 to 1) spreads pages that failed together.
    """
    if not failed.retry or attempts >= max_attempts:
        return None
    return (failed.retry_after or 0.0) + backoff(attempts, jitter=random)
