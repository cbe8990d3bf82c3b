"""Where the URLs of a job come from besides links: sitemaps, and what was saved before."""

import gzip
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from crawler import listing, urls
from crawler.commands import start_crawl
from crawler.deps import Deps
from crawler.frontier import BEYOND, MAX_REDIRECTS, KeptDocument, Visit
from crawler.handlers import on_work
from crawler.links import MAX_LINKS
from crawler.listing import add_listed
from crawler.requests import count_urls
from crawler.sitemaps import Entry
from frontier_checks import Ledger, Ledgers, check_frontier
from made_up_web import SimulatedWorker, WebPage, crawler_deps, start
from tallyho_contracts.crawls import CrawlOptions, CrawlStart
from tallyho_contracts.pages import Outcome
from tallyho_postgres.pool import Pool
from watched_site import WatchedSite, done, page, serving, working

Answers = dict[str, Callable[[], web.Response]]


@pytest.fixture
def deps(crawler_pool: Pool) -> Deps:
    return crawler_deps(crawler_pool)


def sitemap(*entries: str, tag: str = "url", lastmod: str = "") -> web.Response:
    """A sitemap, or with the tag `sitemap` an index of some."""
    date = f"<lastmod>{lastmod}</lastmod>" if lastmod else ""
    listed = "".join(f"<{tag}><loc>{entry}</loc>{date}</{tag}>" for entry in entries)
    root = "urlset" if tag == "url" else "sitemapindex"
    return web.Response(text=f"<{root}>{listed}</{root}>", content_type="application/xml")


async def crawled(deps: Deps, *seeds: str, ledgers: Ledgers | None = None, **options: Any) -> Ledger:
    """The ledger of a crawl that has come to its end, written into those of the crawls before it."""
    ledgers = ledgers or Ledgers(deps.pool)
    job_id = await start(deps, *seeds, same_site=True, **options)
    async with working(deps.pool):
        await done(deps.pool)
    await ledgers.check()
    return ledgers.of[job_id]


def paths(site: WatchedSite, ledger: Ledger) -> set[str]:
    return {url.removeprefix(site.url) for url in ledger.saved}


async def test_sitemaps_that_robots_txt_names_are_read_with_all_they_lead_to(deps: Deps) -> None:
    answers: Answers = {f"/{name}": page for name in ("", "a", "b", "c")}
    async with serving(answers) as site:
        names = "Sitemap: {0}/index.xml\nSitemap: /moved.xml\nUser-agent: *\nDisallow: /secret"
        zipped = gzip.compress(sitemap(f"{site.url}/b", f"{site.url}/secret", "http://other.test/").body)  # type: ignore[arg-type]  # bytes, of a text
        answers |= {
            "/robots.txt": lambda: web.Response(text=names.format(site.url)),
            "/index.xml": lambda: sitemap(f"{site.url}/1.xml", f"{site.url}/2.xml.gz", tag="sitemap"),
            "/1.xml": lambda: sitemap(f"{site.url}/a", f"{site.url}/b", f"{site.url}/missing"),
            "/2.xml.gz": lambda: web.Response(body=zipped, content_type="application/gzip"),
            "/moved.xml": lambda: web.Response(status=301, headers={"Location": "/list.txt"}),
            "/list.txt": lambda: web.Response(text=f"{site.url}/c\n"),
        }
        ledger = await crawled(deps, f"{site.url}/", sitemap="include")

    assert paths(site, ledger) == {"/", "/a", "/b", "/c"}
    assert ledger.reasons == Counter(list=4, redirect=1, http_404=1, robots=1)
    assert sum((Counter(one.skipped_links) for one in ledger.finished.values()), Counter()) == Counter(off_site=1)
    assert {one.depth for one in ledger.finished.values() if one.url.endswith(("/a", "/b", "/c"))} == {1}


@pytest.mark.parametrize(
    ("answers", "reason", "found"),
    [
        ({"/sitemap.xml": lambda: sitemap("/a")}, "list", {"/a"}),
        ({}, "no_list", set()),
        ({"/sitemap.xml": page}, "no_list", set()),
    ],
    ids=["there", "missing", "a page"],
)
async def test_sitemap_is_looked_for_where_it_usually_is(
    deps: Deps, answers: Answers, reason: str, found: set[str]
) -> None:
    async with serving({"/": page, "/a": page, **answers}) as site:
        ledger = await crawled(deps, f"{site.url}/", sitemap="include")

    assert paths(site, ledger) == {"/"} | found
    assert ledger.reasons == Counter({reason: 1})


async def test_sitemaps_are_left_alone_unless_the_job_wants_them(deps: Deps) -> None:
    async with serving({"/": page, "/a": page, "/sitemap.xml": lambda: sitemap("/a")}) as site:
        ledger = await crawled(deps, f"{site.url}/")

    assert paths(site, ledger) == {"/"}
    assert site.requests["/sitemap.xml"] == 0


