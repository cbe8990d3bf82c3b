"""Jobs that are submitted over HTTP: what is accepted, what is refused, and how the refusal reads."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from problem_details import fields_of, problem_of
from tallyho_contracts.jobs import JobCreate, JobState

State = Callable[..., JobState]
SEED = "https://example.com/docs/"


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
        ({"seeds": [SEED], "options": {"below": ["/docs/", "docs/"]}}, "options.below[1]"),
        ({"seeds": [SEED], "options": {"below": ["/docs?page=1"]}}, "options.below[0]"),
        ({"seeds": [SEED], "options": {"below": ["https://example.com/docs/"]}}, "options.below[0]"),
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


@pytest.mark.parametrize("body", [{"seeds": [1] * 5001}, {str(number): 1 for number in range(5001)}])
async def test_body_full_of_faults_is_not_taken_apart(gateway: Any, body: Any) -> None:
    response = await gateway.http.post("/v1/jobs", json=body)

    assert response.status == 422
    assert (await problem_of(response))["errors"] == [{"field": "body", "message": "has more than 5,000 faults"}]


async def test_submission_reaches_the_tracker_as_it_was_sent(gateway: Any) -> None:
    options = {"max_depth": 2, "include": ["/docs/"], "exclude": [r"\.pdf$"], "same_site": False, "max_pages": None}

    await gateway.http.post("/v1/jobs", json={"seeds": [SEED], "options": options}, headers={"Idempotency-Key": "k"})

    [create] = gateway.tracker.asked
    assert isinstance(create, JobCreate)
    assert create.seeds == (SEED,)
    assert create.idempotency_key == "k"
    assert create.options.model_dump(mode="json", include=set(options)) == options
