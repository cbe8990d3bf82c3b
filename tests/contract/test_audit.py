"""`make audit` fails for what is found, and for nothing that could not be asked about, which it says."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / "requirements" / "audit.py"
GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


def run(
    folder: Path, packages: Sequence[Mapping[str, object]] | None, said: str = "", *, strict: bool = False
) -> tuple[int, str]:
    """Run it with a stand-in for pip-audit that finds this."""
    found = json.dumps({"dependencies": packages}) if packages is not None else ""
    (folder / "pip_audit.py").write_text(f"import sys\nprint({found!r})\nprint({said!r}, file=sys.stderr)")
    environment = {"PATH": os.defpath, "PYTHONPATH": str(folder)} | ({"AUDIT_STRICT": "1"} if strict else {})
    command = [sys.executable, str(AUDIT), "pins.txt"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


def test_vulnerability_fails_it_even_where_others_could_not_be_asked_about(tmp_path: Path) -> None:
    code, said = run(tmp_path, [GOOD, BAD, UNKNOWN])

    assert code == 1
    assert "pins.txt: 2 packages audited, 1 known vulnerabilities" in said
    assert "pins.txt: bad 1: PYSEC-1, fixed in ['2']" in said


def test_nothing_found_passes(tmp_path: Path) -> None:
    assert run(tmp_path, [GOOD], strict=True) == (0, "pins.txt: 1 packages audited, 0 known vulnerabilities\n")


@pytest.mark.parametrize(
    ("packages", "said"), [([UNKNOWN], ""), (None, "pip_audit._service.interface.ServiceError: no answer")]
)
def test_what_could_not_be_asked_about_is_said_and_fails_only_the_strict(
    tmp_path: Path, packages: Sequence[Mapping[str, object]] | None, said: str
) -> None:
    code, told = run(tmp_path, packages, said)

    assert code == 0
    assert "pins.txt: 0 packages audited" in told
    assert "pins.txt: NOT audited: 1" in told
    assert run(tmp_path, packages, said, strict=True)[0] == 1


def test_tool_that_fails_by_itself_is_no_unreachable_service(tmp_path: Path) -> None:
    assert run(tmp_path, None, "usage: no such option") == (1, "pip-audit failed: usage: no such option\n")
