"""`python -m benchmarks.ingest [PART…]`: how fast the tracker counts, beside other ways to do it, and how soon.

Starts its own broker and database, or uses those of AMQP_URL and DATABASE_URL. Prints tables in markdown.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from itertools import product
from pathlib import Path

import aio_pika
from tallyho_backing_services import BackingServicesError, open_backing_services

from benchmarks.growth import by_documents, by_jobs, by_replicas
from benchmarks.latency import Cell, Latency, measure_cells
from benchmarks.stage import Stage, open_stage
from benchmarks.throughput import FASTSTREAM, OLD_WAY, TRACKER, Measured, compare, contestants

PARTS = ("throughput", "latency", "jobs", "documents", "replicas")
# Where throughput is not measured in the same run.
USUAL_MAXIMUM = 36_000.0
LIBRARIES = ("aio-pika", "asyncpg", "pydantic", "faststream")


async def run(stage: Stage, parts: Iterable[str], *, rounds: int, quick: bool) -> None:
    """Measure and print `parts`; quickly: little of each, which shows that it works and nothing else."""
    print(await _machine(stage), flush=True)
    events = 5_000 if quick else 100_000
    maximum = USUAL_MAXIMUM
    if "throughput" in parts:
        for jobs in (100,) if quick else (1, 100):
            results = await compare(stage, contestants(0.02 if quick else 1), jobs=jobs, rounds=rounds)
            maximum = results[TRACKER.label].rate
            _print_throughput(f"{_jobs(jobs)}, medians of {rounds} rounds", results)
    if "latency" in parts:
        rates = (1_000,) if quick else (100, 1_000, 5_000, int(maximum / 2))
        cells = [Cell(*one) for one in product(rates, (1, 100), (1,) if quick else (1, 2))]
        _print_latency(rounds, await measure_cells(stage, cells, seconds=3 if quick else 6, rounds=rounds))
    if "jobs" in parts:
        _print_growth("jobs", await by_jobs(stage, (1, 100, 1_000), events=events, rounds=rounds))
    if "documents" in parts:
        numbers = (1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
        _print_growth("documents before", await by_documents(stage, numbers, events=events, rounds=rounds))
    if "replicas" in parts:
        for jobs in (1, 100):
            results_by_replicas = await by_replicas(stage, (1, 2), jobs=jobs, events=events, rounds=rounds)
            _print_growth(f"trackers, {_jobs(jobs)}", results_by_replicas)


async def _machine(stage: Stage) -> str:
    async with await aio_pika.connect(stage.backing.amqp_url) as connection:
        assert connection.transport is not None
        broker = str(connection.transport.connection.server_properties["version"])
    programs = [
        f"Python {platform.python_version()}",
        f"RabbitMQ {broker}",
        f"PostgreSQL {await stage.pool.fetchval('SHOW server_version')}",
        *(f"{name} {version(name)}" for name in LIBRARIES),
    ]
    load = " ".join(f"{load:.2f}" for load in os.getloadavg())
    return f"{os.cpu_count()} x {_processor()}; {', '.join(programs)}; load before: {load}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _jobs(number: int) -> str:
    return "one hot job" if number == 1 else f"{number} jobs"


def _print_throughput(title: str, results: Mapping[str, Measured]) -> None:
    old, faststream = results[OLD_WAY].rate, results[FASTSTREAM].rate
    print(f"\n| {title} | events/s | x (a) | x (b) | CPU-s per 100,000 | with broker and database | peak MB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for label, one in results.items():
        ratios = f"{one.rate / old:.1f} | {one.rate / faststream:.1f}"
        memory = f"{one.megabytes:.0f}" if one.megabytes else ""
        print(f"| {label} | {one.rate:,.0f} | {ratios} | {one.cpu:.2f} | {one.cpu_of_all:.2f} | {memory} |", flush=True)


def _print_latency(rounds: int, results: Mapping[Cell, Latency]) -> None:
    print(f"\n| events/s, medians of {rounds} rounds | jobs | trackers | commit p50 | p99 | WebSocket p50 | p99 (ms) |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for cell, one in results.items():
        figures = (one.commit_p50, one.commit_p99, one.client_p50, one.client_p99)
        print(f"| {cell.rate:,} | {cell.jobs} | {cell.trackers} | {' | '.join(f'{ms:.0f}' for ms in figures)} |")


def _print_growth(what: str, results: Mapping[int, Measured]) -> None:
    print(f"\n| {what} | events/s | CPU-s per 100,000 | with broker and database | peak MB |")
    print("|--:|--:|--:|--:|--:|")
    for number, one in results.items():
        print(
            f"| {number:,} | {one.rate:,.0f} | {one.cpu:.2f} | {one.cpu_of_all:.2f} | {one.megabytes:.0f} |", flush=True
        )


def main() -> int:
    """Read the command line and measure; 2 when there is no broker or database to be had."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description="Measure the ingest path.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="how often each measurement has its turn (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it run?")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    async def measure() -> None:
        async with open_stage(backing) as stage:
            rounds = 1 if arguments.quick else arguments.rounds
            await run(stage, arguments.parts or PARTS, rounds=rounds, quick=arguments.quick)

    try:
        with open_backing_services(lambda line: print(line, file=sys.stderr)) as backing:
            asyncio.run(measure())
    except BackingServicesError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
