"""Documents over HTTP: listed, streamed, with their contents and their pages' sources."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import ClientPayloadError
from problem_details import fields_of, problem_of
from prometheus_client import REGISTRY
from tallyho_contracts.documents import Document, DocumentGet
from tallyho_contracts.jobs import JobState
from ws_gateway import json_lines
from ws_gateway.contents import SOURCES_AT_ONCE
from ws_gateway.limits import Limits

State = Callable[..., JobState]


def a_document(ordinal: int) -> Document:
    return Document(
        document_id=UUID(int=ordinal),
        ordinal=ordinal,
        source_url=f"https://example.com/{ordinal}",
        saved_at="2025-01-02T12:00:00Z",
    )


async def test_unknown_job_is_not_found_as_json_lines_either(gateway: Any) -> None:
    response = await gateway.http.get(f"/v1/jobs/{uuid4()}/documents", headers={"Accept": "application/jsonl"})

    assert response.status == 404
    assert (await problem_of(response))["code"] == "not_found"


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


async def test_contents_have_the_sources_of_pages_where_asked_for_and_kept(
    gateway: Any, state: State, stored: Any
) -> None:
    gateway.tracker.add(state(1, 1))
    gateway.tracker.documents = [a_document(ordinal) for ordinal in range(1, 31)]
    for ordinal in range(1, 30):
        html = f"<p>{ordinal}" if ordinal % 2 else None
        gateway.tracker.stored[UUID(int=ordinal)] = stored(UUID(int=ordinal), html=html)

    response = await gateway.http.get(f"/v1/jobs/{UUID(int=1)}/contents?html=true&after=2")
    lines = [json.loads(line) for line in (await response.text()).splitlines()]

    assert [line["document"]["ordinal"] for line in lines] == list(range(3, 31))
    assert [line["stored"]["html"] for line in lines[:3]] == ["<p>3", None, "<p>5"]
    assert lines[-1]["stored"] is None
    assert all(asked.html for asked in gateway.tracker.asked if isinstance(asked, DocumentGet))


async def test_contents_of_a_job_without_documents_are_no_lines(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 1))

    responses = [await gateway.http.get(f"/v1/jobs/{UUID(int=1)}/contents{query}") for query in ("", "?html=true")]

    assert [(one.status, await one.text()) for one in responses] == [(200, "")] * 2


async def test_contents_that_can_not_be_read_on_break_the_connection(gateway: Any, state: State) -> None:
    gateway.tracker.add(state(1, 1))
    gateway.tracker.documents = [a_document(ordinal) for ordinal in range(1, 31)]

    def leave_after_the_first_few() -> None:
        gateway.tracker.away = len(gateway.tracker.asked) >= 1 + SOURCES_AT_ONCE

    gateway.tracker.before_reply = leave_after_the_first_few
    response = await gateway.http.get(f"/v1/jobs/{UUID(int=1)}/contents?html=true")

    with pytest.raises(ClientPayloadError):
        await response.read()


def large_contents(gateway: Any, state: State, stored: Any) -> str:
    """More than a kernel holds for a client; returns where."""
    gateway.tracker.add(state(1, 1))
    gateway.tracker.documents = [a_document(ordinal) for ordinal in range(1, 41)]
    for one in gateway.tracker.documents:
        gateway.tracker.stored[one.document_id] = stored(one.document_id, content="x" * 1_000_000)
    return f"/v1/jobs/{UUID(int=1)}/contents"


async def ask_and_read_nothing(gateway: Any, path: str) -> asyncio.StreamWriter:
    url = gateway.http.make_url(path)
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1_000)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {url.host}\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    return writer


async def test_download_has_a_place_among_the_connections(gateway_with: Any, state: State, stored: Any) -> None:
    gateway = await gateway_with(limits=Limits(connections=1))
    path = large_contents(gateway, state, stored)
    downloading = await ask_and_read_nothing(gateway, path)

    refused = await gateway.http.get(path)
    downloading.transport.abort()

    assert (refused.status, (await problem_of(refused))["code"]) == (429, "too_many_connections")
    await until_there_is_a_place(gateway, path)


async def test_download_that_is_not_read_is_cut_off(
    gateway_with: Any, state: State, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "STALLED_SECONDS", 0.2)
    gateway = await gateway_with(limits=Limits(connections=1))
    path = large_contents(gateway, state, stored)

    downloading = await ask_and_read_nothing(gateway, path)

    await until_there_is_a_place(gateway, path)
    downloading.close()


async def test_client_that_leaves_a_download_is_no_fault(
    gateway: Any, state: State, stored: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = large_contents(gateway, state, stored)
    answered = {"method": "GET", "route": "/v1/jobs/{job_id}/contents", "status": "200"}
    before = counted(**answered)
    downloading = await ask_and_read_nothing(gateway, path)

    downloading.transport.abort()
    async with asyncio.timeout(30):
        while counted(**answered) == before:
            await asyncio.sleep(0.01)

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def until_there_is_a_place(gateway: Any, path: str) -> None:
    async with asyncio.timeout(30):
        while (await gateway.http.get(f"{path}?after=40")).status != 200:
            await asyncio.sleep(0.01)


def counted(**labels: str) -> float:
    return REGISTRY.get_sample_value("tallyho_http_requests_total", labels) or 0.0
