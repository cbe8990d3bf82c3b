"""The HTTP API over a real port: what is accepted, what is refused, and how the refusal reads."""

import asyncio
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import ClientPayloadError
from tallyho_contracts.documents import Document
from tallyho_contracts.jobs import CountedAt, JobCreate, JobsQuery, JobState, JobSummary, PagesByReason
from tallyho_contracts.logs import JobLog, LogLevel
from tallyho_contracts.pages import PagesQuery, PageState

State = Callable[..., JobState]
SEED = "https://example.com/docs/"


def a_document(ordinal: int) -> Document:
    return Document(
        document_id=UUID(int=ordinal),
        ordinal=ordinal,
        source_url=f"https://example.com/{ordinal}",
        saved_at="2025-01-02T12:00:00Z",
    )


async def problem_of(response: Any) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = await response.json()
    assert problem["status"] == response.status
    assert problem["title"]
    assert problem["detail"]
    assert problem["code"]
    return problem


async def fields_of(response: Any) -> list[str]:
    return [error["field"] for error in (await problem_of(response))["errors"]]


async def test_submitted_job_is_created_and_readable_at_its_location(gateway: Any) -> None:
    created = await gateway.http.post("/v1/jobs", json={"seeds": [SEED], "name": "docs", "options": {"max_pages": 7}})
    read = await gateway.http.get(created.headers["Location"])

    assert created.status == 201
    job = await created.json()
    assert job["seeds"] == [SEED]
    assert job["name"] == "docs"
    assert job["options"]["max_pages"] == 7
    assert job["document_count"] == 0
    assert await read.json() == job


async def test_job_without_a_name_is_called_after_its_first_seed(gateway: Any) -> None:
    created = await gateway.http.post("/v1/jobs", json={"seeds": [SEED]})

    assert (await created.json())["name"] == "example.com/docs"


async def test_name_of_a_job_tells_no_secret_of_its_seed(gateway: Any) -> None:
    seed = "https://user:hush@example.com:8443/docs/?token=hush#hush"
    created = await gateway.http.post("/v1/jobs", json={"seeds": [seed]})

    assert (await created.json())["name"] == "example.com:8443/docs"


async def test_same_key_and_body_give_the_same_job(gateway: Any) -> None:
    key = {"Idempotency-Key": "once"}
    first = await gateway.http.post("/v1/jobs", json={"seeds": [SEED]}, headers=key)
    again = await gateway.http.post("/v1/jobs", json={"seeds": [SEED]}, headers=key)
    other = await gateway.http.post("/v1/jobs", json={"seeds": ["https://example.org/"]}, headers=key)

    assert (first.status, again.status, other.status) == (201, 200, 409)
    assert (await first.json())["job_id"] == (await again.json())["job_id"]
    assert (await problem_of(other))["code"] == "conflict"


@pytest.mark.parametrize("key", ["", "a\tb", "é", "x" * 256])
async def test_bad_idempotency_key_is_refused_by_name(gateway: Any, key: str) -> None:
    response = await gateway.http.post("/v1/jobs", json={"seeds": [SEED]}, headers={"Idempotency-Key": key})

    assert response.status == 422
    assert await fields_of(response) == ["Idempotency-Key"]
    assert not gateway.tracker.asked


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "seeds"),
        ({"seeds": []}, "seeds"),
        ({"seeds": SEED}, "seeds"),
        ({"seeds": ["ftp://example.com/"]}, "seeds[0]"),
        ({"seeds": [SEED, "example.com"]}, "seeds[1]"),
        ({"seeds": ["https://"]}, "seeds[0]"),
        ({"seeds": [""]}, "seeds[0]"),
        ({"seeds": [None]}, "seeds[0]"),
        ({"seeds": ["https://example.com/" + "a" * 2048]}, "seeds[0]"),
        ({"seeds": ["https://example.com/\x00"]}, "seeds[0]"),
        ({"seeds": ["http://127.0.0.1/"]}, "seeds[0]"),
        ({"seeds": ["http://0x7f.1/"]}, "seeds[0]"),
        ({"seeds": ["http://[::ffff:10.0.0.1]/"]}, "seeds[0]"),
        ({"seeds": ["http://169.254.169.254/latest/meta-data"]}, "seeds[0]"),
        ({"seeds": [SEED], "seed": SEED}, "seed"),
        ({"seeds": [SEED], "name": "x" * 201}, "name"),
        ({"seeds": [SEED], "name": "a\x00b"}, "name"),
        ({"seeds": [SEED], "options": {"max_pages": 0}}, "options.max_pages"),
        ({"seeds": [SEED], "options": {"max_pages": "10"}}, "options.max_pages"),
        ({"seeds": [SEED], "options": {"max_pages": True}}, "options.max_pages"),
        ({"seeds": [SEED], "options": {"max_page": 10}}, "options.max_page"),
        ({"seeds": [SEED], "options": {"include": ["ok", "(a"]}}, "options.include[1]"),
        ({"seeds": [SEED], "options": {"exclude": ["(?=a)"]}}, "options.exclude[0]"),
        ({"seeds": [SEED], "options": []}, "options"),
        ([], "body"),
    ],
)
async def test_bad_job_is_refused_with_the_field_at_fault(gateway: Any, body: Any, field: str) -> None:
    response = await gateway.http.post("/v1/jobs", json=body)

    assert response.status == 422
    assert await fields_of(response) == [field]
    assert not gateway.tracker.asked


