"""Pages that need JavaScript, crawled by a process with a real browser, which has no other way to the network."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from uuid import UUID

import pytest
from aiohttp import web
from crawler.extract import extract
from crawler.fetch import Failed, Fetched, Fetcher
from crawler.politeness import Politeness
from crawler.rendering import Renderer
from crawler.urls import document_id
from crawler.visit import FetchingBrokenError
from frontier_checks import Ledger
from made_up_pdf import pdf
from mailboxes import Mailbox, open_mailbox_of, send
from playwright.async_api import Page
from tallyho_contracts.crawls import CrawlOptions, CrawlStart
from tallyho_contracts.registry import COMMANDS
from tallyho_messaging.connection import Amqp
from tallyho_messaging.topology import TRACKER_EVENTS
from tallyho_messaging.wire import Malformed, decode, event_of
from tallyho_postgres.pool import Pool
from watched_site import done, until

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: `make chromium` installs it")

SHOP = """<!doctype html><html lang=en><title>Shop</title><main id=main>Loading…</main><script src=/shop.js></script>"""
SHOP_SCRIPT = """fetch("/api/items.json").then(answer => answer.json()).then(items => {
  document.title = "The shop"
  document.getElementById("main").innerHTML = items.map(item => `<p>${item.name} <a href="/item/${item.id}">see</a>`)
})"""
# Every way to another address that a script knows.
THIEF = """<!doctype html><title>Thief</title><main id=main></main><script>
const places = [PLACES]
const note = text => { document.getElementById("main").append(text + " ") }
const steal = async place => {
  for (const name of ["img", "iframe", "script", "object", "link"]) {
    const element = document.createElement(name)
    Object.assign(element, {src: place, data: place, href: place, rel: "prefetch"})
    document.body.append(element)
  }
  for (const way of [
    () => navigator.sendBeacon(place, "x"), () => new WebSocket(place.replace("http", "ws")),
    () => new EventSource(place), () => window.open(place), () => new Worker(place),
  ]) { try { way() } catch { note("refused") } }
  note("tried")
  try { note(await (await fetch(place, {mode: "no-cors", method: "POST", body: "x"})).type) } catch { note("refused") }
  try { note(await (await fetch(place)).text()) } catch { note("refused") }
}
const peer = new RTCPeerConnection({iceServers: [{urls: "stun:127.0.0.2:PORT"}]})
peer.createDataChannel("x")
peer.createOffer().then(offer => peer.setLocalDescription(offer))
navigator.serviceWorker?.register("/worker.js").catch(() => {})
places.forEach(steal)
</script>"""
LEAVER = """<!doctype html><title>Leaver</title><main>old</main><script>location.href = "/item/9"</script>"""

# On the operator's network, with a part of the internet and a frame of it; they want to know what they may not.
READER = """<!doctype html><title>Reader</title><main id=main></main><script>
const note = text => { document.getElementById("main").append(text + " ") }
const read = async place => { try { note(await (await fetch(place)).text()) } catch { note("refused") } }
addEventListener("message", event => note(event.data))
Promise.all(["/api/own", "PUBLIC/api/public", "PRIVATE/secret", "/away"].map(read))
document.body.append(Object.assign(document.createElement("iframe"), {src: "PUBLIC/frame"}))
</script>"""
FRAME = """<!doctype html><script>
const read = place => fetch(place).then(answer => answer.text(), () => "refused").then(text => "framed-" + text)
for (const place of ["/api/public", "OWN/secret", "/back"])
  read(place).then(text => parent.postMessage(text, "*"))
</script>"""
PART_BYTES = 64 * 1024
GLUTTON = """<!doctype html><title>Glutton</title><main id=main></main><script>
for (let part = 0; part < 40; part++)
  fetch(`/part/${part}`).then(answer => answer.text()).then(text => document.getElementById("main").append("got "))
