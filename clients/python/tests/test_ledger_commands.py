"""The ledger of a job on the command line and in both clients."""

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from tallyho import SyncTallyho

if TYPE_CHECKING:
    from clients.python.tests.conftest import Command, GatewayDouble


@pytest.fixture
def urls(gateway: "GatewayDouble") -> None:
    """A job that met five URLs."""
    kinds = [("completed", "created"), ("failed", "http_404"), ("skipped", "robots"), ("skipped", "off_site")]
    gateway.urls = [gateway.url_of(n, *kind) for n, kind in enumerate([*kinds, kinds[-1]], 1)]
    gateway.urls_met = 5


@pytest.mark.usefixtures("urls")
async def test_ledger_is_a_table_whose_last_line_is_the_sum(gateway: "GatewayDouble", command: "Command") -> None:
    ran = await command("ledger", str(gateway.job_id))
    ran_json = await command("ledger", str(gateway.job_id), "--json")
    lines = [line.split() for line in ran.out.splitlines()]

    assert (ran.code, ran_json.code) == (0, 0)
    assert lines[0] == ["1", "completed", "created"]
    assert lines[2] == ["2", "skipped", "off_site"]
    assert lines[-1] == ["5", "met"]
    assert sum(int(line[0]) for line in lines[:-1]) == 5
    assert json.loads(ran_json.out)["urls_met"] == 5


@pytest.mark.usefixtures("urls")
async def test_links_that_were_not_looked_at_come_after_the_sum(gateway: "GatewayDouble", command: "Command") -> None:
    gateway.beyond = 12
    ran = await command("ledger", str(gateway.job_id))

    assert [line.split()[:2] for line in ran.out.splitlines()[-2:]] == [["5", "met"], ["12", "not"]]


@pytest.mark.usefixtures("urls")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), [1, 2, 3, 4, 5]),
        (("--state", "skipped"), [3, 4, 5]),
        (("--reason", "off_site"), [4, 5]),
        (("--state", "failed", "--reason", "robots"), []),
    ],
)
async def test_urls_are_lines_of_json(
    gateway: "GatewayDouble", command: "Command", words: tuple[str, ...], expected: list[int]
) -> None:
    ran = await command("urls", str(gateway.job_id), *words)

    assert ran.code == 0
    assert [json.loads(line)["url"] for line in ran.out.splitlines()] == [f"http://site/{n}" for n in expected]


async def test_state_that_no_url_can_have_is_exit_2(gateway: "GatewayDouble", command: "Command") -> None:
    ran = await command("urls", str(gateway.job_id), "--state", "lost")

    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)


@pytest.mark.usefixtures("urls")
async def test_client_that_blocks_reads_the_ledger(gateway: "GatewayDouble") -> None:
    def read() -> tuple[int, list[str | None]]:
        with SyncTallyho(gateway.url) as client:
            return client.ledger(gateway.job_id).urls_met, [url.reason for url in client.urls(gateway.job_id)]

    met, reasons = await asyncio.to_thread(read)

    assert (met, len(reasons)) == (5, 5)
