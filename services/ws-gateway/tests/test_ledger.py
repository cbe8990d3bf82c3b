"""The ledger over HTTP: the tracker's pages and the crawler's skipped URLs as one list and one sum."""

from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.jobs import JobSummary, PagesByReason
from tallyho_contracts.pages import Page, PageState

JOB = UUID(int=1)


def page(number: int, state: PageState, reason: str) -> Page:
    return Page(page_id=UUID(int=number), url=f"https://example.com/{number}", state=state, reason=reason)


@pytest.fixture
def ledger(gateway: Any, state: Any) -> Any:
    """A job with three pages and four URLs that are none."""
    gateway.tracker.add(state(1))
    gateway.tracker.pages = [
        page(1, PageState.COMPLETED, "created"),
        page(2, PageState.FAILED, "http_404"),
        page(3, PageState.SKIPPED, "robots"),
    ]
    skipped = [page(9, PageState.SKIPPED, "excluded")] + [page(n, PageState.SKIPPED, "off_site") for n in (5, 6, 7)]
    gateway.tracker.skipped = skipped
    return gateway


async def listed(gateway: Any, **query: str | int) -> list[int]:
    """The numbers of the URLs on all pages of a listing; no page but the last may be short."""
    found: list[int] = []
    after: dict[str, str] = {}
    while True:
        response = await gateway.http.get(f"/v1/jobs/{JOB}/urls", params={**query, **after})
        assert response.status == 200
        body = await response.json()
        found += [UUID(one["page_id"]).int for one in body["urls"]]
        if body["next"] is None:
            return found
        assert len(body["urls"]) == query["limit"]
        after = {"after": body["next"]}


@pytest.mark.parametrize("limit", range(1, 9))
async def test_every_url_is_listed_once_wherever_the_pages_of_the_list_end(ledger: Any, limit: int) -> None:
    assert await listed(ledger, limit=limit) == [1, 2, 3, 9, 5, 6, 7]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "failed"}, [2]),
        ({"state": "skipped"}, [3, 9, 5, 6, 7]),
        ({"reason": "off_site"}, [5, 6, 7]),
        ({"state": "completed", "reason": "off_site"}, []),
        ({"reason": "robots"}, [3]),
    ],
)
async def test_urls_are_listed_by_state_and_reason(ledger: Any, query: dict[str, str], expected: list[int]) -> None:
    assert await listed(ledger, limit=2, **query) == expected


@pytest.mark.parametrize("after", ["", "3", "page.3", f"robots.{JOB}", f"skipped.Off Site.{JOB}"])
async def test_cursor_that_no_list_gave_is_refused(ledger: Any, after: str) -> None:
    response = await ledger.http.get(f"/v1/jobs/{JOB}/urls", params={"after": after})

    [error] = (await response.json())["errors"]

    assert response.status == 422
    assert error["field"] == "after"
    assert "NUL" not in error["message"]


async def test_ledger_counts_pages_and_skipped_urls_by_reason(ledger: Any) -> None:
    ledger.tracker.summary = JobSummary(
        pages=tuple(PagesByReason(state=one.state, reason=one.reason, pages=1) for one in ledger.tracker.pages),
        documents=(),
    )

    body = await (await ledger.http.get(f"/v1/jobs/{JOB}/ledger")).json()

    assert body["urls_met"] == sum(entry["urls"] for entry in body["entries"]) == 7
    assert body["beyond"] == 12
    assert {entry["reason"] for entry in body["entries"] if not entry["is_page"]} == {"excluded", "off_site"}
    assert {(entry["state"], entry["reason"]): entry["urls"] for entry in body["entries"]} == {
        ("completed", "created"): 1,
        ("failed", "http_404"): 1,
        ("skipped", "robots"): 1,
        ("skipped", "excluded"): 1,
        ("skipped", "off_site"): 3,
    }