</script>"""


# What scripts do besides writing a page, and what is kept of it.
HABITS = {
    "reloads": "location.reload()",
    "posts": "document.body.append(form); form.submit()",
    "mails": "location.href = 'mailto:shop@example.com'",
    "routes": "history.pushState({}, '', '/docs/start/'); main.innerHTML = '<a href=next>next</a>'",
    "negotiates": "fetch('/prices', {headers: {Accept: 'text/csv'}}).then(a => a.text()).then(t => main.append(t))",
    "encoded": "main.innerHTML = '<a href=\"/find?q=caf\\u00e9\">find</a>'",
    "grows": "main.textContent = '<'.repeat(3_000_000)",
    "waits": "document.write('<script src=/never></' + 'script><p>and after')",
    "shadows": """
    main.attachShadow({mode: 'open'}).innerHTML = '<h2>of a component</h2><slot></slot><div id=inner></div>'
    main.shadowRoot.querySelector('#inner').attachShadow({mode: 'open'}).innerHTML = '<a href=/deep>deep</a>'""",
}
HABIT = """<!doctype html><meta charset=windows-1252><title>Habit</title><main id=main>here</main>
<form id=form method=post action=/posted></form><script>SCRIPT</script>"""


class ScriptedSite:
    """A site whose pages are made by scripts; notes what is asked for, and at which of this machine's addresses."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, str]] = []
        self.datagrams = 0
        self.datagram_port = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request of the browser, or of the crawler for it."""
        assert request.transport
        address = request.transport.get_extra_info("sockname")[0].removeprefix("::ffff:")
        self.asked.append((address, request.method, request.path))
        port = request.url.port
        match request.path.split("/")[1]:
            case "shop.js":
                return web.Response(text=SHOP_SCRIPT, content_type="text/javascript")
            case "api":
                return web.json_response([{"id": number, "name": f"item {number}"} for number in range(3)])
            case "item":
                return web.Response(text=f"<title>{request.path}</title><main>an item", content_type="text/html")
            case "thief":
                hosts = "127.0.0.2", "[::1]", "[::ffff:7f00:1]"
                places = [*(f"http://{host}:{port}/secret" for host in hosts), f"{self.url}/away"]
                page = THIEF.replace("PLACES", ", ".join(map(json.dumps, places))).replace(
                    "PORT", str(self.datagram_port)
                )
                return web.Response(text=page, content_type="text/html")
            case "reader":
                page = READER.replace("PUBLIC", f"http://127.0.0.3:{port}").replace(
                    "PRIVATE", f"http://127.0.0.2:{port}"
                )
                return web.Response(text=page, content_type="text/html")
            case "prices":
                return web.Response(text=f"as {request.headers['Accept']}")
            case "habit":
                script = HABITS[request.path.split("/")[2]]
                return web.Response(body=HABIT.replace("SCRIPT", script).encode(), content_type="text/html")
            case "never":
                await asyncio.Event().wait()
                raise AssertionError
            case "untyped":
                return web.Response(body=pdf("a page"), headers={"Content-Type": ""})
            case "frame":
                return web.Response(text=FRAME.replace("OWN", self.url), content_type="text/html")
            case "back":
                return web.Response(status=302, headers={"Location": f"{self.url}/secret"})
            case "away":
                return web.Response(status=302, headers={"Location": f"http://127.0.0.2:{port}/secret"})
            case "glutton":
                return web.Response(text=GLUTTON, content_type="text/html")
            case "part":
                return web.Response(text="x" * PART_BYTES)
            case "leaver":
                return web.Response(text=LEAVER, content_type="text/html")
            case "":
                return web.Response(text=SHOP, content_type="text/html")
            case "robots.txt":
                return web.Response(status=404)
            case _:
                return web.Response(text="secret", headers={"Access-Control-Allow-Origin": "*"})


class Datagrams(asyncio.DatagramProtocol):
    """Counts what reaches a private port that is no HTTP."""

    def __init__(self, site: ScriptedSite) -> None:
        self.site = site

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Count it."""
        self.site.datagrams += 1


