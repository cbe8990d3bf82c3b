"""The unmodified @mendable/firecrawl-js package against the running system, run by Node."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sites import endless_site, made_up_site
from tallyho.system import System
from tallyho_backing_services.cache import cache_folder, locked

PACKAGE = "@mendable/firecrawl-js"
VERSION = "4.42.0"
INSTALL_SECONDS = 180
DRIVER = Path(__file__).with_name("firecrawl.mjs")


@pytest.fixture(scope="session")
def package() -> Path:
    """The package's module, installed by npm once a machine."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("the JavaScript package needs node and npm")
    folder = cache_folder() / f"firecrawl-js-{VERSION}"
    module = folder / "node_modules" / PACKAGE / "dist" / "index.js"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not module.exists():
            folder.mkdir(exist_ok=True)
            install = [
                "npm",
                "install",
                "--no-save",
                "--no-package-lock",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
            ]
            command = [*install, "--prefix", str(folder), f"{PACKAGE}@{VERSION}"]
            installed = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
            if installed.returncode:
                pytest.skip(f"npm can't install {PACKAGE}: {installed.stderr.strip()[-300:]}")
    return module


class Client:
    """Calls of the package, each in a process of its own."""

    def __init__(self, package: Path, gateway: str) -> None:
        self._environment = {**os.environ, "FIRECRAWL_JS": str(package), "FIRECRAWL_API_URL": gateway}

    async def outcome(self, method: str, *arguments: object, node_options: Sequence[str] = ()) -> dict[str, Any]:
        """What the call returned or threw."""
        process = await asyncio.create_subprocess_exec(
            *("node", *node_options, str(DRIVER), method, json.dumps(arguments)),
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 90)
        assert out, err.decode()
        outcome: dict[str, Any] = json.loads(out)
        return outcome

    async def call(self, method: str, *arguments: object, node_options: Sequence[str] = ()) -> Any:
        """What the call returned."""
        outcome = await self.outcome(method, *arguments, node_options=node_options)
        assert "error" not in outcome, outcome
        return outcome["result"]


@pytest.fixture
def client(package: Path, system: System) -> Client:
    return Client(package, system.url)


def pages_of(site: str, number: int) -> list[str]:
    """The addresses of the documents of a made-up site, in alphabetical order."""
    return sorted([site, *(f"{site}{page}.html" for page in range(1, number))])


def urls_of(documents: Sequence[Any]) -> list[str]:
    return sorted(document["metadata"]["sourceURL"] for document in documents)


async def test_crawl_returns_exactly_the_documents_of_the_site(client: Client) -> None:
    with made_up_site(150) as site:
        job = await client.call("crawl", site, {"limit": 500, "scrapeOptions": {"formats": ["markdown"]}}, 1, 60)

    assert (job["status"], job["completed"], job["total"]) == ("completed", 150, 150)
    assert urls_of(job["data"]) == pages_of(site, 150)
    [seventh] = [one for one in job["data"] if one["metadata"]["sourceURL"] == f"{site}7.html"]
    assert seventh["markdown"].startswith("# Page 7\n")
    assert (seventh["metadata"]["title"], seventh["metadata"]["statusCode"]) == ("Page 7", 200)


async def test_started_crawl_is_read_page_by_page_cancelled_and_explained(client: Client) -> None:
    with endless_site(400, latency=0.1) as site:
        started = await client.call("startCrawl", site, {"limit": 500})
        first = await client.call("getCrawlStatus", started["id"])
        while (running := await client.call("getCrawlStatus", started["id"]))["completed"] < 110:
            assert running["status"] == "scraping"
        page = await client.call("getCrawlStatus", started["id"], {"autoPaginate": False})
        active = await client.call("getActiveCrawls")
        cancelled = await client.call("cancelCrawl", started["id"])
        job = await client.call("getCrawlStatus", started["id"])
        errors = await client.call("getCrawlErrors", started["id"])

    assert first["status"] == "scraping"
    assert len(set(urls_of(running["data"]))) == len(running["data"]) >= running["completed"]
    assert len(page["data"]) == 100
    assert page["next"] == f"{started['url']}?skip=100"
    assert [crawl["url"] for crawl in active["crawls"] if crawl["id"] == started["id"]] == [site]
    assert cancelled is True
    assert job["status"] == "cancelled"
    assert len(job["data"]) == job["completed"] < 400
    assert {error["url"] for error in errors["errors"]} <= {f"{site}missing-{page}.html" for page in range(400)}
    assert errors["robotsBlocked"] == []


