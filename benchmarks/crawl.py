"""`python -m benchmarks.crawl`: how fast a real site is crawled, and what that costs, beside other crawlers.

The site is the manuals of PostgreSQL and Python, served by nginx on this machine; each contestant follows its links and
must find every page. All have their turn, round after round. Prints a table in markdown.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from tallyho_backing_services import BackingServicesError, open_backing_services

from benchmarks.crawl_site import open_site
from benchmarks.crawl_stage import Measured, Stage

# The second is no longer Scrapy's own means.
BASES = ("Scrapy, best settings", "Scrapy, best found")
OTHER_PARTS = ("services", "database", "broker", "site")


@dataclass(frozen=True)
class Contestant:
    """A crawler, and a name to choose it by."""

    name: str
    label: str
    crawl: Callable[[Stage], Measured]


def ours(stage: Stage, *, crawlers: int, markdown: bool) -> Measured:
    """A crawl by the whole system."""
    return asyncio.run(stage.ours(crawlers=crawlers, markdown=markdown))


def scrapy(stage: Stage, way: str) -> Measured:
    """A crawl by Scrapy."""
    return stage.foreign("crawl_scrapy.py", way)


CONTESTANTS = [
    Contestant("scrapy-tutorial", "Scrapy, as its tutorial has it", partial(scrapy, way="tutorial")),
    Contestant("scrapy-tuned", "Scrapy, tuned", partial(scrapy, way="tuned")),
    Contestant("scrapy-settings", BASES[0], partial(scrapy, way="settings")),
    Contestant("scrapy-best", BASES[1], partial(scrapy, way="best")),
    Contestant("crawlee", "Crawlee, ParselCrawler", lambda stage: stage.foreign("crawl_crawlee.py")),
    Contestant("ours", "Tallyho, one crawler", partial(ours, crawlers=1, markdown=False)),
    Contestant("ours-2", "Tallyho, two crawlers", partial(ours, crawlers=2, markdown=False)),
    Contestant("ours-markdown", "Tallyho, one crawler, with markdown", partial(ours, crawlers=1, markdown=True)),
    Contestant("ours-markdown-2", "Tallyho, two crawlers, with markdown", partial(ours, crawlers=2, markdown=True)),
]


def compare(stage: Stage, entries: Sequence[Contestant], *, rounds: int) -> dict[str, Measured]:
    """The medians of `rounds` in which each contestant has its turn."""
    runs: dict[str, list[Measured]] = {entry.label: [] for entry in entries}
    for _ in range(rounds):
        for entry in entries:
            runs[entry.label].append(entry.crawl(stage))
    return {label: medians(measured) for label, measured in runs.items()}


def medians(runs: Sequence[Measured]) -> Measured:
    """The median of each figure."""
    return Measured(
        rate=median(run.rate for run in runs),
        cpu={part: median(run.cpu[part] for run in runs) for part in runs[0].cpu},
        megabytes=median(run.megabytes for run in runs),
    )


def print_results(title: str, results: Mapping[str, Measured]) -> None:
    """The table."""
    bases = [results.get(label) for label in BASES]
    print(f"\n| {title} | pages/s | x best settings | x best found | CPU-s per 1,000 pages: crawler", end="")
    print(f" | best settings x | best found x | {' | '.join(OTHER_PARTS)} | peak MB |")
    print("|---|" + "--:|" * (7 + len(OTHER_PARTS)))
    for label, one in results.items():
        faster = [f"{one.rate / base.rate:.1f}" if base else "" for base in bases]
        cheaper = [f"{base.cpu['crawler'] / one.cpu['crawler']:.1f}" if base else "" for base in bases]
        others = [f"{one.cpu[part]:.2f}" if part in one.cpu else "" for part in OTHER_PARTS]
        cells = [f"{one.rate:,.0f}", *faster, f"{one.cpu['crawler']:.2f}", *cheaper, *others, f"{one.megabytes:.0f}"]
        print(f"| {label} | {' | '.join(cells)} |")


def main() -> int:
    """Read the command line and measure; 2 when something that is needed can't be had."""
    names = [entry.name for entry in CONTESTANTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crawl", description="Measure whole crawls.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(names)}; all by default")
    parser.add_argument("--manual", choices=("postgresql", "python"), help="one of the two manuals instead of both")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contestant has its turn (%(default)s)")
    parser.add_argument("--apart", action="store_true", help="give the crawler the last core, all else the others")
    arguments = parser.parse_args()
    if arguments.apart and len(os.sched_getaffinity(0)) == 1:
        parser.error("--apart takes two cores")
    if unknown := set(arguments.names) - set(names):
        parser.error(f"no such contestant: {', '.join(sorted(unknown))}")
    entries = [entry for entry in CONTESTANTS if not arguments.names or entry.name in arguments.names]

    def report(line: str) -> None:
        print(line, file=sys.stderr)

    try:
        with open_backing_services(report) as backing, open_site(backing.run, only=arguments.manual) as site:
            load = " ".join(f"{load:.2f}" for load in os.getloadavg())
            print(f"{os.cpu_count()} cores; Python {platform.python_version()}; load before: {load}", flush=True)
            stage = Stage(site, backing, report, arguments.apart)
            title = f"{site.pages:,} pages of {site.mean_bytes / 1000:.0f} KB, medians of {arguments.rounds} rounds"
            print_results(title, compare(stage, entries, rounds=arguments.rounds))
    except BackingServicesError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