@asynccontextmanager
async def scripted_site() -> AsyncIterator[ScriptedSite]:
    """Serve the site on every address of this machine; the crawler may go to one of them."""
    site = ScriptedSite()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", site.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    everywhere = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    await web.SockSite(runner, everywhere).start()
    site.url = f"http://127.0.0.1:{everywhere.getsockname()[1]}"
    datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        partial(Datagrams, site), local_addr=("127.0.0.2", 0)
    )
    site.datagram_port = datagrams.get_extra_info("sockname")[1]
    try:
        yield site
    finally:
        datagrams.close()
        await runner.cleanup()


@asynccontextmanager
async def rendering_crawler(amqp_url: str, database_url: str, *, ends: int = 0) -> AsyncIterator[Process]:
    """A crawler that renders, which `ends` so, and one that does not, which must leave such pages to it."""
    settings = {"CRAWLER_CHROMIUM": CHROMIUM or "", "CRAWLER_ALLOWED_NETWORKS": '["127.0.0.1/32"]', "HEALTH_PORT": "0"}
    environment = os.environ | settings | {"AMQP_URL": amqp_url, "DATABASE_URL": database_url}
    command = sys.executable, "-m", "crawler"
    plain = await asyncio.create_subprocess_exec(*command, env=environment)
    rendering = await asyncio.create_subprocess_exec(*command, "render", env=environment)
    try:
        yield rendering
    finally:
        for process in (plain, rendering):
            if process.returncode is None:
                process.terminate()
        async with asyncio.timeout(20):
            assert [await process.wait() for process in (plain, rendering)] == [0, ends]


async def test_pages_made_by_scripts_are_crawled_and_reach_nothing_else(
    amqp: Amqp, amqp_url: str, database_url: str, crawler_pool: Pool
) -> None:
    async with scripted_site() as site, open_mailbox_of(amqp_url, TRACKER_EVENTS) as mailbox:
        crawls = {
            render: CrawlStart.model_validate(
                {
                    "job_id": f"00000000-0000-4000-8000-00000000000{number}",
                    "revision": 1,
                    "seeds": [f"{site.url}{path}" for path in ("/", "/thief", "/leaver")],
                    "options": CrawlOptions.model_validate({"render": render}),
                }
            )
            for number, render in enumerate(("browser", "none"))
        }
        ledgers = {crawl.job_id: Ledger() for crawl in crawls.values()}
        async with rendering_crawler(amqp_url, database_url):
            await send(amqp, COMMANDS, event_of(crawls["browser"], source="x", subject=crawls["browser"].job_id))
            await read(mailbox, ledgers, crawls["browser"])
            rows = await crawler_pool.fetch("SELECT document_id, title || ': ' || content AS text FROM documents")
            texts = {row["document_id"]: row["text"] for row in rows}
            rendered = {path: texts[document_id(site.url + path)] for path in ("/", "/thief")}
            await send(amqp, COMMANDS, event_of(crawls["none"], source="x", subject=crawls["none"].job_id))
            await read(mailbox, ledgers, crawls["none"])
        by_browser, plainly = (ledgers[crawls[render].job_id] for render in ("browser", "none"))
        paths = {page.url.removeprefix(site.url): page for page in by_browser.finished.values()}

    # What the scripts made is content, and what they link to is crawled.
    assert rendered["/"].startswith("The shop: item 0 [see]")
    assert {path for path in paths if path.startswith("/item/")} == {"/item/0", "/item/1", "/item/2", "/item/9"}
    assert paths["/leaver"].reason == "redirect"
    # Without a browser there is the loading page only.
    assert {page.url.removeprefix(site.url) for page in plainly.finished.values()} == {"/", "/thief", "/leaver"}
    # The thief's script tried everything, and got nothing: not by any way, nor by a redirect.
    assert rendered["/thief"].count("tried") == 4
    assert "secret" not in rendered["/thief"]
    assert {address for address, _, _ in site.asked} == {"127.0.0.1"}
    assert {method for _, method, _ in site.asked} == {"GET"}
    assert site.datagrams == 0
    assert "/worker.js" not in {path for _, _, path in site.asked}


