"""What `tallyho completion` prints is understood by the shells themselves, where they are installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tallyho.command_line import main

NEWEST = "0191d3a0-0000-7000-8000-000000000001"


@pytest.fixture
def on_path(tmp_path: Path) -> dict[str, str]:
    """An environment in which `tallyho jobs` lists one job."""
    command = tmp_path / "tallyho"
    command.write_text(f'#!/bin/sh\n[ "$1" = jobs ] && echo "{NEWEST}  2025-01-02 12:00  running"\n')
    command.chmod(0o755)
    return {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def bash(source: str, environment: dict[str, str], *words: str) -> set[str]:
    """What bash offers for the last of the words."""
    quoted = " ".join(f"'{word}'" for word in words)
    asked = (
        f'{source}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE="${{COMP_WORDS[*]}}"\n'
        f"$(complete -p tallyho | sed 's/.*-F \\([^ ]*\\).*/\\1/') tallyho '{words[-1]}' '{words[-2]}'\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ran = subprocess.run(["bash", "-c", asked], env=environment, capture_output=True, text=True, check=True)
    return {line.strip() for line in ran.stdout.splitlines()}


def test_bash_completes_commands_options_and_jobs(capsys: pytest.CaptureFixture[str], on_path: dict[str, str]) -> None:
    source = script("bash", capsys)

    assert {"crawl", "completion"} <= bash(source, on_path, "tallyho", "c")
    assert "--max-pages" in bash(source, on_path, "tallyho", "crawl", "--max")
    assert "--crawlers" in bash(source, on_path, "tallyho", "up", "--c")
    assert bash(source, on_path, "tallyho", "watch", "") >= {NEWEST}


def test_fish_completes_commands_options_and_jobs(
    capsys: pytest.CaptureFixture[str], on_path: dict[str, str], tmp_path: Path
) -> None:
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    file = tmp_path / "tallyho.fish"
    file.write_text(script("fish", capsys))

    def offered(line: str) -> set[str]:
        ran = subprocess.run(
            ["fish", "--no-config", "-c", f"source {file}; complete -C '{line}'"],
            env=on_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return {line.split("\t")[0] for line in ran.stdout.splitlines()}

    assert {"crawl", "completion", "cancel"} <= offered("tallyho c")
    assert "--max-pages" in offered("tallyho crawl --max")
    assert NEWEST in offered("tallyho watch ")


def test_zsh_accepts_the_script(capsys: pytest.CaptureFixture[str], tmp_path: Path, on_path: dict[str, str]) -> None:
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    file = tmp_path / "tallyho.zsh"
    file.write_text(script("zsh", capsys))
    asked = f'autoload -Uz compinit; compinit -u -D; eval "$(cat {file})"; print $_comps[tallyho]'
    ran = subprocess.run(["zsh", "-f", "-c", asked], env=on_path, capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "_shtab_tallyho"
    assert ran.stderr == ""


def test_unknown_shell_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "tcsh"])

    assert ended.value.code == 2
    assert "bash, zsh, fish" in capsys.readouterr().err.replace("'", "")


@pytest.mark.parametrize("missing", ["tallyho.up", "tallyho.dead_letters"])
def test_completion_works_without_the_other_packages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    assert "--max-pages" in script("bash", capsys)
