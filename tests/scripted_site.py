"""A site whose pages are made by scripts, some of which try what they may not."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web
from made_up_pdf import pdf

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
