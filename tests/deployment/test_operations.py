"""The operator's page names what is there."""

import re

import pytest
import yaml
from deployment.manifests import ROOT, manifests_of

PAGE = (ROOT / "docs" / "operations.md").read_text()
ALERTS = [
    rule["alert"]
    for group in yaml.safe_load((ROOT / "deploy" / "alerts" / "tallyho.yaml").read_text())["groups"]
    for rule in group["rules"]
]


def test_every_alert_has_what_to_do_and_no_other_is_named() -> None:
    assert re.findall(r"^\| (Tallyho\w+) \|", PAGE, re.M) == ALERTS


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\bdeploy/[\w./-]+", PAGE))))
def test_path_of_a_command_exists(path: str) -> None:
    copied = path.replace("overlays/mine", "overlays/production")

    assert (ROOT / copied).exists() or path == "deploy/.env"


@pytest.mark.parametrize("link", re.findall(r"\]\(([\w./-]+)\)", PAGE))
def test_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()


def test_steps_that_are_run_again_are_those_that_are_labelled() -> None:
    labelled = {
        one["metadata"]["name"]
        for one in manifests_of("production")
        if one["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "step"
    }

    assert "--selector app.kubernetes.io/component=step" in PAGE
    assert labelled == {"declare", "migrate-crawler", "migrate-job-tracker"}


def test_only_this_machine_reaches_the_gateway_and_the_broker_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert ports == {"rabbitmq": ["127.0.0.1::5672"], "ws-gateway": ["127.0.0.1:${TALLYHO_PORT:-8080}:8080"]}
    assert "docker compose --file deploy/compose.yaml port rabbitmq 5672" in PAGE


def test_variables_of_the_compose_file_are_explained() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "deploy" / "compose.yaml").read_text()))

    assert used <= set(re.findall(r"`([A-Z_]+)`", PAGE))
