"""The closed list of reasons: what it takes, and that the documentation repeats it."""

import re
from pathlib import Path

import pytest
from tallyho_contracts.pages import PageState
from tallyho_contracts.urls import REASONS, is_reason

DOCUMENTED = Path(__file__).parents[3] / "docs" / "ledger.md"


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (PageState.FAILED, "http_404", True),
        (PageState.FAILED, "robots_timeout", True),
        (PageState.SKIPPED, "robots", True),
        (PageState.FAILED, "robots", False),
        (PageState.FAILED, "boredom", False),
        (PageState.FAILED, None, False),
        (PageState.SKIPPED, None, False),
        (PageState.PENDING, None, True),
        (PageState.RUNNING, "created", False),
        (PageState.COMPLETED, "created", True),
        (PageState.CANCELLED, None, False),
    ],
)
def test_reason_belongs_to_its_state(state: PageState, reason: str | None, expected: bool) -> None:
    assert is_reason(state, reason) is expected


def test_documentation_has_every_reason_with_its_meaning_and_no_other() -> None:
    sections = re.findall(r"^### (\w+)$(.*?)(?=^###|\Z)", DOCUMENTED.read_text(), re.MULTILINE | re.DOTALL)
    documented = {
        PageState(name): dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, re.M)) for name, text in sections
    }

    assert documented == REASONS
