"""The page's own modules, tested by Node's test runner, which needs nothing but Node."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent / "javascript"
OLDEST_NODE = 20


def node() -> str:
    path = shutil.which("node")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout if path else "none"
    found = re.match(r"v(\d+)", version)
    if path is None or found is None or int(found[1]) < OLDEST_NODE:
        pytest.skip(f"Node {OLDEST_NODE} or newer is needed for these; here: {version.strip()}")
    return path


@pytest.mark.parametrize("name", sorted(path.name for path in TESTS.glob("*.test.mjs")))
def test_javascript_module_keeps_its_word(name: str) -> None:
    command = [node(), "--test", "--test-reporter=tap", str(TESTS / name)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    written = len(re.findall(r"^test\(", (TESTS / name).read_text(), re.MULTILINE))

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert written
    assert f"# tests {written}\n" in ran.stdout
