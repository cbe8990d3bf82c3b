"""`python -m chaos`: crawl on a real system while faults are injected, and print a table; exit 1 if anything is off."""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from random import Random

from chaos.campaign import Campaign, Outcome
from chaos.faults import FAULTS, Fault
from chaos.stage import open_stage
from chaos.table import lines
from tallyho_backing_services import BackingServices, BackingServicesError, open_backing_services
from tallyho_backing_services.servers import GivenServer


def main() -> int:
    """Run a campaign; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=500, help="how many (default: 500)")
    parser.add_argument("--seed", type=int, default=None, help="the seed that a failing run printed")
    parser.add_argument("--only", metavar="NAME", default="", help="only faults whose name contains this")
    arguments = parser.parse_args()
    chosen = tuple(fault for fault in FAULTS if arguments.only in fault.name)
    if not chosen:
        parser.error("no such fault; there are: " + ", ".join(fault.name for fault in FAULTS))
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    say(f"seed {seed}")
    try:
        with open_backing_services(say) as backing:
            if GivenServer in map(type, (backing.broker, backing.database)):
                parser.error("servers that are given can't be hurt: unset AMQP_URL and DATABASE_URL")
            outcome = asyncio.run(run(backing, arguments.faults, seed, chosen, say))
            if not outcome.is_good:
                logs = shutil.copytree(backing.run.path / "logs", tempfile.mkdtemp(prefix="chaos-"), dirs_exist_ok=True)
                say(f"logs: {logs}")
    except BackingServicesError as error:
        say(str(error))
        return 2
    for line in lines(outcome):
        say(line)
    if not outcome.is_good:
        only = f' ONLY="{arguments.only}"' if arguments.only else ""
        say(f"again: make chaos FAULTS={arguments.faults} SEED={seed}{only}")
    return 0 if outcome.is_good else 1


async def run(
    backing: BackingServices, number: int, seed: int, kinds: Sequence[Fault], report: Callable[[str], None]
) -> Outcome:
    """Run a campaign on a system of its own."""
    async with open_stage(backing) as stage:
        outcome = await Campaign(stage, Random(seed), report).run(number, kinds)
        for line in (*stage.exits, *outcome.not_injected):
            report(line)
        return outcome


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
