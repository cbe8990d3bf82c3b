"""Heavy pages are parsed in a process of their own, which one page can end but not the next."""

import asyncio
import gc
import json
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import pytest
from crawler import parser_process
from crawler.isolation import PAGES_PER_PROCESS, IsolatedParser, ParsingFailedError
from crawler.parsing import ToParse, parse
from crawler.sitemaps import read_list
from made_up_pdf import pdf

URL = "https://example.com/files/a%20b.pdf"
# Takes any machine more than a tenth of a second, and none more than ten.
HEAVY = b"<p>text and words that go on and on " * 250_000


def html(body: bytes, **options: bool) -> ToParse:
    return ToParse(body, "text/html; charset=utf-8", URL, **options)


def pdf_file(body: bytes) -> ToParse:
    return ToParse(body, "application/pdf", URL)


@pytest.fixture
async def parser() -> AsyncIterator[IsolatedParser]:
    async with IsolatedParser() as parser:
        yield parser


def process_of(parser: IsolatedParser) -> Process:
    process = parser._process
    assert process
    return process


async def failure(parser: IsolatedParser, page: ToParse) -> str:
    with pytest.raises(ParsingFailedError) as failed:
        await parser.parse(page)
    return failed.value.reason


@pytest.mark.parametrize(
    "page",
    [
        html(
            b"<html lang=en><title>T</title><meta name=author content=A><main>a <b>b</b> <a href=x>c</a>",
            keep_html=True,
        ),
        html("é\ud7ff".encode(), markdown=False),
        ToParse(b"a\nb", "text/plain", URL),
        pdf_file(pdf("Hello", "World", title="T")),
    ],
    ids=["html", "text only", "plain text", "pdf"],
)
async def test_page_is_parsed_there_as_it_would_be_here(parser: IsolatedParser, page: ToParse) -> None:
    assert await parser.parse(page) == parse(page)


@pytest.mark.parametrize(
    "body",
    [
        b"<urlset><url><loc>/a</loc><lastmod>2026-01-02</lastmod></url><url><loc>/b</loc></url></urlset>",
        b"<urlset><url><loc>/a</loc><lastmod>2026-01-02T00:00:00+23:59:59.5</lastmod></url></urlset>",
        b"<sitemapindex><sitemap><loc>/a.xml</loc></sitemap></sitemapindex>",
        b"<html>no list",
    ],
    ids=["sitemap", "odd zone", "index", "none"],
)
async def test_list_is_read_there_as_it_would_be_here(parser: IsolatedParser, body: bytes) -> None:
    assert await parser.read_list(body, URL) == read_list(body, URL)


async def test_page_that_takes_too_long_costs_that_page_only() -> None:
    async with IsolatedParser(seconds=0.05) as impatient:
        assert await failure(impatient, html(HEAVY)) == "parser_timeout"

        impatient._seconds = 30.0
        assert (await impatient.parse(html(b"<title>next"))).title == "next"


async def test_page_that_takes_all_memory_costs_that_page_only(parser: IsolatedParser) -> None:
    bomb = pdf(streams=[b"q " * 25_000_000])  # a hundred thousand bytes that save the graphics state without end

    assert await failure(parser, pdf_file(bomb)) in ("parser_crash", "parser_memory", "parser_timeout")
    assert (await parser.parse(html(b"<title>next"))).title == "next"


async def test_process_that_is_killed_costs_the_page_that_it_parsed_only(parser: IsolatedParser) -> None:
    await parser.parse(html(b"<p>first"))
    parsing = asyncio.create_task(failure(parser, html(HEAVY)))
    await asyncio.sleep(0)  # it has begun to send the page
    os.kill(process_of(parser).pid, signal.SIGKILL)

    assert await parsing == "parser_crash"
    assert (await parser.parse(html(b"<title>next"))).title == "next"


async def test_answer_to_a_cancelled_request_is_not_taken_for_another(parser: IsolatedParser) -> None:
    await parser.parse(html(b"<p>first"))
    cancelled = asyncio.create_task(parser.parse(html(b"<title>cancelled" + HEAVY)))
    await asyncio.sleep(0)
    cancelled.cancel()

    assert (await parser.parse(html(b"<title>next"))).title == "next"
    assert cancelled.cancelled()