@pytest.mark.parametrize("body", [b"", b"hello", b'{"seeds": [', b"\xff\xfe", b"[" * 100_000])
async def test_body_that_is_not_json_is_refused(gateway: Any, body: bytes) -> None:
    response = await gateway.http.post("/v1/jobs", data=body)

    assert response.status == 400
    problem = await problem_of(response)
    assert problem["code"] == "not_json"
    assert problem["errors"][0]["field"] == "body"


@pytest.mark.parametrize("expect", [False, True])
async def test_body_of_two_megabytes_gets_a_clear_answer(gateway: Any, expect: bool) -> None:
    response = await gateway.http.post("/v1/jobs", data=io.BytesIO(b"x" * 2_000_000), expect100=expect)

    assert response.status == 413
    problem = await problem_of(response)
    assert "1,000,000 bytes" in problem["detail"]
    assert problem["errors"][0]["field"] == "body"


async def test_many_faults_are_answered_with_a_short_list(gateway: Any) -> None:
    response = await gateway.http.post("/v1/jobs", json={"seeds": ["ftp://example.com/"] * 1000})

    assert len(await fields_of(response)) == 50


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


async def test_unknown_job_is_not_found_as_json_lines_either(gateway: Any) -> None:
    response = await gateway.http.get(f"/v1/jobs/{uuid4()}/documents", headers={"Accept": "application/jsonl"})

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


async def test_documents_come_in_keyset_pages(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1))
    gateway.tracker.documents = [a_document(ordinal) for ordinal in range(1, 6)]

    first = await (await gateway.http.get(f"/v1/jobs/{UUID(int=1)}/documents?limit=3")).json()
    rest = await (await gateway.http.get(f"/v1/jobs/{UUID(int=1)}/documents?after={first['next']}")).json()

    assert [document["ordinal"] for document in first["documents"] + rest["documents"]] == [1, 2, 3, 4, 5]
    assert rest["next"] is None


@pytest.mark.parametrize("accept", ["application/jsonl", "application/x-ndjson", "text/html, Application/JSONL;q=0.9"])
async def test_json_lines_are_all_documents(gateway: Any, state: State, accept: str) -> None:
    gateway.tracker.add(state(1))
    gateway.tracker.documents = [a_document(ordinal) for ordinal in range(1, 2502)]

    response = await gateway.http.get(f"/v1/jobs/{UUID(int=1)}/documents?after=1", headers={"Accept": accept})

    assert response.content_type == "application/jsonl"
    lines = (await response.text()).splitlines()
    assert [json.loads(line)["ordinal"] for line in lines] == list(range(2, 2502))


async def test_json_lines_stop_at_the_limit_if_there_is_one(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1))
    gateway.tracker.documents = [a_document(ordinal) for ordinal in range(1, 10)]

    response = await gateway.http.get(
        f"/v1/jobs/{UUID(int=1)}/documents?limit=4", headers={"Accept": "application/jsonl"}
    )

    assert len((await response.text()).splitlines()) == 4