async def test_no_link_is_followed_when_only_sitemaps_are_wanted(deps: Deps) -> None:
    answers = {"/": lambda: page("/x"), "/a": lambda: page("/y", "/z"), "/sitemap.xml": lambda: sitemap("/a")}
    async with serving(answers) as site:
        ledger = await crawled(deps, f"{site.url}/", sitemap="only")

    assert paths(site, ledger) == {"/", "/a"}
    assert sorted(one.skipped_links.get("link", 0) for one in ledger.finished.values()) == [0, 1, 2]


async def test_lists_that_a_job_names_are_read_by_its_rules(deps: Deps) -> None:
    listed = {"/docs/a": page, "/docs/b": page, "/docs/c?utm_source=x": page}
    async with serving({"/": page, **listed, "/docs/c": page}) as site:
        lines = "\n".join(site.url + path for path in [*listed, "/blog/d"])
        site.answers["/list"] = lambda: web.Response(text=lines)
        ledger = await crawled(
            deps,
            f"{site.url}/",
            url_lists=[f"{site.url}/list", "nowhere"],
            include=["/docs/"],
            exclude=["b$"],
            drop_tracking=True,
        )

    assert paths(site, ledger) == {"/", "/docs/a", "/docs/c"}
    [read] = [one for one in ledger.finished.values() if one.reason == "list"]
    assert read.skipped_links == {"excluded": 1, "not_included": 1}


async def test_list_that_is_the_seed_too_lists_pages_of_its_site(deps: Deps) -> None:
    async with serving({"/a": page}) as site:
        site.answers["/list"] = lambda: web.Response(text=f"{site.url}/a\nhttps://example.org/\n")
        ledger = await crawled(deps, f"{site.url}/list", url_lists=[f"{site.url}/list"], sitemap="only")

    assert paths(site, ledger) == {"/a"}
    assert ledger.reasons == Counter(list=1)


async def test_what_a_sitemap_dates_before_the_time_asked_for_is_left_out(deps: Deps) -> None:
    answers: Answers = {
        "/": page,
        **{f"/{name}": page for name in "abc"},
        "/sitemap.xml": lambda: sitemap("/old.xml", "/new.xml", tag="sitemap"),
        "/new.xml": lambda: sitemap("/a", lastmod="2026-03-02"),
        "/old.xml": lambda: sitemap("/b", lastmod="2026-02-28"),
    }
    async with serving(answers) as site:
        ledger = await crawled(deps, f"{site.url}/", sitemap="include", modified_since="2026-03-02T12:00:00Z")

    assert paths(site, ledger) == {"/", "/a"}


async def held_list(deps: Deps, job_id: UUID, entries: list[Entry]) -> tuple[SimulatedWorker, Visit]:
    """A worker that has read a list of these entries, the only seed of its job."""
    worker = SimulatedWorker(deps, {entry.url: WebPage() for entry in entries})
    [queued] = await worker.claim()
    return worker, Visit(queued, Outcome.SKIPPED, "list", 200, listed=tuple(entries))


async def close(deps: Deps, worker: SimulatedWorker, visit: Visit) -> None:
    """Close the list that a worker holds."""
    [lane] = {lane for lane, _ in worker.held}
    worker.held.clear()
    work = worker.finish()
    work.visits, work.served = [visit], [lane]
    await on_work(deps, work)


async def test_every_url_of_a_list_is_accounted_for(deps: Deps) -> None:
    job_id = await start(
        deps,
        "http://site.test/list",
        same_site=True,
        max_pages=4,
        max_host_pages=6,
        exclude=["x$"],
        modified_since="2026-03-02T00:00:00Z",
    )
    named = [Entry(f"http://site.test/{name}") for name in ("a", "b", "c", "d", "e", "f", "g", "x")]
    old = datetime(2026, 3, 1, tzinfo=UTC)
    entries = [*named, Entry("http://other.test/"), Entry("http://site.test/old", modified=old)]
    worker, visit = await held_list(deps, job_id, entries)
    visit = replace(visit, page=replace(visit.page, redirects=MAX_REDIRECTS))
    closing = await add_listed(deps, replace(visit, listed=(*entries, Entry("http://site.test/deep", is_list=True))))
    again = await add_listed(deps, visit)
    await close(deps, worker, closing)
    await worker.crawl()
    ledgers = Ledgers(deps.pool)
    await ledgers.check()
    counted = await count_urls(deps.pool, job_id)

    told = {"budget": 2, "excluded": 1, "off_site": 1, "not_modified": 1, "nested": 1, "trap": 2}
    assert len(ledgers.of[job_id].saved) == 4
    assert closing.skipped == told
    # The list held a place while it was read.
    assert {row.reason: row.urls for row in counted.skipped} == told | {"budget": 1}
    assert counted.urls_met == 1 + len(entries) + 1
    assert again.skipped.keys() <= told.keys()


