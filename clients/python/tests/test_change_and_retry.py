"""Limits changed and failed pages retried, on the command line and by the client that blocks."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tallyho import SyncTallyho
from tallyho_contracts.jobs import JobStatus

if TYPE_CHECKING:
    from clients.python.tests.conftest import Command, GatewayDouble


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (("--max-pages", "2000"), {"max_pages": 2000}),
        (("--max-pages", "none", "--delay", "1.5"), {"max_pages": None, "delay": 1.5}),
        (("--delay", "none", "--max-failures", "0"), {"delay": None, "max_failures": 0}),
    ],
)
async def test_limits_that_are_given_are_sent_and_no_others(
    gateway: "GatewayDouble", command: "Command", words: tuple[str, ...], sent: dict[str, Any]
) -> None:
    ran = await command("change", str(gateway.job_id), *words)

    assert (ran.code, ran.err) == (0, "")
    assert gateway.changes == [sent]


@pytest.mark.parametrize("words", [(), ("--delay", "-1"), ("--delay", "x"), ("--max-pages", "1.5"), ("--include", "a")])
async def test_change_without_a_limit_that_can_change_is_one_line_and_exit_2(
    gateway: "GatewayDouble", command: "Command", words: tuple[str, ...]
) -> None:
    ran = await command("change", str(gateway.job_id), *words)

    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert gateway.changes == []


async def test_retry_is_watched_to_its_end(gateway: "GatewayDouble", command: "Command") -> None:
    gateway.present = gateway.state(9, JobStatus.COMPLETED, 3)
    ran = await command("retry", str(gateway.job_id))

    assert ran.code == 0
    assert "3 documents" in ran.out


async def test_client_that_blocks_changes_and_retries(gateway: "GatewayDouble") -> None:
    def steer() -> None:
        with SyncTallyho(gateway.url) as client:
            client.change(gateway.job_id, max_pages=None, max_failures=3)
            client.retry(gateway.job_id)

    await asyncio.to_thread(steer)

    assert gateway.changes == [{"max_pages": None, "max_failures": 3}]
