"""The metrics of running services, as Prometheus would read them, and those of docs/metrics.md."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tallyho.system import System

DOCUMENT = Path(__file__).parents[1] / "docs" / "metrics.md"
SERVICES = ("crawler", "job-tracker", "ws-gateway")
SECTIONS = {"Every service": SERVICES, "crawler and job-tracker": SERVICES[:2]}
ROW = re.compile(r"^\| `(tallyho_\w+)` \| (\w+) \| ([^|]*)\|")


class Documented(NamedTuple):
    """A row of the document."""

    type: str
    labels: frozenset[str]


def documented() -> dict[str, dict[str, Documented]]:
    """The metrics that the document names, by service."""
    metrics: dict[str, dict[str, Documented]] = {service: {} for service in SERVICES}
    section = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif row := ROW.match(line):
            for service in SECTIONS.get(section, (section,)):
                metrics[service][row[1]] = Documented(row[2], frozenset(re.findall(r"`(\w+)`", row[3])))
    return metrics


def health_url(system: System, replica: str) -> str:
    """Where a replica answers the orchestrator, as it said itself."""
    [*_, port] = re.findall(r"health and metrics port=(\d+)", system.services[replica].log.read_text())
    return f"http://127.0.0.1:{port}"


def scrape(url: str) -> dict[str, Metric]:
    """What is exposed there, by the names that queries use; without what the client library adds."""
    with urlopen(f"{url}/metrics", timeout=10) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    return {_queried(one): one for one in families if one.name.startswith("tallyho_")}


def _queried(family: Metric) -> str:
    return family.name + "_total" if family.type == "counter" else family.name


def total(scraped: Mapping[str, Metric], name: str, **labels: str) -> float:
    """The sum of the samples of a metric that have these labels; a histogram's are named as they are queried."""
    family = next(one for key, one in scraped.items() if name in (key, f"{key}_count", f"{key}_sum"))
    return sum(
        sample.value
        for sample in family.samples
        if sample.name == name and all(sample.labels[key] == value for key, value in labels.items())
    )