async def test_page_reads_no_other_private_origin_and_no_frame_reads_its_own(crawler_pool: Pool) -> None:
    agent = "Tallyho/test"
    own, private, public = map(ip_network, ("127.0.0.1", "127.0.0.2", "127.0.0.3"))
    async with scripted_site() as site, Fetcher(user_agent=agent, allowed_networks=[own, private, public]) as fetcher:
        politeness = Politeness(crawler_pool, fetcher, user_agent=agent, host_delay=0.0)
        others = Fetcher(user_agent=agent, allowed_networks=[public])
        async with Renderer(fetcher, others, politeness, chromium=CHROMIUM, seconds=60.0) as renderer:
            result = await renderer.fetch(f"{site.url}/reader")

    assert isinstance(result, Fetched)
    text = result.body.decode().partition("<main")[2].partition("</main>")[0]
    # Its own data, those of a public origin, and those that the frame reads there.
    assert (text.count("item 0"), text.count("framed-[")) == (3, 1)
    # Another private origin, also by a redirect; and for the frame, the origin of the page.
    assert (text.count("refused"), text.count("framed-refused"), text.count("secret")) == (4, 2, 0)
    assert {path for address, _, path in site.asked if address == "127.0.0.2"} <= {"/robots.txt"}


@asynccontextmanager
async def rendering(
    pool: Pool, *, max_body_bytes: int = 1_000_000, seconds: float = 60.0
) -> AsyncIterator[tuple[ScriptedSite, Renderer]]:
    """The site, and a renderer in this process that may go there."""
    agent, own = "Tallyho/test", ip_network("127.0.0.1")
    fetcher = Fetcher(user_agent=agent, allowed_networks=[own], max_body_bytes=max_body_bytes)
    async with scripted_site() as site, fetcher:
        politeness = Politeness(pool, fetcher, user_agent=agent, host_delay=0.0)
        async with Renderer(
            fetcher, Fetcher(user_agent=agent), politeness, chromium=CHROMIUM, seconds=seconds
        ) as renderer:
            yield site, renderer


async def test_page_stays_as_it_is_when_its_scripts_lead_nowhere(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool) as (site, renderer):
        results = {habit: await renderer.fetch(f"{site.url}/habit/{habit}") for habit in ("reloads", "posts", "mails")}

    for habit, result in results.items():
        assert isinstance(result, Fetched), (habit, result)
        assert '<title>Habit</title></head><body><main id="main">here</main>' in result.body.decode()


async def test_links_mean_what_they_mean_in_the_browser(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool) as (site, renderer):
        found = [await renderer.fetch(f"{site.url}/habit/{habit}") for habit in ("routes", "encoded")]
        routes, encoded = (
            extract(result.body, result.content_type, site.url).links.urls
            for result in found
            if isinstance(result, Fetched)
        )

    # By the address that a script gave the page, and in the encoding that the page had.
    assert routes == (f"{site.url}/docs/start/next",)
    assert encoded == (f"{site.url}/find?q=caf%E9",)


