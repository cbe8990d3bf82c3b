"""The frontier's rules: what a visit found, by which page, at which depth, and how many of it the budget admits."""

from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from crawler import handlers
from crawler.findings import findings
from crawler.frontier import (
    CrawlJob,
    DocumentContent,
    Lane,
    Links,
    Postponed,
    QueuedPage,
    Visit,
    places_given_back,
    room,
    slot_of,
)
from crawler.handlers import Work
from crawler.known_urls import KnownUrls
from crawler.urls import page_id
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.pages import Outcome

JOB = UUID(int=1)
SITE = "http://site.test"
A, B, C, D = (f"{SITE}/{name}" for name in "abcd")
ELSEWHERE = "http://elsewhere.test/"


def job(
    *, status: str = "running", level: int | None = None, admitted: int = 0, pages: int = 0, **options: object
) -> CrawlJob:
    rules = CrawlOptions.model_validate(options)
    return CrawlJob(JOB, status, rules, frozenset({"site.test"}), admitted=admitted, pages=pages, level=level)


def queued(url: str, depth: int = 0, redirects: int = 0) -> QueuedPage:
    lane = Lane(JOB, SITE, slot=0, epoch=1, options=CrawlOptions())
    return QueuedPage(lane, depth, seq=1, page_id=page_id(JOB, url), url=url, redirects=redirects, attempts=0)


def saved(url: str, *links: str, depth: int = 0) -> Visit:
    document = DocumentContent("", "", links, "", 200, "text/html", None, None)
    return Visit(queued(url, depth), Outcome.COMPLETED, document=document)


def redirected(url: str, target: str, *, depth: int = 0, redirects: int = 0) -> Visit:
    return Visit(queued(url, depth, redirects), Outcome.SKIPPED, "redirect", 301, redirect_to=target)


def failed(url: str) -> Visit:
    return Visit(queued(url), Outcome.FAILED, "http_404", 404)


def test_links_of_a_page_are_one_step_deeper() -> None:
    found = findings(job(), [saved(A, B, C, depth=3)], KnownUrls())

    assert {page.url: page.depth for page in found.found.values()} == {B: 4, C: 4}
    assert {page.page_id for page in found.found.values()} == {page_id(JOB, B), page_id(JOB, C)}


def test_page_that_found_a_url_first_is_its_finder() -> None:
    found = findings(job(), [saved(A, B), saved(C, B, D)], KnownUrls())

    assert found.finder == {page_id(JOB, B): page_id(JOB, A), page_id(JOB, D): page_id(JOB, C)}


def test_known_url_is_not_found_again_by_its_job_only() -> None:
    known = KnownUrls()
    known.add([(JOB, B), (UUID(int=2), C)])
    found = findings(job(), [saved(A, B, C)], known)

    assert set(found.found) == {C}


@pytest.mark.parametrize(
    ("options", "link", "refusal"),
    [
        ({"max_depth": 0}, B, "depth"),
        ({}, ELSEWHERE, "off_site"),
        ({"exclude": ["/b$"]}, B, "excluded"),
        ({"include": ["/a$"]}, B, "not_included"),
    ],
)
def test_link_that_is_not_followed_is_counted_by_its_reason(options: dict[str, Any], link: str, refusal: str) -> None:
    found = findings(job(**options), [saved(A, link), failed(C)], KnownUrls())

    assert found.found == {}
    assert found.skipped_links == {page_id(JOB, A): Counter({refusal: 1}), page_id(JOB, C): Counter()}


def test_links_with_nofollow_are_counted_and_not_followed() -> None:
    kept = DocumentContent("", "", (B, C), "", 200, "text/html", None, None, nofollow=(C,))
    visits = [
        Visit(queued(A), Outcome.COMPLETED, document=kept),
        Visit(queued(D), Outcome.SKIPPED, "noindex", links=Links((A, C), frozenset((A, C)))),
    ]
    found = findings(job(), visits, KnownUrls())

    assert set(found.found) == {B}
    assert found.skipped_links == {page_id(JOB, A): Counter(nofollow=1), page_id(JOB, D): Counter(nofollow=2)}


def test_links_that_differ_in_tracking_are_one_page_where_the_job_wants_that() -> None:
    visit = saved(A, f"{B}?utm_source=x", f"{B}?gclid=1", B, f"{A}?fbclid=2", f"{C}?q=1&utm_term=y")

    assert set(findings(job(drop_tracking=True), [visit], KnownUrls()).found) == {B, f"{C}?q=1"}
    assert len(findings(job(), [visit], KnownUrls()).found) == 5


