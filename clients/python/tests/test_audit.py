"""What an audit makes of two lists that agree, or do not."""

import json
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from tallyho.audit import SavedIds
from tallyho_contracts.jobs import JobStatus

if TYPE_CHECKING:
    from clients.python.tests.conftest import Command, GatewayDouble


def ids(*numbers: int) -> list[UUID]:
    return [UUID(int=number) for number in numbers]


def end_with(gateway: "GatewayDouble", documents: int) -> None:
    """Let the job be completed, with these documents on both sides."""
    gateway.present = gateway.state(9, JobStatus.COMPLETED, documents)
    gateway.document_count = documents
    gateway.saved = ids(*range(1, documents + 1))


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_two_sides_that_agree_have_no_drift(
    gateway: "GatewayDouble", command: "Command", words: tuple[str, ...]
) -> None:
    end_with(gateway, 5)
    ran = await command("audit", str(gateway.job_id), *words)

    assert (ran.code, ran.err) == (0, "")
    assert "DRIFT" not in ran.out


@pytest.mark.parametrize(
    ("saved", "counted", "skipped", "said"),
    [
        (ids(1, 2, 3, 4), 3, set(), f"1 missing in tracker ({UUID(int=4)})"),
        (ids(1, 3), 3, set(), f"1 missing in crawler ({UUID(int=2)})"),
        (ids(1, 4), 4, {2, 3}, "2 ordinals missing (2-3)"),
        (ids(1, 2, 3, 4), 4, {4}, "1 counted beyond the last ordinal"),
        ([], 0, set(), ""),
    ],
)
async def test_drift_is_named_and_exits_1(
    gateway: "GatewayDouble", command: "Command", saved: list[UUID], counted: int, skipped: set[int], said: str
) -> None:
    end_with(gateway, counted)
    gateway.saved, gateway.skipped_ordinals = saved, skipped
    ran = await command("audit", str(gateway.job_id))
    ran_json = await command("audit", str(gateway.job_id), "--json")
    audit = json.loads(ran_json.out)

    assert ran.code == ran_json.code == (1 if said else 0)
    assert said in ran.out
    assert ran.out.endswith(f"1 audited, {1 if said else 0} with drift\n")
    assert audit["missing_in_tracker"] == len(audit["missing_in_tracker_ids"])
    assert audit["missing_in_crawler"] == len(audit["missing_in_crawler_ids"])


@pytest.mark.parametrize(
    ("met", "last", "said"),
    [
        (3, ("skipped", "off_site"), ""),
        (4, ("skipped", "off_site"), "1 URLs met but not accounted for"),
        (2, ("skipped", "off_site"), "-1 URLs met but not accounted for"),
        (3, ("running", None), "1 URLs not at their end"),
        (3, ("skipped", "boredom"), "1 URLs for no reason that exists"),
        (3, ("failed", None), "1 URLs for no reason that exists"),
        (3, ("failed", "http_418"), ""),
    ],
)
async def test_url_without_an_end_or_a_reason_is_drift(
    gateway: "GatewayDouble", command: "Command", met: int, last: tuple[str, str | None], said: str
) -> None:
    end_with(gateway, 0)
    gateway.urls = [gateway.url_of(1, "completed", "created"), gateway.url_of(2, "failed", "http_404")]
    gateway.urls.append(gateway.url_of(3, *last))
    gateway.urls_met = met
    ran = await command("audit", str(gateway.job_id))

    assert (ran.code, said in ran.out) == (1 if said else 0, True)


async def test_without_a_job_those_that_have_ended_are_audited(gateway: "GatewayDouble", command: "Command") -> None:
    live = await command("audit")
    end_with(gateway, 2)
    ended = await command("audit")

    assert (live.code, live.out) == (0, "0 audited, 0 with drift\n")
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "1 audited, 0 with drift")


async def test_job_that_is_deleted_meanwhile_is_not_audited(gateway: "GatewayDouble", command: "Command") -> None:
    end_with(gateway, 2)
    gateway.deleted = True
    ran = await command("audit")
    one = await command("audit", str(gateway.job_id))

    assert (ran.code, ran.out, ran.err) == (0, "0 audited, 0 with drift\n", "")
    assert (one.code, one.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("job", ["not-an-id", str(UUID(int=7))])
async def test_job_that_is_none_is_one_line_and_exit_2(command: "Command", job: str) -> None:
    ran = await command("audit", job)

    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)


def test_saved_ids_are_found_among_many() -> None:
    known = sorted(uuid4() for _ in range(1000))
    saved = SavedIds()
    for one in known:
        saved.add(one)
    first = [saved.mark(one) for one in known[::2]]
    number, unlisted = saved.unlisted(3)

    assert first == [False] * 500
    assert saved.mark(known[0]) is True
    assert saved.mark(uuid4()) is None
    assert (number, unlisted) == (500, tuple(known[1:6:2]))
