"""Write alerts.yaml: Prometheus' rules in deploy/alerts, as its operator wants them. Run by `make alerts`."""

from pathlib import Path

import yaml

HERE = Path(__file__).parent
RULES = HERE.parents[2] / "alerts" / "tallyho.yaml"
COMMENT = "# Written by `make alerts` from deploy/alerts/tallyho.yaml.\n"


def manifest() -> str:
    """The manifest of the rules."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "tallyho"},
        "spec": yaml.safe_load(RULES.read_text()),
    }
    return COMMENT + yaml.safe_dump(rule, sort_keys=False, width=1000)


if __name__ == "__main__":
    (HERE / "alerts.yaml").write_text(manifest())
