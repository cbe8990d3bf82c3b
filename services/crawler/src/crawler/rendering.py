"""Pages as they are after their scripts have run, in a browser that has no way to the network of its own.

Each request of a page comes here and is answered by the crawler's own `Fetcher`, which connects to no address that it
has not checked. Whatever would go past that (WebSockets, WebRTC, prefetching) is given a proxy that does not exist and
a resolver that knows no name.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from playwright.async_api import Browser, BrowserContext, Page, Request, Route, async_playwright
from playwright.async_api import Error as BrowserError

from crawler import urls
from crawler.fetch import Failed, Fetched, Fetcher, Redirected, Result
from crawler.parsing import ToParse
from crawler.politeness import OriginUnreachableError, Politeness
from crawler.visit import FetchingBrokenError

T = TypeVar("T")

MAX_REQUESTS = 200
MAX_REDIRECTS = 10
# After a page has loaded, so long for what its scripts still fetch.
QUIET_SECONDS = 3.0
# Of the time for a page, so much for one part of it: a page waits for its scripts, and can do without one that hangs.
PART_SHARE = 1 / 3
# A browser that takes longer to open or close a page does nothing any more.
ANSWER_SECONDS = 20.0
# Memory that a browser does not give back ends with it.
PAGES_PER_BROWSER = 200
_TYPES = frozenset(("document", "script", "xhr", "fetch", "stylesheet"))  # nothing else changes a page's text
_METHODS = frozenset(("GET", "HEAD"))  # a crawler changes nothing
_ARGUMENTS = (
    "--proxy-server=http://127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disable-background-networking",
)
# No event tells of that when a navigation was refused before.
_COMPLETE = """new Promise(done => {
  const look = () => document.readyState === "complete" ? done() : setTimeout(look, 50)
  look()
})"""
# What links mean can lie in an address that a script gave the page, or in an encoding that is not kept; what components
# show lies in their shadow roots. A source that is too large stays in the page: it can end the driver.
_SOURCE = """((url, limit) => {
  if (document.URL.split("#")[0] !== url) {
    const base = document.createElement("base")
    base.href = document.baseURI
    document.head?.prepend(base)
  }
  if (document.characterSet !== "UTF-8") for (const link of document.links) link.setAttribute("href", link.href)
  const doctype = document.doctype ? new XMLSerializer().serializeToString(document.doctype) : ""
  const html = document.documentElement
  const shadowRoots = []
  const collect = root => {
    for (const { shadowRoot } of root.querySelectorAll("*")) if (shadowRoot) {
      shadowRoots.push(shadowRoot)
      collect(shadowRoot)
    }
  }
  collect(document)
  const source = doctype + (shadowRoots.length
    ? html.cloneNode(false).outerHTML.replace(/<.html>$/, end => html.getHTML({ shadowRoots }) + end)
    : html?.outerHTML ?? "")
  return source.length > limit ? null : source
})"""


class Renderer:
    """Fetches pages and lets their scripts run; use it as an async context manager."""

    def __init__(
        self, fetcher: Fetcher, public: Fetcher, politeness: Politeness, *, chromium: str | None, seconds: float
    ) -> None:
        """`fetcher` fetches pages and what they ask of their own origins, `public` what they ask of others.

        `chromium` is the program, None for Playwright's own; `seconds` bound the rendering of one page.
        """
        self.user_agent = fetcher.user_agent
        self._fetcher = fetcher
        self._public = public
        self._politeness = politeness
        self._chromium = chromium
        self._seconds = seconds
        self._open = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._browser: Browser | None = None
        self._rendered = 0
        self._pages: Counter[Browser] = Counter()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(self._public)
            self._playwright = await opened.enter_async_context(async_playwright())
            self._browser = await self._launched()
            self._open = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._browser:
            with suppress(FetchingBrokenError):
                await _answered(self._browser.close())
        await self._open.aclose()

    async def fetch(self, url: str) -> Result:
        """Fetch a canonical URL once; an HTML page as it is after its scripts, everything else as it comes.

        Raises FetchingBrokenError.
        """
        fetched = await self._fetcher.fetch(url)
        if not isinstance(fetched, Fetched) or not ToParse(fetched.body, fetched.content_type, url).is_html:
            return fetched
        try:
            browser = await self._started()
            try:
                part_seconds = self._seconds * PART_SHARE
                requests = _Requests(self._fetcher, self._public, self._politeness, part_seconds, url, fetched)
                return await self._rendered_page(browser, requests)
            finally:
                self._pages[browser] -= 1
                await self._close_unused(browser)
        except TimeoutError:
            return Failed("render_timeout", fetched.status)
        except BrowserError:
            return Failed("render_failed", fetched.status, retry=True)

    async def _started(self) -> Browser:
        async with self._starting:
            if self._browser is None or self._rendered == PAGES_PER_BROWSER or not self._browser.is_connected():
                before, self._browser, self._rendered = self._browser, await self._launched(), 0
                if before:
                    await self._close_unused(before)
            self._rendered += 1
            self._pages[self._browser] += 1
            return self._browser

    async def _close_unused(self, browser: Browser) -> None:
        if browser is not self._browser and not self._pages[browser]:
            del self._pages[browser]
            await _answered(browser.close())

    async def _launched(self) -> Browser:
        # Chromium's own sandbox does not work for root.
        is_sandboxed = os.geteuid() != 0
        try:
            return await self._playwright.chromium.launch(
                executable_path=self._chromium, args=_ARGUMENTS, chromium_sandbox=is_sandboxed
            )
        except BrowserError as error:  # a driver that died does not come back
            raise FetchingBrokenError("no browser can be started: does CRAWLER_CHROMIUM name one?") from error

    async def _context(self, browser: Browser) -> BrowserContext:
        try:
            return await _answered(
                browser.new_context(
                    user_agent=self.user_agent,
                    service_workers="block",
                    accept_downloads=False,
                    ignore_https_errors=True,
                )
            )
        except BrowserError:
            if browser is self._browser:  # it says that it is connected even when its driver has died
                self._browser = None
            raise

    async def _rendered_page(self, browser: Browser, requests: "_Requests") -> Result:
        fetched = requests.fetched
        context = await self._context(browser)
        try:
            async with asyncio.timeout(self._seconds):
                await context.route("**/*", requests.answer)
                page = requests.page = await context.new_page()
                page.on("dialog", lambda dialog: dialog.dismiss())
                await page.goto(requests.url, wait_until="commit", timeout=0)
                run = await _beside_scripts(page)
                await run(_COMPLETE)
                with suppress(BrowserError):  # it never becomes quiet: what is there by then is taken
                    await page.wait_for_load_state("networkidle", timeout=QUIET_SECONDS * 1000)
                if requests.left_for:
                    return Redirected(fetched.status, requests.left_for)
                limit = self._fetcher.max_body_bytes
                source: str | None = await run(f"{_SOURCE}({json.dumps(requests.url)}, {limit})")
        finally:
            with suppress(BrowserError):
                await _answered(context.close())
        body = None if source is None else source.encode("utf-8", "replace")
        if body is None or len(body) > limit:
            return Failed("too_large", fetched.status)
        return replace(fetched, body=body, content_type="text/html; charset=utf-8")


async def _answered(answer: Awaitable[T]) -> T:
    """Wait for what takes a browser no time. Raises FetchingBrokenError."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await answer
    except TimeoutError as error:
        raise FetchingBrokenError("the browser does not answer") from error


