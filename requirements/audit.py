"""Ask the advisory service about pinned requirements: `audit.py FILE…`; run by `make audit`.

Exits with 1 when a pin has a known vulnerability, and when pip-audit fails for a reason of its own. What could not be
asked about, because the service is away or does not know the package, is said, and is no finding: the exit code is 0,
unless AUDIT_STRICT is set.
"""

# ruff: noqa: T201  # a command line prints

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# What pip-audit's last words name when the service did not answer.
UNREACHABLE = (
    *("ConnectionError", "ConnectTimeout", "ReadTimeout", "ServiceError", "ProxyError", "SSLError"),
    *("HTTPError", "JSONDecodeError", "Could not connect"),
)


@dataclass(frozen=True)
class Audit:
    """The packages that were asked about, what was found in them, and why others could not be asked about."""

    asked: int = 0
    findings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def audit(file: str) -> Audit:
    """Ask about each pin of a file. Raises RuntimeError when pip-audit fails otherwise than for want of an answer."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", file, "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
        if not any(name in line for name in UNREACHABLE for line in said[-5:]):
            raise RuntimeError(f"pip-audit failed: {said[-1]}") from None
        return Audit(left_out=(f"the service does not answer: {said[-1][:150]}",))
    left_out = [package["skip_reason"] for package in packages if "skip_reason" in package]
    findings = [
        f"{file}: {package['name']} {package['version']}: {one['id']}, fixed in {one['fix_versions'] or 'no version'}"
        for package in packages
        for one in package.get("vulns", [])
    ]
    return Audit(len(packages) - len(left_out), tuple(findings), tuple(left_out))


def main(files: list[str]) -> int:
    """Ask about each file; returns the exit code."""
    try:
        audits = {file: audit(file) for file in files}
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    for file, one in audits.items():
        print(f"{Path(file).name}: {one.asked} packages audited, {len(one.findings)} known vulnerabilities")
        if one.left_out:
            print(f"{Path(file).name}: NOT audited: {len(one.left_out)}, first {one.left_out[0]}", file=sys.stderr)
    findings = [line for one in audits.values() for line in one.findings]
    print(*findings, sep="\n", end="\n" if findings else "")
    is_whole = not any(one.left_out for one in audits.values())
    return 0 if not findings and (is_whole or not os.environ.get("AUDIT_STRICT")) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
