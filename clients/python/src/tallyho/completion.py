"""`tallyho completion SHELL`: a script that lets a shell complete the command's words."""

import argparse

import shtab

SHELLS = ("bash", "zsh", "fish")
# The newest first; the first word of each line is the id.
JOBS = "tallyho jobs --limit 50 2>/dev/null | cut -d' ' -f1"

HOW_TO = """examples:
  eval "$(tallyho completion bash)"                                       in ~/.bashrc
  eval "$(tallyho completion zsh)"                                        in ~/.zshrc, after compinit
  tallyho completion fish > ~/.config/fish/completions/tallyho.fish       once

JOB completes to the ids of the newest jobs, which are asked of the gateway at TALLYHO_URL."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for a parser with all its commands; a positional argument JOB completes to the ids of jobs."""
    for command in with_commands(parser):
        for action in command._actions:  # argparse has no other way to its arguments
            if action.metavar == "JOB":
                action.complete = shtab.cmd(JOBS)  # type: ignore[attr-defined]  # where shtab looks
    return shtab.complete(parser, shell)


def with_commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser, those of its commands, and theirs."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found += with_commands(command)
    return found
