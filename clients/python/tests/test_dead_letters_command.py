"""What `tallyho dead-letters` refuses, each time in one line; what it does is tested on the real system."""

import sys
from collections.abc import Callable

import pytest
from tallyho.command_line import main

AWAY = "amqp://someone:secret@127.0.0.1:1/"


@pytest.fixture
def refusal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run with these words, see the exit code and return the one line."""
    monkeypatch.delenv("AMQP_URL", raising=False)

    def refused(*words: str, exits_with: int = 2) -> str:
        try:
            code = main(["dead-letters", *words])
        except SystemExit as exit_:
            code = int(str(exit_.code))
        said = capfd.readouterr()
        assert (code, said.out, said.err.count("\n")) == (exits_with, "", 1), said.err
        return said.err

    return refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "ACTION"),
        (("read",), "ACTION"),
        (("list",), "AMQP_URL"),
        (("list", "--amqp-url", "http://127.0.0.1/"), "--amqp-url"),
        (("list", "--amqp-url", "amqp://:secret@"), "--amqp-url"),
        (("show", "--amqp-url", AWAY), "ID"),
        (("replay", "--amqp-url", AWAY), "--all"),
        (("discard", "1", "--all", "--amqp-url", AWAY), "--all"),
    ],
)
def test_bad_input_is_one_line_without_the_password(
    refusal: Callable[..., str], words: tuple[str, ...], said: str
) -> None:
    line = refusal(*words)

    assert said in line
    assert "secret" not in line


def test_broker_that_is_away_has_an_exit_code_of_its_own(refusal: Callable[..., str]) -> None:
    line = refusal("list", "--amqp-url", AWAY, exits_with=3)

    assert "no broker answers" in line
    assert "secret" not in line


def test_without_the_extra_it_says_what_to_install(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tallyho.dead_letters", raising=False)
    for name in ("tallyho_messaging", "tallyho_messaging.dead_letter_queue"):
        monkeypatch.setitem(sys.modules, name, None)

    assert "tallyho[operations]" in refusal("list")
