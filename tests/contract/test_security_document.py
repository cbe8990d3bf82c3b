"""What SECURITY.md says is tested is tested: each file it links is there, and so is each test it names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#:]+)\)")


def test_each_link_leads_somewhere_and_each_named_test_is_there() -> None:
    named = 0
    for line in (ROOT / "SECURITY.md").read_text().splitlines():
        files = [ROOT / link for link in LINK.findall(line)]
        assert [file for file in files if not file.exists()] == []
        text = "".join(file.read_text() for file in files)
        for test in re.findall(r"`(test_\w+)`", line):
            assert f"def {test}(" in text
            named += 1

    assert named > 10