async def _beside_scripts(page: Page) -> Callable[[str], Awaitable[Any]]:
    """What runs an expression in a page where the page's own scripts can change nothing that it uses."""
    session = await page.context.new_cdp_session(page)
    frame = (await session.send("Page.getFrameTree"))["frameTree"]["frame"]["id"]
    world = (await session.send("Page.createIsolatedWorld", {"frameId": frame}))["executionContextId"]
    options = {"contextId": world, "returnByValue": True, "awaitPromise": True}

    async def run(expression: str) -> Any:
        answer = await session.send("Runtime.evaluate", {"expression": expression, **options})
        return answer["result"].get("value")

    return run


@dataclass
class _Requests:
    """The requests of one page, at `url`, which was fetched already; `left_for` is where its scripts went instead.

    Its own origin is asked by `fetcher`, which may be let into private networks, all others by `public`.
    """

    fetcher: Fetcher
    public: Fetcher
    politeness: Politeness
    part_seconds: float
    url: str
    fetched: Fetched
    page: Page | None = None
    is_shown: bool = False
    left_for: str | None = None
    number: int = 0
    bytes_left: int = 0

    def __post_init__(self) -> None:
        self.bytes_left = 2 * self.fetcher.max_body_bytes

    async def answer(self, route: Route) -> None:
        """Answer a request of the page from the network, or refuse it."""
        request = route.request
        try:
            if not request.is_navigation_request() or request.frame.parent_frame is not None:
                found = await self._part(request)
            else:
                # A window that the page has opened is no page of the crawl.
                found = self._page(request) if request.frame.page is self.page else None
            if found is None:
                # An aborted navigation leaves the page as it is, a failed one shows an error instead.
                return await route.abort("aborted" if request.is_navigation_request() else "failed")
            # What is public is neither secret nor personal, so all may read it. The page's own may not be public.
            reader = urls.origin(self.url) if self._is_own(request.url) else request.headers.get("origin", "*")
            allowed = {"Access-Control-Allow-Origin": reader, "Access-Control-Allow-Credentials": "true"}
            headers = {"Content-Type": found.content_type, **allowed}
            return await route.fulfill(status=found.status, headers=headers, body=found.body)
        except BrowserError:  # the page is gone, or was never there
            with suppress(BrowserError):
                await route.abort()

    def _page(self, request: Request) -> Fetched | None:
        if not self.is_shown:
            self.is_shown = True
            return self.fetched
        url = urls.canonical(request.url)
        if url and url != self.url and request.method == "GET":
            self.left_for = self.left_for or url
        return None

    async def _part(self, request: Request) -> Fetched | None:
        self.number += 1
        is_wanted = request.resource_type in _TYPES and request.method in _METHODS
        url = urls.canonical(request.url)
        if not url or not is_wanted or self.number > MAX_REQUESTS:
            return None
        try:
            async with asyncio.timeout(self.part_seconds):
                return await self._found(url, request.headers.get("accept"))
        except TimeoutError:
            return None

    def _is_own(self, url: str) -> bool:
        canonical = urls.canonical(url)
        return canonical is not None and urls.origin(canonical) == urls.origin(self.url)

    async def _found(self, url: str, accept: str | None) -> Fetched | None:
        fetcher = self.fetcher
        for _ in range(MAX_REDIRECTS):
            if not self._is_own(url):
                # For good: it may lead back to the page's origin, on behalf of a frame of another one.
                fetcher = self.public
            try:
                robots = await self.politeness.robots(urls.origin(url))
            except OriginUnreachableError:
                return None
            if not robots.allows(url) or self.bytes_left <= 0:
                return None
            result = await fetcher.fetch(url, first_bytes=self.bytes_left, accept=accept)
            if isinstance(result, Fetched):
                self.bytes_left -= len(result.body)
                return result if self.bytes_left >= 0 else None  # others were fetched at the same time
            if not isinstance(result, Redirected):
                return None
            url = result.target
        return None
