"""How a visit to a page ends, by what its server answers."""

import asyncio
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from crawler import parsing, visit
from crawler.deps import Deps
from crawler.extract import Extracted
from crawler.fetch import Fetched
from crawler.frontier import MAX_REDIRECTS, DocumentContent, Lane, Postponed, QueuedPage, Visit
from crawler.parsing import ToParse
from frontier_checks import Ledgers
from made_up_pdf import pdf
from made_up_web import SimulatedWorker, crawler_deps, start
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.pages import Outcome
from tallyho_postgres.pool import Pool
from watched_site import done, page, serving, until, visiting, working


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


def answer(status: int, **headers: str) -> web.Response:
    return web.Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def visited(deps: Deps, response: web.Response, **options: Any) -> Visit | Postponed | None:
    """What came of a visit to a page that is answered so."""
    async with serving({"/page": lambda: response}) as site:
        await start(deps, f"{site.url}/page", **options)
        [queued] = await SimulatedWorker(deps).claim()
        async with visiting(deps.pool) as visitor:
            return await visitor.visit(queued)


async def test_document_is_kept_with_what_tells_it_apart(deps: Deps) -> None:
    response = page("/other")
    response.headers.update({"ETag": '"1"', "Last-Modified": "Mon, 23 Nov 2026 00:00:00 GMT"})
    visit = await visited(deps, response)

    assert isinstance(visit, Visit)
    assert isinstance(visit.document, DocumentContent)
    assert (visit.outcome, visit.reason, visit.status_code) == (Outcome.COMPLETED, None, 200)
    assert (visit.document.title, visit.document.etag) == ("Page", '"1"')
    assert visit.document.last_modified == "Mon, 23 Nov 2026 00:00:00 GMT"
    assert [link.rpartition("/")[2] for link in visit.document.links] == ["other"]


@pytest.mark.parametrize(("markdown", "content"), [(True, "**bold**"), (False, "bold")])
@pytest.mark.parametrize("padding", [0, 1_000_000], ids=["light", "heavy"])
async def test_main_text_is_kept_as_the_job_wants_it(deps: Deps, markdown: bool, content: str, padding: int) -> None:
    text = f"<nav>{' ' * padding}</nav><main><p><b>bold</b></p></main>"
    response = web.Response(text=text, content_type="text/html")
    visit = await visited(deps, response, markdown=markdown)

    assert isinstance(visit, Visit)
    assert isinstance(visit.document, DocumentContent)
    assert visit.document.content.strip() == content