def test_redirect_to_a_url_with_tracking_leads_there() -> None:
    found = findings(job(drop_tracking=True), [redirected(A, f"{A}?utm_source=x")], KnownUrls())

    assert set(found.found) == {f"{A}?utm_source=x"}


def test_target_of_a_redirect_stands_where_the_page_stood() -> None:
    found = findings(job(max_depth=2), [redirected(A, B, depth=2, redirects=3)], KnownUrls())

    assert [(page.url, page.depth, page.redirects) for page in found.found.values()] == [(B, 2, 4)]


def test_redirect_and_link_to_one_page_give_it_the_lesser_depth() -> None:
    found = findings(job(), [saved(A, C, depth=1), redirected(B, C, depth=1)], KnownUrls())

    assert [(page.url, page.depth) for page in found.found.values()] == [(C, 1)]
    assert found.finder == {page_id(JOB, C): page_id(JOB, B)}


@pytest.mark.parametrize(("level", "expected"), [(None, set()), (1, {C})])
def test_redirect_to_a_known_page_is_news_only_where_depth_counts(level: int | None, expected: set[str]) -> None:
    known = KnownUrls()
    known.add([(JOB, C), (JOB, D)])
    found = findings(job(level=level), [redirected(B, C, depth=1), saved(A, D, depth=1)], known)

    assert set(found.found) == expected


def test_seed_that_redirects_elsewhere_takes_its_job_along() -> None:
    found = findings(job(), [redirected(A, ELSEWHERE), saved(B, ELSEWHERE + "x")], KnownUrls())

    assert set(found.found) == {ELSEWHERE, ELSEWHERE + "x"}
    assert found.sites == {"site.test", "elsewhere.test"}


def test_outlink_is_followed_through_its_redirects_but_its_links_are_not() -> None:
    visits = [saved(A, ELSEWHERE), redirected(ELSEWHERE, "http://moved.test/", depth=1)]
    third = saved("http://moved.test/a", "http://third.test/", depth=1)

    assert set(findings(job(outlinks=True), visits, KnownUrls()).found) == {ELSEWHERE, "http://moved.test/"}
    assert not findings(job(outlinks=True), [third], KnownUrls()).found


def test_page_that_redirects_elsewhere_does_not() -> None:
    found = findings(job(), [redirected(A, ELSEWHERE, depth=1)], KnownUrls())

    assert found.found == {}
    assert found.skipped_links == {page_id(JOB, A): Counter(off_site=1)}


def test_cancelled_job_finds_nothing_more() -> None:
    found = findings(job(status="cancelled"), [saved(A, B), redirected(C, D)], KnownUrls())

    assert found.found == {}


def test_page_without_a_document_gives_its_place_back() -> None:
    visits = [saved(A), failed(B), redirected(C, D)]

    assert places_given_back(visits) == 2
    assert room(job(max_pages=10, admitted=10), visits) == 2
    assert room(job(max_pages=10, admitted=7), []) == 3
    assert room(job(max_pages=None, admitted=7), visits) is None


def test_budget_of_documents_lets_only_so_many_pages_be_visited() -> None:
    visits = [failed(B)]

    assert room(job(max_pages=50, admitted=50, pages=1_499), visits) == 1
    assert room(job(max_pages=50, admitted=50, pages=1_500), visits) == 0
    assert room(job(max_pages=51, admitted=50, pages=1_500), visits) == 2


def test_pages_of_an_origin_are_spread_over_its_slots() -> None:
    slots = Counter(slot_of(page_id(JOB, f"{SITE}/{number}"), 4) for number in range(400))

    assert set(slots) == {0, 1, 2, 3}
    assert min(slots.values()) > 60


@pytest.mark.parametrize(("bound", "most"), [("GROUP_PAGES", 2), ("GROUP_LINKS", 4)])
def test_work_is_divided_by_its_pages_and_links(monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    monkeypatch.setattr(handlers, bound, most)
    visits = [saved(A, B, C), saved(B, A, C), failed(C), saved(D)]
    postponed, lane = Postponed(queued(ELSEWHERE), 1.0), queued(A).lane
    parts = list(Work(visits, [postponed], [lane]).parts())

    assert [(part.visits, part.postponed, part.served) for part in parts] == [
        (visits[:2], [], []),
        (visits[2:], [postponed], [lane]),
    ]
    assert [part.is_full for part in parts] == [True, bound == "GROUP_PAGES"]
