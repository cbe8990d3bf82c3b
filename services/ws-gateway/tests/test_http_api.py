"""The HTTP API over a real port: jobs and what is known of them, and how a refusal reads."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from problem_details import fields_of, problem_of
from tallyho_contracts.jobs import CountedAt, JobsQuery, JobState, JobSummary, PagesByReason
from tallyho_contracts.logs import JobLog, LogLevel
from tallyho_contracts.pages import PagesQuery, PageState

State = Callable[..., JobState]


async def test_jobs_are_listed_with_what_the_query_says(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 1))
    gateway.tracker.add(state(2, 1, "completed"))

    response = await gateway.http.get("/v1/jobs", params={"live": "true", "limit": "5", "before": str(UUID(int=9))})

    assert [job["job_id"] for job in (await response.json())["jobs"]] == [str(UUID(int=1))]
    assert gateway.tracker.asked == [JobsQuery(live=True, limit=5, before=UUID(int=9))]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?limit=1001", "limit"),
        ("/v1/jobs?limit=1&limit=2", "limit"),
        ("/v1/jobs?limit=", "limit"),
        ("/v1/jobs?before=x", "before"),
        ("/v1/jobs?status=running", "status"),
        ("/v1/jobs/not-a-uuid", "job_id"),
        ("/v1/jobs/not-a-uuid/documents", "job_id"),
        (f"/v1/jobs/{UUID(int=1)}?full=1", "full"),
        (f"/v1/jobs/{UUID(int=1)}/documents?after=-1", "after"),
        (f"/v1/jobs/{UUID(int=1)}/documents?job_id={UUID(int=2)}", "job_id"),
        (f"/v1/jobs/{UUID(int=1)}/pages?state=done", "state"),
        (f"/v1/jobs/{UUID(int=1)}/saved-documents?after=1", "after"),
        (f"/v1/jobs/{UUID(int=1)}/log?limit=0", "limit"),
    ],
)
async def test_bad_parameter_is_refused_by_name(gateway: Any, path: str, field: str) -> None:
    response = await gateway.http.get(path)

    assert response.status == 422
    assert await fields_of(response) == [field]


@pytest.mark.parametrize(
    "suffix", ["", "/documents", "/pages", "/summary", "/log", "/saved-documents", "/ledger", "/urls"]
)
async def test_unknown_job_is_not_found(gateway: Any, suffix: str) -> None:
    response = await gateway.http.get(f"/v1/jobs/{uuid4()}{suffix}")

    assert response.status == 404
    assert (await problem_of(response))["code"] == "not_found"


async def test_deleted_job_is_answered_as_it_was_and_is_not_found_afterwards(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 2, "completed"))
    path = f"/v1/jobs/{UUID(int=1)}"
    deleted = await gateway.http.delete(path)
    again = await gateway.http.delete(path)

    assert (deleted.status, (await deleted.json())["status"]) == (200, "completed")
    assert again.status == 404
    assert (await gateway.http.get(path)).status == 404


async def test_cancelled_job_is_answered_with_its_state(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 2, "cancelling"))

    response = await gateway.http.post(f"/v1/jobs/{UUID(int=1)}/cancel")

    assert response.status == 202
    assert (await response.json())["status"] == "cancelling"


async def test_summary_says_why_pages_ended_and_how_the_count_rose(gateway: Any, state: State) -> None:
    gateway.tracker.jobs[UUID(int=1)] = state(1)
    gateway.tracker.summary = JobSummary(
        pages=(PagesByReason(state=PageState.FAILED, reason="http_404", pages=2),),
        documents=(CountedAt(ordinal=1, saved_at=datetime(2025, 1, 2, tzinfo=UTC)),),
    )

    response = await gateway.http.get(f"/v1/jobs/{UUID(int=1)}/summary")

    assert response.status == 200
    assert await response.json() == {
        "pages": [{"state": "failed", "reason": "http_404", "pages": 2}],
        "documents": [{"ordinal": 1, "saved_at": "2025-01-02T00:00:00Z"}],
    }


async def test_log_is_the_newest_lines_that_are_kept(gateway: Any, state: State) -> None:
    gateway.tracker.jobs[UUID(int=1)] = state(1, status="completed")
    gateway.tracker.lines = [
        JobLog(job_id=UUID(int=1), timestamp=datetime(2025, 1, 2, tzinfo=UTC), level=LogLevel.INFO, message=message)
        for message in ("started", "completed")
    ]

    response = await gateway.http.get(f"/v1/jobs/{UUID(int=1)}/log?limit=1")

    assert response.status == 200
    assert await response.json() == {
        "lines": [
            {
                "job_id": str(UUID(int=1)),
                "timestamp": "2025-01-02T00:00:00Z",
                "level": "info",
                "message": "completed",
                "fields": {},
            }
        ]
    }


async def test_pages_are_asked_for_by_state(gateway: Any) -> None:
    await gateway.http.get(f"/v1/jobs/{UUID(int=1)}/pages?state=failed&after={UUID(int=2)}&limit=5")

    expected = PagesQuery(job_id=UUID(int=1), state=PageState.FAILED, after=UUID(int=2), limit=5)
    assert gateway.tracker.asked == [expected]


async def test_silent_tracker_is_a_503_that_says_when_to_come_back(gateway: Any) -> None:
    gateway.tracker.away = True

    response = await gateway.http.get("/v1/jobs")

    assert response.status == 503
    assert int(response.headers["Retry-After"]) > 0
    assert (await problem_of(response))["code"] == "unavailable"


async def test_fault_of_ours_is_a_problem_too(gateway: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    gateway.tracker.before_reply = fail
    response = await gateway.http.get("/v1/jobs")

    assert response.status == 500
    assert (await problem_of(response))["code"] == "internal"
    assert "ZeroDivisionError" in caplog.text


async def test_unknown_path_and_wrong_method_are_problems(gateway: Any) -> None:
    nowhere = await gateway.http.get("/v1/nowhere")
    wrong = await gateway.http.delete("/v1/jobs")

    assert (nowhere.status, wrong.status) == (404, 405)
    assert (await problem_of(nowhere))["code"] == "not_found"
    assert (await problem_of(wrong))["code"] == "method_not_allowed"
    assert wrong.headers["Allow"] == "GET, HEAD, POST"


async def test_page_of_another_site_can_change_nothing(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1))
    cancel = f"/v1/jobs/{UUID(int=1)}/cancel"

    foreign = await gateway.http.post(cancel, headers={"Origin": "https://evil.example"})
    unnamed = await gateway.http.post(cancel, headers={"Origin": "null"})
    own = await gateway.http.post(cancel, headers={"Origin": str(gateway.http.make_url("/")).rstrip("/")})

    assert (foreign.status, unnamed.status, own.status) == (403, 403, 202)
    assert (await problem_of(foreign))["code"] == "foreign_origin"


async def test_gateway_is_ready_once_connected_and_until_it_stops(gateway: Any) -> None:
    connected = asyncio.Event()
    gateway.readiness.is_connected = connected.is_set

    early = await gateway.http.get("/readyz")
    connected.set()
    then = await gateway.http.get("/readyz")
    gateway.readiness.stopping = True
    late = await gateway.http.get("/readyz")
    alive = await gateway.http.get("/healthz")

    assert (early.status, then.status, late.status, alive.status) == (503, 200, 503, 200)
    assert (await problem_of(early))["code"] == "not_ready"


async def test_page_is_served_with_a_policy_that_allows_its_own_parts_only(gateway: Any) -> None:
    page = await gateway.http.get("/")
    script = await gateway.http.get("/static/app.js")

    assert (page.status, script.status) == (200, 200)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert script.headers["X-Content-Type-Options"] == "nosniff"