async def test_between_two_pages_that_take_their_time_all_else_has_its_turn(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, read_at = 0, []

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def read_and_note(page: ToParse) -> Extracted:
        read_at.append(turns)
        return parsing.read(page)

    monkeypatch.setattr(visit, "read", read_and_note)
    async with visiting(crawler_pool) as visitor:
        turning = asyncio.create_task(take_turns())
        lane = Lane(uuid4(), "http://site.test", slot=0, epoch=1, options=CrawlOptions(markdown=False))
        queued = QueuedPage(lane, 0, 1, uuid4(), "http://site.test/", redirects=0, attempts=0)
        fetched = Fetched(200, "text/html", b"<p>" + b"text " * 10_000)
        await asyncio.gather(*(visitor._parsed(queued, fetched) for _ in range(5)))
        turning.cancel()

    assert sorted(set(read_at)) == read_at


async def test_pdf_is_a_document(deps: Deps) -> None:
    response = web.Response(body=pdf("Its text", title="A title"), content_type="application/pdf")
    visit = await visited(deps, response, keep_html=True)

    assert isinstance(visit, Visit)
    assert isinstance(visit.document, DocumentContent)
    assert (visit.document.title, visit.document.content, visit.document.html) == ("A title", "Its text", None)


async def test_page_that_can_not_be_parsed_fails_with_its_reason(deps: Deps) -> None:
    visit = await visited(deps, web.Response(body=b"%PDF-1.7 and then nothing", content_type="application/pdf"))

    assert isinstance(visit, Visit)
    assert (visit.outcome, visit.reason, visit.status_code) == (Outcome.FAILED, "pdf_damaged", 200)


async def test_list_that_takes_too_long_to_read_fails_alone(deps: Deps) -> None:
    listing = web.Response(text="<urlset><url><loc>/a</loc></url></urlset>", content_type="text/xml")
    async with serving({"/list": lambda: listing}) as site:
        await start(deps, f"{site.url}/", url_lists=[f"{site.url}/list"])
        [queued] = [claimed for claimed in await SimulatedWorker(deps).claim() if claimed.is_list]
        async with visiting(deps.pool) as visitor:
            visitor.parser._seconds = 0.0
            visit = await visitor.visit(queued)

    assert isinstance(visit, Visit)
    assert (visit.outcome, visit.reason, visit.status_code) == (Outcome.FAILED, "parser_timeout", 200)


async def test_list_that_waits_for_others_to_be_read_takes_no_turn_of_its_host_meanwhile(deps: Deps) -> None:
    async with serving({"/list": lambda: web.Response(text="/a")}) as site, visiting(deps.pool) as visitor:
        await start(deps, f"{site.url}/", url_lists=[f"{site.url}/list"], delay=3600)
        [queued] = [claimed for claimed in await SimulatedWorker(deps).claim() if claimed.is_list]
        for _ in range(visit.LISTS_AT_ONCE):
            await visitor._reading.acquire()
        visiting_list = asyncio.create_task(visitor.visit(queued))
        await until(lambda: deps.pool.fetchval("SELECT robots_verdict FROM origins"))
        while not visitor._reading._waiters:  # what waits there can't be awaited
            await asyncio.sleep(0)
        turns = await deps.pool.fetchval("SELECT count(*) FROM paces")
        visitor._reading.release()
        await visiting_list

    assert turns == 0
    assert site.requests["/list"] == 1


@pytest.mark.parametrize(
    ("response", "outcome", "reason", "status"),
    [
        (answer(404), Outcome.FAILED, "http_404", 404),
        (answer(410), Outcome.FAILED, "http_410", 410),
        (answer(301, Location="ftp://site.test/"), Outcome.FAILED, "bad_redirect", 301),
        (answer(200, Content_Type="image/png"), Outcome.SKIPPED, "content_type", 200),
    ],
    ids=str,
)
async def test_page_without_a_document_ends_with_its_reason(
    deps: Deps, response: web.Response, outcome: Outcome, reason: str, status: int
) -> None:
    visit = await visited(deps, response)

    assert isinstance(visit, Visit)
    assert (visit.outcome, visit.reason, visit.status_code) == (outcome, reason, status)
    assert visit.document is None


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_page_that_fails_for_now_is_put_off(deps: Deps, status: int) -> None:
    visit = await visited(deps, answer(status))

    assert isinstance(visit, Postponed)


async def test_redirect_ends_the_page_and_names_its_target(deps: Deps) -> None:
    visit = await visited(deps, answer(302, Location="/there"))

    assert isinstance(visit, Visit)
    assert (visit.outcome, visit.reason, visit.document) == (Outcome.SKIPPED, "redirect", None)
    assert visit.redirect_to
    assert visit.redirect_to.endswith("/there")


def html(text: str, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(
        text=f'{text}<a href="/a">a</a><a href="/b" rel="nofollow">b</a>', headers=named, content_type="text/html"
    )


@pytest.mark.parametrize(
    ("meta", "header", "kept", "followed"),
    [
        ("", "", True, "a"),
        ('<meta name="robots" content="noindex">', "", False, "a"),
        ('<meta name="robots" content="nofollow">', "", True, ""),
        ('<meta name="tallyho" content="none">', "", False, ""),
        ("", "noindex", False, "a"),
        ("", "otherbot: none, tallyho: nofollow", True, ""),
    ],
)
@pytest.mark.parametrize("obeyed", [True, False])
async def test_page_that_speaks_to_crawlers_is_obeyed_unless_its_job_does_not(
    deps: Deps, meta: str, header: str, kept: bool, followed: str, obeyed: bool
) -> None:
    visit = await visited(deps, html(meta, X_Robots_Tag=header), robots_tags=obeyed)
    assert isinstance(visit, Visit)
    links = [url[-1] for url in visit.found.urls if url not in visit.found.nofollow]

    assert (visit.reason, visit.document is not None) == ((None, True) if kept or not obeyed else ("noindex", False))
    assert links == (list(followed) if obeyed else ["a", "b"])


@pytest.mark.parametrize(
    ("head", "reason", "target"),
    [
        ('<meta http-equiv="refresh" content="0; url=/there">', "meta_refresh", "/there"),
        ('<meta http-equiv="refresh" content="30; url=/there">', None, None),
        ('<link rel="canonical" href="/there">', "canonical", "/there"),
        ('<link rel="canonical" href="http://other.test/there">', None, None),
        ('<link rel="canonical" href="/page">', None, None),
    ],
)
async def test_page_that_sends_its_readers_elsewhere_ends_as_a_redirect(
    deps: Deps, head: str, reason: str | None, target: str | None
) -> None:
    visit = await visited(deps, html(head), canonical=True)

    assert isinstance(visit, Visit)
    assert (visit.reason, visit.document is None) == (reason, reason is not None)
    assert (visit.redirect_to or "").endswith(target or "")


async def test_canonical_address_is_a_hint_unless_the_job_wants_it_obeyed(deps: Deps) -> None:
    visit = await visited(deps, html('<link rel="canonical" href="/there">'))

    assert isinstance(visit, Visit)
    assert visit.document


async def test_canonical_address_in_the_header_counts_where_the_page_names_none(deps: Deps) -> None:
    header = '</there>; rel="canonical"'
    visit = await visited(deps, html("", Link=header), canonical=True)
    contradicted = await visited(deps, html('<link rel="canonical" href="/page">', Link=header), canonical=True)

    assert isinstance(visit, Visit)
    assert visit.reason == "canonical"
    assert (visit.redirect_to or "").endswith("/there")
    assert isinstance(contradicted, Visit)
    assert contradicted.document


@pytest.mark.parametrize(("header", "reason"), [("0; url=/there", "meta_refresh"), ("9; url=/there", None), ("", None)])
async def test_refresh_in_the_header_is_one_in_the_page(deps: Deps, header: str, reason: str | None) -> None:
    visit = await visited(deps, html("", Refresh=header))

    assert isinstance(visit, Visit)
    assert visit.reason == reason
    assert (visit.redirect_to or "").endswith("/there" if reason else "")


@pytest.mark.parametrize(("text", "language"), [("<p>", "nl"), ("<html lang=en><p>", "en")])
async def test_language_in_the_header_counts_where_the_page_names_none(deps: Deps, text: str, language: str) -> None:
    visit = await visited(deps, html(text, Content_Language="nl"))

    assert isinstance(visit, Visit)
    assert isinstance(visit.document, DocumentContent)
    assert visit.document.language == language


async def test_chain_of_redirects_is_followed_so_far_and_no_farther(deps: Deps) -> None:
    chain = {f"/{number}": partial(answer, 302, Location=f"/{number + 1}") for number in range(MAX_REDIRECTS + 2)}
    short = {f"/s{number}": partial(answer, 302, Location=f"/s{number + 1}") for number in range(MAX_REDIRECTS)}
    async with serving(chain | short | {f"/s{MAX_REDIRECTS}": page}) as site, working(deps.pool):
        long_job, short_job = await start(deps, f"{site.url}/0"), await start(deps, f"{site.url}/s0")
        await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert ledgers.of[long_job].reasons == {"redirect": MAX_REDIRECTS, "too_many_redirects": 1}
    assert ledgers.of[short_job].saved == {f"{site.url}/s{MAX_REDIRECTS}"}
