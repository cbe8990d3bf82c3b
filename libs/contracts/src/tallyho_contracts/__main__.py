"""`python -m tallyho_contracts write | check | release`: the files that show the contracts, and what was released."""

import sys
from pathlib import Path

from tallyho_contracts.contract_files import ExampleError, contracts_version, differences, write
from tallyho_contracts.registry import MESSAGES
from tallyho_contracts.released import AlreadyReleasedError, release

USAGE = "usage: python -m tallyho_contracts write | check | release   (in a source tree)"

SOURCE_TREE = Path(__file__).parents[2]


def main(arguments: list[str], folder: Path = SOURCE_TREE) -> int:
    """Run one command; 0 when all is well, 1 with a line for each thing that is not, 2 when it can't be run."""
    if arguments not in (["write"], ["check"], ["release"]) or not (folder / "pyproject.toml").exists():
        return _say([USAGE], 2)
    try:
        if arguments == ["write"]:
            write(folder, MESSAGES)
        found = differences(folder, MESSAGES)
        if arguments == ["release"] and not found:
            version = contracts_version(folder)
            released = release(folder / "released", MESSAGES.values(), version)
            return _say([f"{name} is released as of {version}" for name in released], 0)
    except (ExampleError, AlreadyReleasedError) as error:
        return _say([str(error)], 1)
    if found:
        return _say([*found, "`python -m tallyho_contracts write` writes what is generated"], 1)
    return 0


def _say(lines: list[str], code: int) -> int:
    for line in lines:
        print(line, file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
