"""`python -m benchmarks.fanout [PART…]`: what it costs to send states to many clients, beside other ways, and how soon.

The server has one core, and a load client that counts every frame another. Prints tables in markdown.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from ws_gateway import connection, frames

from benchmarks.fanout_gateway import state
from benchmarks.fanout_stage import Program, Received, Stage, Way, open_stage, received

PARTS = ("delivery", "one-job", "conflation", "stalled", "idle")
SETTLE_SECONDS = 1.0
JOBS, JOBS_EACH, CLIENTS = 200, 4, 1_000
TICK_MS, STATES_A_TICK = 5, 20
# What arrives at a time must not be conflated: a busy machine needs longer rounds.
ROUND_MS = int(os.environ.get("ROUND_MS", "250"))


@dataclass(frozen=True)
class Delivery:
    """What one frame to one client cost, in microseconds of CPU."""

    cost: float
    p99: float


def delivery(stage: Stage, way: Way, clients: int, *, rounds: int, one_job: bool = False) -> Delivery:
    """One message a round to every client; each must get each. With `one_job` a gateway's clients subscribe to one."""
    milliseconds = ROUND_MS * max(1, clients // 2_000)
    is_ours = way.label.startswith("ws-gateway")
    size = 1 if is_ours else len(frames.progress(state(1)))
    jobs_each = int(is_ours and one_job)
    with stage.serving(way) as (server, port), stage.connected(port, clients, jobs_each=jobs_each) as client:
        time.sleep(SETTLE_SECONDS)
        server.say(f"1 {milliseconds} {size}")  # clients join their crowds with the first message
        assert server.hear() == "done"
        time.sleep(SETTLE_SECONDS)
        received(client)
        before = server.cpu_seconds()
        server.say(f"{rounds} {milliseconds} {size}")
        assert server.hear() == "done"
        time.sleep(SETTLE_SECONDS)
        cost = server.cpu_seconds() - before
        result = received(client)
    if result.frames != rounds * clients:
        raise RuntimeError(f"{way.label}: {result.frames} frames arrived of {rounds * clients}")
    return Delivery(cost / result.frames * 1e6, result.p99)


def compare(stage: Stage, clients: int, *, rounds: int, turns: int, one_job: bool = False) -> dict[str, Delivery]:
    """All ways in turn, so that what disturbs one disturbs all; the median of each."""
    ways = [stage.reference, stage.gateway(1)]
    ways += [stage.gateway(1, alone=True)] if one_job else [stage.gateway(1, "asyncio"), *stage.others]
    runs = [[delivery(stage, way, clients, rounds=rounds, one_job=one_job) for way in ways] for _ in range(turns)]
    return {
        way.label: Delivery(median(run[place].cost for run in runs), median(run[place].p99 for run in runs))
        for place, way in enumerate(ways)
    }


def print_delivery(clients: int, results: Mapping[str, Delivery], whose: str = "") -> None:
    """CPU per delivery, and as a multiple of the reference."""
    reference = next(iter(results.values())).cost
    print(f"\n| one message to each of {clients:,} clients{whose} | CPU µs a delivery | x send() | p99 ms |")
    print("|---|--:|--:|--:|")
    for label, one in results.items():
        print(f"| {label} | {one.cost:.1f} | {one.cost / reference:.2f} | {one.p99:.0f} |", flush=True)


def states_for(server: Program, client: Program, seconds: float) -> tuple[float, Received]:
    """4,000 states a second for a while; returns the share of a core, and what arrived."""
    received(client)
    before, start = server.cpu_seconds(), time.monotonic()
    server.say(f"{int(seconds * 1000 / TICK_MS)} {TICK_MS} {STATES_A_TICK}")
    assert server.hear() == "done"
    share = (server.cpu_seconds() - before) / (time.monotonic() - start)
    time.sleep(SETTLE_SECONDS)
    return share, received(client)


def conflation(stage: Stage, *, seconds: float) -> None:
    """Many more states than anybody wants to see."""
    with (
        stage.serving(stage.gateway(JOBS)) as (server, port),
        stage.connected(port, CLIENTS, jobs_each=JOBS_EACH, jobs=JOBS) as client,
    ):
        time.sleep(SETTLE_SECONDS)
        share, result = states_for(server, client, seconds)
        last = 1 + int(seconds * 1000 / TICK_MS) * STATES_A_TICK // JOBS
        [wrong] = client.ask(f"final {last}")
    rate = STATES_A_TICK * 1000 // TICK_MS
    print(f"\n| {rate:,} states/s of {JOBS} jobs, {CLIENTS:,} clients x {JOBS_EACH} jobs | |")
    print("|---|--:|")
    print(f"| share of a core | {share:.0%} |")
    print(f"| frames/s sent, of {rate * CLIENTS * JOBS_EACH // JOBS:,} wanted | {result.frames / seconds:,.0f} |")
    ages = f"{result.p50:.0f}, {result.p99:.0f}, {result.most:.0f}"
    print(f"| age of a state when it arrives: p50, p99, most (ms) | {ages} |")
    print(f"| last revisions that are wrong, of {CLIENTS * JOBS_EACH:,} | {wrong} |", flush=True)


def stalled(stage: Stage, *, seconds: float) -> None:
    """One client among the others follows every job and reads nothing."""
    until_closed = connection.STALLED_SECONDS + 3 * connection.CLOSE_SECONDS
    with (
        stage.serving(stage.gateway(JOBS)) as (server, port),
        stage.connected(port, CLIENTS, jobs_each=JOBS_EACH, jobs=JOBS) as client,
    ):
        time.sleep(SETTLE_SECONDS)
        states_for(server, client, 2)
        start = server.kilobytes()
        _, without = states_for(server, client, seconds)
        before = server.kilobytes()
        with stage.connected(port, 1, jobs=JOBS, stalled=1):
            _, with_one = states_for(server, client, seconds)
            during = server.kilobytes()
            states_for(server, client, max(0.0, until_closed - seconds))
            after = server.kilobytes()
    print(f"\n| one stalled client among {CLIENTS:,} | without | with |")
    print("|---|--:|--:|")
    print(f"| p50 of the others (ms) | {without.p50:.0f} | {with_one.p50:.0f} |")
    print(f"| p99 of the others (ms) | {without.p99:.0f} | {with_one.p99:.0f} |")
    grown = f"{before - start:,} | {during - before:,}, then {after - during:,}"
    print(f"| memory grew by (KB); with: while it stalled, then when it was closed | {grown} |", flush=True)


def idle(stage: Stage, clients: int) -> None:
    """What a connection costs that nothing is sent to."""
    print(f"\n| {clients:,} idle connections | KB each |")
    print("|---|--:|")
    for way in [stage.gateway(1), *stage.others]:
        with stage.serving(way) as (server, port):
            with stage.connected(port, 10):
                time.sleep(SETTLE_SECONDS)
            before = server.kilobytes()
            with stage.connected(port, clients):
                time.sleep(SETTLE_SECONDS)
                print(f"| {way.label} | {(server.kilobytes() - before) / clients:.1f} |", flush=True)


def run(stage: Stage, parts: Iterable[str], numbers: Iterable[int], *, turns: int, quick: bool) -> None:
    """Measure and print `parts`; quickly: little of each, which shows that it works and nothing else."""
    print(f"{os.cpu_count()} cores; load before: {' '.join(f'{load:.2f}' for load in os.getloadavg())}", flush=True)
    if "delivery" in parts:
        for clients in (100,) if quick else numbers:
            print_delivery(clients, compare(stage, clients, rounds=4 if quick else 20, turns=turns))
    if "one-job" in parts:
        for clients in (100,) if quick else numbers:
            results = compare(stage, clients, rounds=4 if quick else 20, turns=turns, one_job=True)
            print_delivery(clients, results, " of one job")
    if "conflation" in parts:
        conflation(stage, seconds=1 if quick else 10)
    if "stalled" in parts:
        stalled(stage, seconds=1 if quick else 12)
    if "idle" in parts:
        idle(stage, 200 if quick else 5_000)


def main() -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout", description="Measure the fan-out.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which of {', '.join(PARTS)}; all by default")
    numbers = "to how many clients one message is sent, each in turn (%(default)s)"
    parser.add_argument("--clients", type=int, nargs="+", default=[1_000, 5_000], metavar="N", help=numbers)
    parser.add_argument("--turns", type=int, default=3, help="how often each way has its turn (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it run?")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    with open_stage() as stage:
        turns = 1 if arguments.quick else arguments.turns
        run(stage, arguments.parts or PARTS, arguments.clients, turns=turns, quick=arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
