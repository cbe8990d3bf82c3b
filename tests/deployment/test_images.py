"""What can be said of Dockerfiles and the compose file without an engine."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment.manifests import ROOT
from tallyho_process import DRAIN_SECONDS, LEAVING_SECONDS

SERVICES = ("crawler", "job-tracker", "ws-gateway")
PROJECTS = {
    project["name"]: (file.parent.relative_to(ROOT), project["dependencies"])
    for file in ROOT.glob("*/*/pyproject.toml")
    for project in [tomllib.loads(file.read_text())["project"]]
}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
HARDENED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}


def dockerfile(service: str) -> str:
    return (ROOT / "services" / service / "Dockerfile").read_text()


def packages_of(name: str) -> set[Path]:
    """The folders of a local package and of those that it needs."""
    folder, requirements = PROJECTS[name]
    names = {re.split(r"[\[<>=~!; ]", requirement)[0] for requirement in requirements} & PROJECTS.keys()
    return {folder}.union(*(packages_of(other) for other in names))


@pytest.mark.parametrize("service", SERVICES)
def test_image_is_made_of_the_packages_that_its_service_needs_and_of_no_other(service: str) -> None:
    copied = {Path(source) for source in re.findall(r"^COPY ((?:libs|services)/\S+) /src/", dockerfile(service), re.M)}

    assert copied == packages_of(f"tallyho-{service}")


@pytest.mark.parametrize("service", SERVICES)
def test_image_has_the_versions_that_are_pinned(service: str) -> None:
    text = dockerfile(service)
    pins = re.findall(r"requirements/(\S+)\.txt", text)

    assert pins == ["build", service, "traces"]
    assert all((ROOT / "requirements" / f"{name}.txt").exists() for name in pins)


@pytest.mark.parametrize("service", SERVICES)
def test_image_runs_as_nobody_in_particular_and_needs_no_registry_but_for_its_base(service: str) -> None:
    text = dockerfile(service)
    last_stage = text.rpartition("\nFROM ")[2]

    assert "# syntax" not in text
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) == {"${PYTHON}"}
    assert re.search(r"^USER \d+:\d+$", last_stage, re.M)
    assert "HEALTHCHECK" in last_stage
    assert "pip install" not in last_stage


@pytest.mark.parametrize("name", [name for name in COMPOSE if name not in ("rabbitmq", "postgres")])
def test_container_of_ours_can_write_nothing_and_do_nothing_special(name: str) -> None:
    assert COMPOSE[name].items() >= HARDENED.items()


@pytest.mark.parametrize("service", SERVICES)
def test_service_starts_after_the_steps_that_prepare_for_it_and_may_drain(service: str) -> None:
    steps = {"declare"} | ({f"migrate-{service}"} if service != "ws-gateway" else set())

    assert {name: how["condition"] for name, how in COMPOSE[service]["depends_on"].items()} == dict.fromkeys(
        steps, "service_completed_successfully"
    )
    assert int(COMPOSE[service]["stop_grace_period"].removesuffix("s")) >= DRAIN_SECONDS + LEAVING_SECONDS
