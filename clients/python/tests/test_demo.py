import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tallyho.demo import Figures, figure_lines

AGREEING = Figures(counted=7, stored=7, numbered=7, first_ordinal=1, last_ordinal=7, reachable=7)


def test_figures_agree_when_all_are_the_same() -> None:
    assert AGREEING.agree
    assert replace(AGREEING, reachable=None).agree
    assert figure_lines(AGREEING)[-1] == "all agree"


@pytest.mark.parametrize(
    "wrong",
    [{"counted": 8}, {"stored": 6}, {"numbered": 6}, {"first_ordinal": 2}, {"last_ordinal": 8}, {"reachable": 9}],
)
def test_each_figure_that_differs_is_told(wrong: dict[str, int]) -> None:
    figures = replace(AGREEING, **wrong)

    assert not figures.agree
    assert figure_lines(figures)[-1] == "THEY DIFFER"


@pytest.mark.parametrize(("words", "wanted"), [([], ""), (["URL=http://site/?a=1&b=2"], ' "http://site/?a=1&b=2"')])
def test_address_that_make_is_given_is_one_word(words: list[str], wanted: str) -> None:
    make = ["make", "--dry-run", "--old-file=.venv/installed", "demo", *words]
    printed = subprocess.run(make, cwd=Path(__file__).parents[3], check=True, capture_output=True, text=True).stdout
    # A make that is run by another one, as the tests are, says where it is.
    [command] = [line for line in printed.splitlines() if "tallyho.demo" in line]

    assert command.partition("tallyho.demo")[2].rstrip() == wanted
