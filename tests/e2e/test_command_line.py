"""The command line as a user runs it, against the running system."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from sites import endless_site, made_up_site
from tallyho.system import System
from watched_site import until


@dataclass(frozen=True)
class Finished:
    code: int
    out: list[str]
    err: list[str]


async def tallyho(system: System, *arguments: str) -> Finished:
    """Run `tallyho` with `arguments` to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tallyho", *arguments),
        env={**os.environ, "TALLYHO_URL": system.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return Finished(process.returncode, out.decode().splitlines(), err.decode().splitlines())


async def test_crawl_as_json_prints_every_state_and_exits_0(system: System) -> None:
    with made_up_site(40) as site:
        ran = await tallyho(system, "crawl", site, "--json")

    states = [json.loads(line) for line in ran.out]
    assert ran.code == 0
    assert [state["status"] for state in states[-1:]] == ["completed"]
    assert states[-1]["document_count"] == 40
    assert "document_count" in states[0]


async def test_crawl_that_saves_nothing_exits_1(system: System) -> None:
    with made_up_site(1) as site:
        ran = await tallyho(system, "crawl", f"{site}nowhere.html")

    assert ran.code == 1


async def test_documents_of_a_job_are_printed_as_json_lines(system: System) -> None:
    with made_up_site(30) as site:
        crawled = await tallyho(system, "crawl", site, "--max-pages", "12", "--json")
        listed = await tallyho(system, "documents", json.loads(crawled.out[-1])["job_id"])

    assert [json.loads(line)["ordinal"] for line in listed.out] == list(range(1, 13))


async def test_text_of_a_document_is_printed(system: System) -> None:
    with made_up_site(3) as site:
        crawled = await tallyho(system, "crawl", site, "--json")
        listed = await tallyho(system, "documents", json.loads(crawled.out[-1])["job_id"])
        first = json.loads(listed.out[0])
        whole = await tallyho(system, "document", first["document_id"], "--json")
        text = await tallyho(system, "document", first["document_id"])
    unknown = await tallyho(system, "document", "00000000-0000-0000-0000-000000000000")

    stored = json.loads(whole.out[0])
    assert (stored["url"], stored["title"]) == (first["source_url"], first["title"])
    assert "\n".join(text.out).strip() == stored["content"].strip() != ""
    assert unknown.code == 2


async def test_log_of_an_ended_job_says_how_it_went(system: System) -> None:
    with made_up_site(1) as site:
        crawled = await tallyho(system, "crawl", f"{site}nowhere.html", "--json")
    job_id = json.loads(crawled.out[-1])["job_id"]

    async def ended() -> bool:
        return any("failed: no document was saved" in line for line in (await tallyho(system, "log", job_id)).out)

    await until(ended)  # the log is written beside the counts, and may come after them
    lines = [json.loads(line) for line in (await tallyho(system, "log", job_id, "--json")).out]

    assert [line["level"] for line in lines if line["message"] == "page failed: http_404"] == ["warning"]
    assert lines[0]["message"] == "submitted with 1 seed"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["crawl", "ftp://example.com/"], "seeds[0]"),
        (["crawl", "http://example.com/", "--include", "("], "include"),
        (["watch", "00000000-0000-0000-0000-000000000000"], "job"),
        (["cancel", "not-an-id"], "JOB"),
    ],
)
async def test_bad_input_is_one_line_that_names_the_field_and_exit_2(
    system: System, arguments: list[str], field: str
) -> None:
    ran = await tallyho(system, *arguments)

    assert ran.code == 2
    assert len(ran.err) == 1
    assert field in ran.err[0]


async def test_job_can_be_cancelled_while_it_is_watched(system: System) -> None:
    with endless_site(2000, latency=0.05) as site:
        watching = asyncio.create_task(tallyho(system, "crawl", site, "--json", "--name", "to be cancelled"))
        listed: list[dict[str, Any]] = []
        while not (listed and listed[0]["name"] == "to be cancelled" and listed[0]["document_count"]):
            assert not watching.done(), watching.result()
            listed = [json.loads(line) for line in (await tallyho(system, "jobs", "--json")).out]
        cancelled = await tallyho(system, "cancel", listed[0]["job_id"])
        ran = await watching

    last = json.loads(ran.out[-1])
    assert cancelled.code == 0
    assert ran.code == 1
    assert last["status"] == "cancelled"
    assert 0 < last["document_count"] < 2000
    assert last["pending_children"] == last["running_children"] == 0
