"""Changing and retrying jobs over HTTP: what clients may ask, and what the tracker is asked for it."""

from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.jobs import ChangeableOption, JobChange, JobRetry

JOB = UUID(int=1)
PATH = f"/v1/jobs/{JOB}"


@pytest.fixture
def job(gateway: Any, state: Any) -> None:
    gateway.tracker.add(state(1))


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"max_pages": 5}, ("max_pages",)),
        ({"max_pages": None, "delay": 0}, ("max_pages", "delay")),
        ({"delay": 1.5, "max_failures": 0}, ("max_failures", "delay")),
    ],
)
async def test_only_the_limits_that_are_named_are_changed(gateway: Any, body: dict[str, Any], fields: Any) -> None:
    response = await gateway.http.patch(PATH, json=body)

    assert response.status == 202
    expected = JobChange(job_id=JOB, fields=tuple(map(ChangeableOption, fields)), **body)
    assert gateway.tracker.asked == [expected]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"max_pages": 0}, "max_pages"),
        ({"max_pages": "5"}, "max_pages"),
        ({"max_failures": -1}, "max_failures"),
        ({"delay": 3601}, "delay"),
        ({"include": ["x"]}, "include"),
    ],
)
async def test_limit_that_is_none_is_refused_by_name(gateway: Any, body: dict[str, Any], field: str) -> None:
    response = await gateway.http.patch(PATH, json=body)

    assert response.status == 422
    assert [error["field"] for error in (await response.json())["errors"]] == [field]
    assert gateway.tracker.asked == []


@pytest.mark.usefixtures("job")
async def test_retry_creates_a_job_and_the_same_key_gives_it_again(gateway: Any) -> None:
    key = {"Idempotency-Key": "once"}
    first = await gateway.http.post(f"{PATH}/retry", headers=key)
    again = await gateway.http.post(f"{PATH}/retry", headers=key)
    created, same = await first.json(), await again.json()

    assert (first.status, again.status) == (201, 200)
    assert created["job_id"] == same["job_id"] != str(JOB)
    assert first.headers["Location"] == f"/v1/jobs/{created['job_id']}"
    assert [(asked.retry_of, asked.idempotency_key) for asked in gateway.tracker.asked] == [(JOB, "once")] * 2
    assert all(isinstance(asked, JobRetry) for asked in gateway.tracker.asked)
