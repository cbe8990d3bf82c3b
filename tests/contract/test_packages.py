"""Which third-party packages each package of the workspace brings along."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = {
    project["name"]: project
    for file in sorted(ROOT.glob("*/*/pyproject.toml"))
    for project in [tomllib.loads(file.read_text())["project"]]
}


def requirements(name: str) -> set[str]:
    """The names of all third-party packages that a package requires, through the others of the workspace."""
    names = {re.split(r"[\[<>=~!; ]", requirement)[0] for requirement in PROJECTS[name]["dependencies"]}
    local = names & PROJECTS.keys()
    return (names - local).union(*(requirements(other) for other in local))


def test_contracts_need_pydantic_only() -> None:
    assert requirements("tallyho-contracts") == {"pydantic"}


def test_gateway_has_no_database_driver() -> None:
    assert "asyncpg" not in requirements("tallyho-ws-gateway")


def test_job_tracker_speaks_no_http_but_to_the_orchestrator() -> None:
    own = {re.split(r"[><=]", one)[0] for one in PROJECTS["tallyho-job-tracker"]["dependencies"]}

    assert "aiohttp" not in own
    assert {name for name in own & PROJECTS.keys() if "aiohttp" in " ".join(PROJECTS[name]["dependencies"])} == {
        "tallyho-process"  # for the health port
    }


def test_client_installs_without_the_services() -> None:
    assert requirements("tallyho") == {"aiohttp", "pydantic", "rich", "shtab"}


@pytest.mark.parametrize("name", ["tallyho-crawler", "tallyho-job-tracker", "tallyho-ws-gateway", "tallyho"])
def test_pins_of_a_deployed_package_hold_what_it_requires(name: str) -> None:
    lines = (ROOT / "requirements" / f"{name.removeprefix('tallyho-')}.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}

    assert requirements(name) <= pinned


def test_pins_name_no_index() -> None:
    texts = [file.read_text() for file in (ROOT / "requirements").glob("*.txt")]

    assert not any("://" in text or "--index" in text or "--extra-index" in text for text in texts)