async def test_what_is_not_supported_or_known_is_refused_with_a_reason(client: Client) -> None:
    refused = await client.outcome("startCrawl", "https://example.com", {"webhook": "https://example.com/hook"})
    unknown = await client.outcome("getCrawlStatus", "6f1d8a52-3c0e-4b7a-9a57-2d4e9f0b8c11")

    assert refused["error"]["status"] == 400
    assert refused["error"]["message"].startswith("webhook: is not supported: nobody is called back")
    assert unknown["error"]["status"] == 404
    assert unknown["error"]["code"] == "NOT_FOUND"


# Node 20 has a WebSocket only when it is told to; the package polls without one.
@pytest.mark.parametrize("node_options", [[], ["--experimental-websocket"]], ids=["polling", "websocket"])
async def test_watcher_sees_each_document_once(client: Client, node_options: list[str]) -> None:
    with made_up_site(300, latency=0.02) as site:
        started = await client.call("startCrawl", site, {})
        seen = await client.call(
            "watch", started["id"], {"kind": "crawl", "pollInterval": 1}, node_options=node_options
        )

    assert seen["errors"] == []
    assert urls_of(seen["documents"]) == pages_of(site, 300)
    assert (seen["done"]["status"], seen["done"]["completed"], seen["done"]["total"]) == ("completed", 300, 300)
    if node_options:
        assert seen["webSocket"]
        assert [snapshot["status"] for snapshot in seen["snapshots"]] == ["scraping"]  # the catch-up, and no polling
        assert seen["done"]["data"] == []


async def test_watcher_hears_that_a_crawl_was_cancelled(client: Client) -> None:
    with endless_site(400, latency=0.1) as site:
        started = await client.call("startCrawl", site, {})
        watching = asyncio.create_task(
            client.call("watch", started["id"], {"kind": "crawl"}, node_options=["--experimental-websocket"])
        )
        while (running := await client.call("getCrawlStatus", started["id"]))["completed"] < 20:
            assert running["status"] == "scraping"
        await client.call("cancelCrawl", started["id"])
        seen = await watching

    assert seen["done"]["status"] == "cancelled"
    assert seen["done"]["completed"] == len(seen["documents"]) < 400


async def test_watcher_of_a_crawl_that_fails_gets_an_error(client: Client) -> None:
    with made_up_site(1) as site:
        started = await client.call("startCrawl", f"{site}nowhere.html", {})
        seen = await client.call("watch", started["id"], {}, node_options=["--experimental-websocket"])

    assert seen["errors"] == ["no document was saved: 1 x http_404, 1 x no_list"]  # it looked for a sitemap, too
    assert seen["documents"] == []


async def test_snippet_of_the_documentation_runs(package: Path, system: System) -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "firecrawl.md").read_text()
    [snippet] = re.findall(r"```js\n(.*?)```", documentation, re.DOTALL)
    with made_up_site(20) as site:
        program = snippet.replace("http://localhost:8080", system.url).replace("https://example.com/docs/", site)
        process = await asyncio.create_subprocess_exec(
            *("node", "--input-type=module", "--eval", program), stdout=asyncio.subprocess.PIPE, cwd=package.parent
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)

    assert sorted(line.split()[0] for line in out.decode().splitlines()) == pages_of(site, 20)
