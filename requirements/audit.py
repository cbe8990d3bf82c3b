"""Ask the advisory service about pinned requirements: `audit.py FILE…`; run by `make audit`.

Exits with 1 when a pin has a known vulnerability, and with 0 when none has. A service that can't be reached is no
finding: it is said, and the exit code is 0, unless AUDIT_STRICT is set.
"""

# ruff: noqa: T201  # a command line prints

import json
import os
import subprocess
import sys
from pathlib import Path

# What pip-audit ends with when the service did not answer, as the last line of its trace.
UNREACHABLE = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "ServiceError", "ProxyError", "SSLError", "Timeout")


def audit(file: str) -> tuple[list[str], str]:
    """The findings in a file of pins, a line each; or, when there are none, why the service could not be asked."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", file, "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
        if not any(name in line for name in UNREACHABLE for line in said[-5:]):
            raise SystemExit(f"pip-audit failed: {said[-1]}") from None
        return [], said[-1][:200]
    return [
        f"{file}: {package['name']} {package['version']}: {one['id']}, fixed in {one['fix_versions'] or 'no version'}"
        for package in packages
        for one in package.get("vulns", [])
    ], ""


def main(files: list[str]) -> int:
    """Ask about each file; returns the exit code."""
    found: list[str] = []
    for file in files:
        findings, unreachable = audit(file)
        if unreachable:
            print(f"not audited: the advisory service can't be reached ({unreachable})", file=sys.stderr)
            return 1 if found or os.environ.get("AUDIT_STRICT") else 0
        print(f"{Path(file).name}: {len(findings) or 'no'} known vulnerabilities")
        found += findings
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
