"""Registers the profile "thorough" before pytest looks for it: pytest tests/model --hypothesis-profile=thorough."""

from collections.abc import AsyncIterator

import model.profiles  # noqa: F401  # registers
import pytest
from tallyho_postgres.pool import Pool, open_pool


@pytest.fixture
async def pools(tracker_database_url: str) -> AsyncIterator[tuple[Pool, Pool]]:
    """Of two trackers."""
    async with (
        open_pool(tracker_database_url, schema="job_tracker") as one,
        open_pool(tracker_database_url, schema="job_tracker") as two,
    ):
        yield one, two
