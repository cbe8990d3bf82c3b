"""Alerts and dashboard: every query names metrics and labels that exist, and each alert fires when it should."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from metrics import Documented, documented
from prometheus_client import REGISTRY, generate_latest

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "alerts" / "tallyho.yaml"
RULE_TESTS = DEPLOY / "alerts" / "tallyho.test.yaml"
DASHBOARD = DEPLOY / "grafana" / "tallyho.json"

# What Prometheus itself adds to every series, and the client library's own.
OF_THE_SCRAPE = frozenset({"instance", "job"})
OF_THE_LIBRARY = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
ALL: dict[str, Documented] = {name: row for service in documented().values() for name, row in service.items()}

METRIC = re.compile(r"\b((?:tallyho|process)_[a-z_]+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|without) \(([^)]*)\)")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_queries() -> Iterator[tuple[str, str, str]]:
    """Title, query and legend of everything that is drawn."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]


def faults(query: str, legend: str = "") -> list[str]:
    """What a query asks for that no service exposes."""
    used = [(name, *described(name)) for name, _ in METRIC.findall(query)]
    found = [f"no metric {name}" for name, row, _ in used if row is None]
    for (name, row, more), (_, matchers) in zip(used, METRIC.findall(query), strict=True):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers))
        found += [f"{name} has no label {one}" for one in sorted(labels - (row.labels if row else set()) - more)]
    grouped = {label.strip() for labels in GROUPING.findall(query) for label in labels.split(",")}
    known = set().union(*((row.labels if row else set()) | more for _, row, more in used), OF_THE_SCRAPE)
    found += [f"nothing here has a label {one}" for one in sorted(grouped - known)]
    kept = grouped or (known if "sum(" not in query and "max(" not in query else set())
    found += [f"the legend's {one} is gone" for one in re.findall(r"\{\{(\w+)\}\}", legend) if one not in kept]
    if not used:
        found.append("no metric at all")
    return found


def described(name: str) -> tuple[Documented | None, frozenset[str]]:
    """The documented metric that a series belongs to, and the labels that the series has beyond its own."""
    if name in OF_THE_LIBRARY:
        return Documented("gauge", OF_THE_SCRAPE), frozenset()
    for suffix, more in (("_bucket", frozenset({"le"})), ("_sum", frozenset()), ("_count", frozenset())):
        row = ALL.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
        if row and row.type == "histogram":
            return row, more | OF_THE_SCRAPE
    row = ALL.get(name)
    return (row if row and row.type != "histogram" else None), OF_THE_SCRAPE


def test_each_query_of_the_dashboard_finds_something() -> None:
    queries = list(dashboard_queries())

    assert len(queries) > 50
    assert {title: wrong for title, query, legend in queries if (wrong := faults(query, legend))} == {}


def test_each_alert_asks_for_something_that_exists() -> None:
    assert {rule["alert"]: wrong for rule in alerts() if (wrong := faults(rule["expr"]))} == {}


def test_dashboard_draws_every_metric() -> None:
    drawn = {name for _, query, _ in dashboard_queries() for name, _ in METRIC.findall(query)}
    series = {re.sub(r"_(bucket|sum|count)$", "", name) for name in drawn} | drawn

    assert ALL.keys() - series == set()


@pytest.mark.parametrize(
    ("query", "legend", "fault"),
    [
        ("tallyho_queue_length", "", "no metric tallyho_queue_length"),
        ("rate(tallyho_publish_seconds[5m])", "", "no metric tallyho_publish_seconds"),
        ("sum(tallyho_outbox_events_bucket)", "", "no metric tallyho_outbox_events_bucket"),
        ('max(tallyho_queue_messages{name="x"})', "", "tallyho_queue_messages has no label name"),
        ("max by (schema) (tallyho_queue_messages)", "", "nothing here has a label schema"),
        ("max by (queue) (tallyho_queue_messages)", "{{job}}", "the legend's job is gone"),
        ("vector(1)", "", "no metric at all"),
    ],
)
def test_query_that_finds_nothing_is_noticed(query: str, legend: str, fault: str) -> None:
    assert fault in faults(query, legend)


def test_each_alert_has_a_severity_and_says_what_is_wrong() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_each_alert_is_seen_to_fire_and_not_to_fire() -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    cases = [case for test in tests for case in test["promql_expr_test"]]
    fires = {re.findall(r"alertname='(\w+)'", case["expr"])[0] for case in cases if case["exp_samples"]}
    rests = {
        name for case in cases if not case["exp_samples"] for name in re.findall(r"alertname='(\w+)'", case["expr"])
    }

    assert fires == rests == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("arguments", [["check", "rules", RULES], ["test", "rules", RULE_TESTS]])
def test_prometheus_accepts_the_alerts_and_its_tests_of_them_pass(arguments: list[str]) -> None:
    ran = subprocess.run([promtool(), *map(str, arguments)], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_prometheus_finds_nothing_wrong_with_what_is_exposed() -> None:
    for service in ("crawler", "job_tracker", "ws_gateway"):
        importlib.import_module(f"{service}.metrics")
    exposed = generate_latest(REGISTRY)
    ran = subprocess.run([promtool(), "check", "metrics"], input=exposed, capture_output=True, check=False)

    assert b"tallyho_frontier_pages" in exposed
    assert [line for line in (ran.stdout + ran.stderr).splitlines() if b"tallyho_" in line] == []


def promtool() -> str:
    found = shutil.which("promtool") or shutil.which("promtool", path=Path(sys.executable).parent)
    if found is None:
        pytest.skip("no promtool on this machine: make promtool")
    return found