async def test_stream_that_can_not_go_on_breaks_the_connection(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1))
    gateway.tracker.documents = [a_document(ordinal) for ordinal in range(1, 2502)]

    def leave_after_two() -> None:
        gateway.tracker.away = len(gateway.tracker.asked) >= 2

    gateway.tracker.before_reply = leave_after_two
    response = await gateway.http.get(f"/v1/jobs/{UUID(int=1)}/documents", headers={"Accept": "application/jsonl"})

    with pytest.raises(ClientPayloadError):
        await response.read()


async def test_saved_documents_come_in_keyset_pages(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1))
    gateway.tracker.saved = [UUID(int=number) for number in range(1, 4)]
    path = f"/v1/jobs/{UUID(int=1)}/saved-documents"
    first = await (await gateway.http.get(path, params={"limit": "2"})).json()
    second = await (await gateway.http.get(path, params={"limit": "2", "after": first["next"]})).json()

    assert first == {"document_ids": [str(UUID(int=1)), str(UUID(int=2))], "next": str(UUID(int=2))}
    assert second == {"document_ids": [str(UUID(int=3))], "next": None}


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


async def test_submission_reaches_the_tracker_as_it_was_sent(gateway: Any) -> None:
    options = {"max_depth": 2, "include": ["/docs/"], "exclude": [r"\.pdf$"], "same_site": False, "max_pages": None}

    await gateway.http.post("/v1/jobs", json={"seeds": [SEED], "options": options}, headers={"Idempotency-Key": "k"})

    [create] = gateway.tracker.asked
    assert isinstance(create, JobCreate)
    assert create.seeds == (SEED,)
    assert create.idempotency_key == "k"
    assert create.options.model_dump(mode="json", include=set(options)) == options


async def test_document_comes_with_its_content(gateway: Any, stored: Any) -> None:
    document = gateway.tracker.stored[UUID(int=7)] = stored(UUID(int=7), content="# Näh")
    response = await gateway.http.get(f"/v1/documents/{UUID(int=7)}")

    assert response.status == 200
    assert await response.json() == document.model_dump(mode="json")


async def test_source_of_a_page_comes_as_html_that_a_browser_does_not_run(gateway: Any, stored: Any) -> None:
    gateway.tracker.stored[UUID(int=7)] = stored(UUID(int=7), content="Näh", html="<p>Näh<script>alert(1)</script>")
    gateway.tracker.stored[UUID(int=8)] = stored(UUID(int=8), content="text")
    kept = await gateway.http.get(f"/v1/documents/{UUID(int=7)}?format=html")
    not_kept = await gateway.http.get(f"/v1/documents/{UUID(int=8)}?format=html")
    unknown = await gateway.http.get(f"/v1/documents/{UUID(int=7)}?format=pdf")

    assert (kept.status, kept.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert await kept.text() == "<p>Näh<script>alert(1)</script>"
    assert kept.headers["Content-Security-Policy"].startswith("sandbox;")
    assert kept.headers["Content-Disposition"] == "attachment"
    assert (not_kept.status, (await problem_of(not_kept))["code"]) == (404, "html_not_kept")
    assert (unknown.status, await fields_of(unknown)) == (422, ["format"])
    assert [asked.html for asked in gateway.tracker.asked] == [True, True]


async def test_unknown_document_is_not_found(gateway: Any) -> None:
    unknown = await gateway.http.get(f"/v1/documents/{uuid4()}")
    no_id = await gateway.http.get("/v1/documents/seven")

    assert unknown.status == 404
    assert (await problem_of(unknown))["code"] == "not_found"
    assert no_id.status == 422
    assert await fields_of(no_id) == ["document_id"]


async def test_document_of_a_silent_crawler_is_asked_for_again_later(gateway: Any) -> None:
    gateway.tracker.away = True
    response = await gateway.http.get(f"/v1/documents/{uuid4()}")

    assert response.status == 503
    assert int(response.headers["Retry-After"]) > 0
    assert (await problem_of(response))["code"] == "unavailable"