async def test_data_come_in_the_form_that_a_script_asks_for(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/habit/negotiates")

    assert isinstance(result, Fetched)
    assert "hereas text/csv" in result.body.decode()


async def test_page_does_without_a_script_that_never_comes(crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crawler.rendering.PART_SHARE", 1 / 25)
    async with rendering(crawler_pool, seconds=25.0) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/habit/waits")

    assert isinstance(result, Fetched)
    assert "and after" in result.body.decode()


async def test_what_components_show_is_content_and_its_links_are_followed(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/habit/shadows")
        assert isinstance(result, Fetched)
        page = extract(result.body, result.content_type, f"{site.url}/")

    assert page.text == "of a component deep here"
    assert page.links.urls == (f"{site.url}/deep",)


async def test_browser_that_does_not_answer_any_more_ends_the_renderer(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.rendering.ANSWER_SECONDS", 0.5)
    others = await browsers()
    async with rendering(crawler_pool, seconds=2.0) as (site, renderer):
        frozen = await browsers() - others
        for browser in frozen:
            os.kill(int(browser), signal.SIGSTOP)
        with pytest.raises(FetchingBrokenError):
            await renderer.fetch(f"{site.url}/item/1")

    assert frozen
    assert not frozen & await browsers()


async def test_pdf_of_no_type_is_not_rendered(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/untyped")

    assert isinstance(result, Fetched)
    assert result.body.startswith(b"%PDF-")


async def test_page_that_became_too_large_stays_in_the_browser(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def content(_: Page) -> str:
        raise AssertionError("it would come through the driver, which it can end")

    monkeypatch.setattr(Page, "content", content)
    async with rendering(crawler_pool) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/habit/grows")

    assert result == Failed("too_large", 200)


async def test_browser_ends_once_another_has_taken_its_place(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.rendering.PAGES_PER_BROWSER", 2)
    others = await browsers()
    async with rendering(crawler_pool) as (site, renderer):

        async def is_alone() -> bool:
            return len(await browsers() - others) == 1

        await until(is_alone)
        for number in range(5):
            await renderer.fetch(f"{site.url}/item/{number}")
        await until(is_alone, seconds=10)


async def browsers() -> set[str]:
    """The browsers that this process has started."""
    drivers = await children_of(os.getpid(), "run-driver")
    return {browser for driver in drivers for browser in await children_of(driver, "chromium")}


async def children_of(pid: int | str, name: str) -> set[str]:
    """The processes that another has started, by their ids."""
    listing = await asyncio.create_subprocess_exec("pgrep", "-P", str(pid), "-f", name, stdout=asyncio.subprocess.PIPE)
    output, _ = await listing.communicate()
    return set(output.decode().split())


async def test_parts_that_a_page_asks_for_at_once_are_together_no_larger_than_two_pages(crawler_pool: Pool) -> None:
    async with rendering(crawler_pool, max_body_bytes=PART_BYTES) as (site, renderer):
        result = await renderer.fetch(f"{site.url}/glutton")

    assert isinstance(result, Fetched)
    assert 0 < result.body.partition(b"</main>")[0].count(b"got") <= 2


async def test_page_that_asks_for_very_many_parts_gets_the_first_ones(
    crawler_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crawler.rendering.MAX_REQUESTS", 5)
    async with rendering(crawler_pool) as (site, renderer):
        await renderer.fetch(f"{site.url}/glutton")

    assert sum(path.startswith("/part/") for _, _, path in site.asked) == 5


async def test_renderer_that_can_start_no_browser_any_more_ends(
    amqp: Amqp, amqp_url: str, database_url: str, crawler_pool: Pool
) -> None:
    async with scripted_site() as site, rendering_crawler(amqp_url, database_url, ends=1) as rendering:
        for number, path in enumerate(("/", "/item/1")):
            crawl = CrawlStart(
                job_id=UUID(int=number), revision=1, seeds=(site.url + path,), options=CrawlOptions(render="browser")
            )
            await send(amqp, COMMANDS, event_of(crawl, source="x", subject=crawl.job_id))
            if number == 0:
                await until(lambda: crawler_pool.fetchval("SELECT count(*) FROM documents"), seconds=60)
                await done(crawler_pool)
                os.kill(await driver_of(rendering), signal.SIGKILL)
        async with asyncio.timeout(60):
            await rendering.wait()
    left = await crawler_pool.fetch("SELECT url FROM queue")

    assert [row["url"] for row in left] == [f"{site.url}/item/1"]


async def driver_of(process: Process) -> int:
    """The process through which a crawler starts browsers."""
    (driver,) = await children_of(process.pid, "run-driver")
    return int(driver)


async def read(mailbox: Mailbox, ledgers: dict[UUID, Ledger], crawl: CrawlStart) -> None:
    """Read events until nothing of a crawl is open."""
    ledger = ledgers[crawl.job_id]
    while not ledger.starts or ledger.open:
        for message in await mailbox.receive(seconds=90):
            for event in decode(message.body, message.content_type, message.type):
                assert not isinstance(event, Malformed)
                ledgers[event.data.parent_job_id].read(event.data)
