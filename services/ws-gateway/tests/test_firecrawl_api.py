"""Firecrawl's v2 crawl API over a real port: states, pages of documents, errors in its shape."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.documents import DocumentsGet
from tallyho_contracts.jobs import JobCancel, JobCreate, JobState
from tallyho_contracts.pages import Page, PageState
from ws_gateway import firecrawl_api, firecrawl_documents

State = Callable[..., JobState]
Fill = Callable[..., None]
CRAWL = f"/v2/crawl/{UUID(int=1)}"


async def read(gateway: Any, path: str, **headers: str) -> dict[str, Any]:
    response = await gateway.http.get(path, headers=headers)
    assert response.status == 200
    body: dict[str, Any] = await response.json()
    assert body["success"] is True
    return body


def urls(body: dict[str, Any]) -> list[str]:
    return [document["metadata"]["sourceURL"] for document in body["data"]]


async def test_started_crawl_is_a_job_that_is_not_completed(gateway: Any) -> None:
    response = await gateway.http.post("/v2/crawl", json={"url": "https://example.com/", "limit": 3})
    started = await response.json()
    status = await read(gateway, f"/v2/crawl/{started['id']}")

    assert response.status == 200
    assert started["success"] is True
    assert started["url"] == str(gateway.http.make_url(f"/v2/crawl/{started['id']}"))
    assert gateway.tracker.jobs[UUID(started["id"])].options.max_pages == 3
    assert (status["status"], status["completed"], status["total"], status["data"]) == ("scraping", 0, 0, [])
    assert "next" not in status


async def test_same_idempotency_key_starts_one_crawl(gateway: Any) -> None:
    ids = set()
    for _ in range(2):
        response = await gateway.http.post(
            "/v2/crawl", json={"url": "https://example.com/"}, headers={"x-idempotency-key": "once"}
        )
        ids.add((await response.json())["id"])

    assert len(ids) == 1


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        *(("pending", "scraping"), ("running", "scraping"), ("paused", "scraping"), ("cancelling", "scraping")),
        *(("completed", "completed"), ("failed", "failed"), ("cancelled", "cancelled")),
    ],
)
async def test_status_is_final_only_when_the_job_is(gateway: Any, state: State, status: str, shown: str) -> None:
    gateway.tracker.add(state(1, status=status))

    assert (await read(gateway, CRAWL))["status"] == shown


async def test_total_counts_what_is_a_document_or_may_become_one(gateway: Any, state: State, fill: Fill) -> None:
    fill(4)
    counts = {"pending": 5, "running": 2, "completed": 3, "failed": 7, "skipped": 11}
    children = {f"{name}_children": number for name, number in counts.items()} | {"total_children": 28}
    gateway.tracker.add(state(1, documents=4).model_copy(update=children))
    running = await read(gateway, CRAWL)
    gateway.tracker.add(state(1, status="completed", documents=4).model_copy(update={"failed_children": 2}))
    completed = await read(gateway, CRAWL)

    assert (running["completed"], running["total"], running["creditsUsed"]) == (4, 10, 4)
    assert (completed["completed"], completed["total"]) == (4, 4)


async def test_document_has_its_content_and_metadata(gateway: Any, state: State, fill: Fill) -> None:
    fill(1)
    gateway.tracker.add(state(1, status="completed", documents=1))
    status = await read(gateway, CRAWL)

    assert status["data"] == [
        {
            "markdown": "# Title",
            "links": ["https://example.com/next"],
            "metadata": {
                "title": "Title",
                "sourceURL": "https://example.com/1",
                "url": "https://example.com/1",
                "statusCode": 200,
                "contentType": "text/html",
                "documentId": str(UUID(int=1)),
            },
        }
    ]


async def test_document_whose_content_is_missing_is_not_left_out(gateway: Any, state: State, fill: Fill) -> None:
    fill(3)
    del gateway.tracker.stored[UUID(int=2)]
    gateway.tracker.add(state(1, status="completed", documents=3))
    status = await read(gateway, CRAWL)

    assert urls(status) == [f"https://example.com/{ordinal}" for ordinal in (1, 2, 3)]
    assert "markdown" not in status["data"][1]
    assert status["data"][1]["metadata"]["error"]


async def test_pages_hold_each_document_once_in_order(gateway: Any, state: State, fill: Fill) -> None:
    fill(250)
    gateway.tracker.batch = 30
    gateway.tracker.add(state(1, status="completed", documents=250))
    pages = [await read(gateway, CRAWL)]
    while "next" in pages[-1]:
        pages.append(await read(gateway, pages[-1]["next"].removeprefix(str(gateway.http.make_url("")).rstrip("/"))))

    assert [len(page["data"]) for page in pages] == [100, 100, 50]
    assert [url for page in pages for url in urls(page)] == [f"https://example.com/{n}" for n in range(1, 251)]
    assert sum(isinstance(message, DocumentsGet) for message in gateway.tracker.asked) == 4 + 4 + 2


async def test_limit_is_kept_from_page_to_page(gateway: Any, state: State, fill: Fill) -> None:
    fill(9)
    gateway.tracker.add(state(1, status="completed", documents=9))
    page = await read(gateway, f"{CRAWL}?skip=2&limit=4")

    assert urls(page) == [f"https://example.com/{n}" for n in range(3, 7)]
    assert page["next"] == str(gateway.http.make_url(f"{CRAWL}?skip=6&limit=4"))


async def test_page_of_large_documents_is_short(
    gateway: Any, state: State, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firecrawl_documents, "PAGE_BYTES", 1000)
    fill(5, content="x" * 400)
    large = gateway.tracker.stored[UUID(int=3)].model_copy(update={"content": "x" * 5000})
    gateway.tracker.stored[UUID(int=3)] = large
    gateway.tracker.add(state(1, status="completed", documents=5))
    pages = [await read(gateway, f"{CRAWL}?skip={skip}") for skip in (0, 2, 3)]

    assert [len(page["data"]) for page in pages] == [2, 1, 2]


async def test_next_of_a_live_crawl_ends_where_its_documents_do(gateway: Any, state: State, fill: Fill) -> None:
    fill(150)
    gateway.tracker.add(state(1, documents=120))  # the list is ahead of the state
    last = await read(gateway, f"{CRAWL}?skip=100")
    beyond = await read(gateway, f"{CRAWL}?skip=120")

    assert len(last["data"]) == 20
    assert last["next"].endswith("?skip=120")
    assert (beyond["status"], beyond["data"]) == ("scraping", [])
    assert "next" not in beyond


async def test_addresses_are_those_that_the_client_uses(gateway: Any, state: State, fill: Fill) -> None:
    fill(2)
    gateway.tracker.add(state(1, documents=2))
    page = await read(gateway, f"{CRAWL}?limit=1", Host="crawl.localhost", **{"X-Forwarded-Proto": "https"})

    assert page["next"] == f"https://crawl.localhost{CRAWL}?skip=1&limit=1"


async def test_cancelling_waits_for_the_end(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, revision=5, status="cancelling"))
    cancelling = asyncio.create_task(gateway.http.delete(CRAWL))
    while len(gateway.tracker.asked) < 2:
        await asyncio.sleep(0)
    gateway.hub.offer(state(1, revision=6, status="cancelling"))
    await asyncio.sleep(0)
    assert not cancelling.done()
    gateway.hub.offer(state(1, revision=7, status="cancelled"))
    response = await cancelling

    assert response.status == 200
    assert await response.json() == {"success": True, "status": "cancelled"}
    assert isinstance(gateway.tracker.asked[0], JobCancel)


@pytest.mark.parametrize(("status", "answer"), [("completed", 409), ("failed", 409), ("cancelled", 200)])
async def test_crawl_that_has_ended_is_not_cancelled(gateway: Any, state: State, status: str, answer: int) -> None:
    gateway.tracker.add(state(1, status=status))
    response = await gateway.http.delete(CRAWL)

    assert response.status == answer
    assert (await response.json())["success"] is (answer == 200)


async def test_errors_are_those_of_all_pages(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1))
    failed = [
        Page(
            page_id=UUID(int=n),
            url=f"https://example.com/{n}",
            state=PageState.FAILED,
            reason="http_404",
            status_code=404,
        )
        for n in range(1, 4)
    ]
    skipped = [
        Page(page_id=UUID(int=n), url=f"https://example.com/{n}", state=PageState.SKIPPED, reason=reason)
        for n, reason in ((8, "robots"), (9, "redirect"))
    ]

    gateway.tracker.batch = 1
    gateway.tracker.pages = [*failed, *skipped]
    response = await gateway.http.get(f"{CRAWL}/errors")
    found = await response.json()

    assert [error["url"] for error in found["errors"]] == [f"https://example.com/{n}" for n in (1, 2, 3)]
    assert {error["code"] for error in found["errors"]} == {"HTTP_404"}
    assert found["robotsBlocked"] == ["https://example.com/8"]
    asked = [one.reason for one in gateway.tracker.asked if one.state is PageState.SKIPPED]
    assert asked == ["robots"]  # not for every page that was skipped


async def test_errors_are_bounded(gateway: Any, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firecrawl_api, "MAX_ERRORS", 3)
    gateway.tracker.add(state(1))
    gateway.tracker.batch = 2
    gateway.tracker.pages = [
        Page(page_id=UUID(int=n), url=f"https://example.com/{n}", state=PageState.FAILED, reason="dns")
        for n in range(1, 10)
    ]

    found = await (await gateway.http.get(f"{CRAWL}/errors")).json()

    assert [error["url"] for error in found["errors"]] == [f"https://example.com/{n}" for n in (1, 2, 3)]


async def test_active_crawls_are_the_live_jobs(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1))
    gateway.tracker.add(state(2, status="completed"))
    found = await read(gateway, "/v2/crawl/active")

    [crawl] = found["crawls"]
    assert (crawl["id"], crawl["url"]) == (str(UUID(int=1)), "https://example.com/")
    assert crawl["teamId"]
    assert crawl["options"]["limit"] == 100_000


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CRAWL, 404, "NOT_FOUND"),
        ("GET", "/v2/crawl/seven", 400, "INVALID"),
        ("GET", f"{CRAWL}?skip=x", 400, "INVALID"),
        ("PUT", CRAWL, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/v2/scrape", 404, "NOT_FOUND"),
        ("DELETE", CRAWL, 404, "NOT_FOUND"),
    ],
)
async def test_errors_have_the_shape_of_firecrawl(gateway: Any, method: str, path: str, status: int, code: str) -> None:
    response = await gateway.http.request(method, path)
    body = await response.json()

    assert (response.status, response.content_type) == (status, "application/json")
    assert (body["success"], body["code"]) == (False, code)
    assert body["error"]


async def test_refused_option_is_named_with_its_reason(gateway: Any) -> None:
    options = {"url": "https://example.com/", "webhook": "https://example.com/hook", "maxDepth": 2}
    response = await gateway.http.post("/v2/crawl", json=options)
    body = await response.json()

    assert response.status == 400
    assert [detail["field"] for detail in body["details"]] == ["webhook", "maxDepth"]
    assert body["error"].startswith("webhook: is not supported: nobody is called back")
    assert not any(isinstance(message, JobCreate) for message in gateway.tracker.asked)


async def test_refused_options_are_answered_with_a_short_list(gateway: Any) -> None:
    body = {"url": "https://example.com/", **{f"x{number}": 1 for number in range(1000)}}
    response = await gateway.http.post("/v2/crawl", json=body)

    assert response.status == 400
    assert len((await response.json())["details"]) == 50


async def test_silent_services_are_asked_again_by_the_packages_but_no_crawl_starts_twice(gateway: Any) -> None:
    gateway.tracker.away = True
    read_again = await gateway.http.get(CRAWL)
    not_again = await gateway.http.post("/v2/crawl", json={"url": "https://example.com/"})

    assert (read_again.status, not_again.status) == (502, 503)
    assert read_again.headers["Retry-After"]
    assert (await not_again.json())["code"] == "UNAVAILABLE"
