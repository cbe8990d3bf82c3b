"""The example of docs/javascript-client.md does what its page says, through a cut connection."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Browser, ConsoleMessage
from tallyho_contracts.documents import Document
from tallyho_contracts.jobs import Job

pytestmark = pytest.mark.asyncio(loop_scope="session")

GUIDE = Path(__file__).parents[2] / "docs" / "javascript-client.md"


async def test_example_of_the_guide_follows_a_job_to_its_end(
    browser: Browser, gateway: Any, job: Callable[..., Job], document: Callable[..., Document]
) -> None:
    found = re.search(r"```js\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found
    example = found[1].replace("http://127.0.0.1:8080", gateway.url)
    example = re.sub(r"import (.*?) from .*?;", 'const \\1 = await import("/static/tallyho.js");', example)
    page = await browser.new_page()
    lines: list[str] = []
    running = asyncio.Event()

    def on_line(line: ConsoleMessage) -> None:
        lines.append(line.text)
        if line.text == "2 documents, running":
            running.set()

    page.on("console", on_line)
    await page.goto(f"{gateway.url}/v1/openapi.json")  # a page of this origin without a script of its own

    end = asyncio.create_task(page.evaluate(f"(async () => {{ {example} }})()"))
    while not gateway.created:
        await asyncio.sleep(0)
    number = 9001
    gateway.save(number, document(number, 1), document(number, 2))
    gateway.show(job(number, 2, "running", running=1, completed=2))
    await running.wait()
    gateway.cut()
    gateway.save(number, document(number, 3))
    gateway.show(job(number, 3, "completed", completed=3))
    await end
    await page.close()

    assert gateway.jobs[UUID(int=number)].status == "completed"
    told = [line for line in lines if "documents," in line]
    assert told[-1] == "3 documents, completed"
    assert [line for line in lines if "example.com" in line and "Failed" not in line] == [
        f"{ordinal} https://example.com/page-{ordinal}" for ordinal in (1, 2, 3)
    ]