async def test_loop_goes_on_while_a_heavy_page_is_parsed(parser: IsolatedParser) -> None:
    await parser.parse(html(b"<p>first"))
    parsing = asyncio.create_task(parser.parse(html(HEAVY, markdown=False)))
    gc.disable()  # of all that other tests have left
    try:
        longest, before = 0.0, time.thread_time()
        while not parsing.done():
            await asyncio.sleep(0.001)  # the loop's other work
            now = time.thread_time()
            longest, before = max(longest, now - before), now
    finally:
        gc.enable()
    started = time.thread_time()
    parse(html(HEAVY, markdown=False))

    # Of the work that it would be here, no step of the loop does more than a part: it sends and reads 10 MB.
    assert longest < (time.thread_time() - started) / 4


async def test_process_is_replaced_now_and_then_and_ends_with_the_parser() -> None:
    async with IsolatedParser() as parser:
        await parser.parse(html(b"1"))
        first = process_of(parser)
        for _ in range(PAGES_PER_PROCESS):
            await parser.parse(html(b"2"))
        last = process_of(parser)

    assert first.returncode is not None
    assert last.pid != first.pid
    assert last.returncode is not None


async def test_process_sees_no_secrets(parser: IsolatedParser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    await parser.parse(html(b"1"))

    assert b"secret" not in Path(f"/proc/{process_of(parser).pid}/environ").read_bytes()


async def test_process_ends_when_nobody_is_left_to_ask(parser: IsolatedParser) -> None:
    await parser.parse(html(b"1"))
    process = process_of(parser)
    assert process.stdin
    process.stdin.close()

    assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.mark.parametrize(
    ("page", "is_light"),
    [
        (html(b"<p>text" * 3_000), True),
        (html(b"<p>text" * 5_000), False),
        (html(b"text " * 50_000), True),
        (html(b"text " * 60_000), False),
        (pdf_file(b"%PDF-"), False),
        (ToParse(b"%PDF-1.7", "text/html", URL), False),
    ],
)
def test_only_light_pages_are_parsed_between_other_things(page: ToParse, is_light: bool) -> None:
    assert page.is_light is is_light


def test_pdf_is_a_document() -> None:
    parsed = parse(
        pdf_file(pdf("Head\nsecond line", "next page", title="A title", author="A. Author", created="D:20240102"))
    )

    assert (parsed.title, parsed.content) == ("A title", "Head\nsecond line\n\nnext page")
    assert parsed.metadata == {"pages": "2", "author": "A. Author", "published_at": "2024-01-02T00:00:00"}


def test_pdf_without_a_title_is_called_by_its_file() -> None:
    assert parse(pdf_file(pdf("text"))).title == "a b.pdf"


async def test_pdf_is_kept_whatever_it_says_about_itself(parser: IsolatedParser) -> None:
    broken = pdf("Text", title="AB").replace(b"(AB)", b"<FEFFD800>")  # half a character
    parsed = await parser.parse(pdf_file(broken))

    assert (parsed.title, parsed.content) == ("a b.pdf", "Text")


def test_reason_of_another_error_is_none_of_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser_process, "parse", lambda _: b"\xff".decode())  # a UnicodeError has a `reason`, too
    answer = parser_process._answer(b'{"length": 1, "content_type": "text/html", "url": "http://a/"}', BytesIO(b"x"))

    assert json.loads(answer)["failed"] == "parser_error"


@pytest.mark.parametrize("body", [b"%PDF-", b"%PDF-1.7 junk", b"<html>not found</html>", pdf("text")[:200]])
async def test_damaged_pdf_fails_with_its_reason(parser: IsolatedParser, body: bytes) -> None:
    assert await failure(parser, pdf_file(body)) == "pdf_damaged"


@pytest.mark.parametrize(
    ("created", "published_at"),
    [
        ("D:2024", "2024-01-01T00:00:00"),
        ("D:20240102030405", "2024-01-02T03:04:05"),
        ("D:20240102030405Z", "2024-01-02T03:04:05+00:00"),
        ("D:20240102030405Z00'00'", "2024-01-02T03:04:05+00:00"),
        ("D:20240102030405+05'30'", "2024-01-02T03:04:05+05:30"),
        ("D:20240102030405-08'00", "2024-01-02T03:04:05-08:00"),
        ("D:20240102030405+99'99'", None),
        ("D:20241302", None),
        ("yesterday", None),
    ],
)
def test_date_of_a_pdf_has_the_zone_that_it_names(created: str, published_at: str | None) -> None:
    parsed = parse(pdf_file(pdf("text", created=created)))

    assert parsed.metadata.get("published_at") == published_at