async def test_list_of_a_job_with_the_largest_budget_there_is_is_read(deps: Deps) -> None:
    job_id = await start(deps, "http://site.test/list", max_pages=2**63 - 1)
    worker, visit = await held_list(deps, job_id, [Entry("http://site.test/a")])
    await close(deps, worker, await add_listed(deps, visit))
    await worker.crawl()
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert ledgers.of[job_id].saved == {"http://site.test/a"}


async def test_links_and_entries_beyond_the_bounds_are_a_number_of_their_job(
    deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = [f"/{number}" for number in range(MAX_LINKS + 7)]
    ledgers = Ledgers(deps.pool)
    beyond = []
    async with serving({"/a": lambda: page(*links)}) as site:
        for etag in ("", '"1"'):  # the second time, the page is unchanged
            site.not_modified = {etag}
            ledger = await crawled(deps, f"{site.url}/a", ledgers=ledgers, max_pages=1)
            [finished] = ledger.finished.values()
            beyond.append((finished.reason, finished.skipped_links))
            await deps.pool.execute("UPDATE documents SET etag = '\"1\"'")
    counted = [await count_urls(deps.pool, job_id) for job_id in ledgers.of]

    monkeypatch.setattr(listing, "MAX_ENTRIES", 10)
    job_id = await start(deps, "http://site.test/list", max_pages=1)
    worker, visit = await held_list(deps, job_id, [Entry(f"http://site.test/{n}") for n in range(2_100)])
    closing = await add_listed(deps, replace(visit, skipped={BEYOND: 3}))
    await close(deps, worker, closing)
    of_list = await count_urls(deps.pool, job_id)

    told = {"budget": MAX_LINKS, BEYOND: 7}
    assert beyond == [("created", told), ("unchanged", told)]
    assert [(job.urls_met, job.beyond) for job in counted] == [(1 + MAX_LINKS, 7)] * 2
    # Of the list a thousand were let to wait, which is more than enough.
    assert closing.skipped == {"budget": 1_000, BEYOND: 3 + 1_100}
    assert (of_list.urls_met, of_list.beyond) == (1 + 1_000, 3 + 1_100)


async def test_retry_reads_a_failed_list_and_visits_only_what_was_never_met(deps: Deps) -> None:
    ledgers = Ledgers(deps.pool)
    answers: Answers = {"/": page, "/a": page, "/list": lambda: web.Response(status=403)}
    async with serving(answers) as site:
        first = await crawled(deps, f"{site.url}/", ledgers=ledgers, url_lists=[f"{site.url}/list"])
        [job_id] = ledgers.of
        site.answers["/list"] = lambda: web.Response(text=f"{site.url}/\n{site.url}/a\n")
        second = uuid4()
        rules = CrawlOptions(same_site=True)
        command = CrawlStart(job_id=second, revision=1, seeds=(site.url,), options=rules, retry_of=job_id)
        await start_crawl(deps, command)
        async with working(deps.pool):
            await done(deps.pool)
        await ledgers.check()
    [read] = [one for one in ledgers.of[second].finished.values() if one.reason == "list"]

    assert first.reasons == Counter(http_403=1)
    assert paths(site, ledgers.of[second]) == {"/a"}
    assert read.skipped_links == {"known": 1}


MANY = [Entry(f"http://site.test/{number}") for number in range(3_500)]


@pytest.mark.parametrize(("max_pages", "kept"), [(None, 3_500), (2_200, 2_200)])
async def test_long_list_joins_its_job_some_at_a_time_and_as_a_whole(
    deps: Deps, max_pages: int | None, kept: int
) -> None:
    job_id = await start(deps, "http://site.test/list", max_pages=max_pages)
    worker, visit = await held_list(deps, job_id, MANY)
    closing = await add_listed(deps, visit)
    await close(deps, worker, closing)
    after_the_list = await deps.pool.fetchval("SELECT count(*) FROM queue")
    await worker.crawl()
    ledgers = Ledgers(deps.pool)
    await ledgers.check()
    ledger = ledgers.of[job_id]

    assert after_the_list == 1_000
    assert len(ledger.saved) == kept
    assert max(len(one.spawned) for one in ledger.finished.values()) == 1_000
    budget = sum(one.skipped_links.get("budget", 0) for one in ledger.finished.values())
    # The list itself held a place while it was read.
    assert budget == (0 if max_pages is None else 3_500 - kept + 1)


async def test_list_that_is_read_again_after_a_crash_brings_nothing_twice(deps: Deps) -> None:
    job_id = await start(deps, "http://site.test/list")
    worker, visit = await held_list(deps, job_id, MANY[:1_500])
    await add_listed(deps, replace(visit, listed=visit.listed[:1_200]))
    closing = await add_listed(deps, visit)
    await close(deps, worker, closing)
    await check_frontier(deps.pool)
    await worker.crawl()
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert len(ledgers.of[job_id].saved) == 1_500


async def test_list_of_a_cancelled_job_brings_nothing(deps: Deps) -> None:
    job_id = await start(deps, "http://site.test/list")
    _, visit = await held_list(deps, job_id, MANY[:10])
    await deps.pool.execute("UPDATE jobs SET status = 'cancelled'")
    await add_listed(deps, visit)

    assert await deps.pool.fetchval("SELECT count(*) FROM waiting") == 0


async def test_page_is_created_then_unchanged_then_updated_then_gone_and_back(deps: Deps) -> None:
    answer = {"now": lambda: page("/linked", text="one")}

    def validated() -> web.Response:
        response = answer["now"]()
        response.headers["ETag"] = '"1"'
        return response

    changes = []
    ledgers = Ledgers(deps.pool)
    async with serving({"/a": validated, "/linked": page}) as site:

        async def crawl() -> Ledger:
            ledger = await crawled(deps, f"{site.url}/a", ledgers=ledgers)
            changes.append({saved.source_url[-1]: saved.change.value for saved in ledger.documents}.get("a"))
            return ledger

        await crawl()
        site.not_modified = {'"1"'}
        second = await crawl()
        site.not_modified = set()
        answer["now"] = lambda: page("/linked", text="two")
        await crawl()
        answer["now"] = lambda: web.Response(status=410)
        fourth = await crawl()
        gone_at = await deps.pool.fetchval("SELECT gone_at FROM documents WHERE gone_at IS NOT NULL")
        content = await deps.pool.fetchval("SELECT content FROM documents WHERE url LIKE '%/a'")
        answer["now"] = lambda: page("/linked", text="two")
        await crawl()

    assert changes == ["created", "unchanged", "updated", None, "unchanged"]
    assert paths(site, second) == {"/a", "/linked"}  # the links are known, too
    assert fourth.reasons == Counter(gone=1)
    assert gone_at is not None
    assert gone_at <= datetime.now(UTC)
    assert "two" in content
    assert await deps.pool.fetchval("SELECT count(*) FROM documents WHERE gone_at IS NOT NULL") == 0


@pytest.mark.parametrize(
    ("options", "status"),
    [({}, 304), ({"revalidate": False}, 200), ({"markdown": False}, 200), ({"robots_tags": False}, 200)],
)
async def test_known_document_is_asked_about_only_where_it_would_be_the_same(
    deps: Deps, options: dict[str, object], status: int
) -> None:
    ledgers = Ledgers(deps.pool)
    async with serving({"/a": page}) as site:
        await crawled(deps, f"{site.url}/a", ledgers=ledgers)
        document_id = urls.document_id(f"{site.url}/a")
        await deps.pool.execute("UPDATE documents SET last_modified = 'Mon, 02 Mar 2026 00:00:00 GMT', etag = '\"1\"'")
        site.not_modified = {'"1"'}
        ledger = await crawled(deps, f"{site.url}/a", ledgers=ledgers, **options)
    [finished] = ledger.finished.values()

    assert (finished.status_code, finished.document_id) == (status, document_id)


async def test_unchanged_document_that_was_deleted_meanwhile_is_fetched(deps: Deps) -> None:
    async with serving({"/a": page}) as site:
        await crawled(deps, f"{site.url}/a")
        await deps.pool.execute("UPDATE documents SET etag = '\"1\"'")
        site.not_modified = {'"1"'}
        site.open.clear()
        job_id = await start(deps, f"{site.url}/a")
        async with working(deps.pool):
            await site.asked(2)
            await deps.pool.execute("DELETE FROM job_documents")
            await deps.pool.execute("DELETE FROM documents")
            site.open.set()
            await done(deps.pool)
    ledgers = Ledgers(deps.pool)
    await ledgers.read()

    assert [saved.change for saved in ledgers.of[job_id].documents] == ["created"]


async def test_unchanged_document_that_is_deleted_before_it_is_kept_is_fetched(deps: Deps) -> None:
    worker = SimulatedWorker(deps, {"http://kept.test/": WebPage()})
    job_id = await start(deps, "http://kept.test/")
    await worker.claim()
    work = worker.finish()
    work.visits = [replace(visit, document=KeptDocument("", "0" * 64, (), (), 0)) for visit in work.visits]
    await on_work(deps, work)
    await worker.crawl()
    ledgers = Ledgers(deps.pool)
    await ledgers.check()

    assert [saved.change for saved in ledgers.of[job_id].documents] == ["created"]
