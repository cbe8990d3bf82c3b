"""The benchmarks run, on little of everything, and every contestant counts right: a wrong count ends them."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tallyho_backing_services import BackingServices

ROOT = Path(__file__).parents[2]


async def test_ingest_benchmark_measures_every_contestant(backing: BackingServices, amqp_url: str) -> None:
    servers = {"AMQP_URL": amqp_url, "DATABASE_URL": backing.database_url}
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.ingest", "throughput", "latency", "--quick"),
        cwd=ROOT,
        env={**os.environ, **servers},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await running.communicate()

    assert running.returncode == 0, complained.decode()
    rows = [line.split("|")[1:-1] for line in said.decode().splitlines() if line.startswith("|")]
    contestants = [row for row in rows if row[0].strip().startswith("(")]
    assert [row[0].strip()[:3] for row in contestants] == ["(a)", "(b)", "(c)", "(c)", "(d)", "(d)"]
    assert all(float(row[1].replace(",", "")) > 0 for row in contestants)
    latencies = [row for row in rows if row[0].strip() == "1,000" and len(row) == 7]
    assert len(latencies) == 2


async def test_frontier_benchmark_drains_what_it_filled(backing: BackingServices) -> None:
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.frontier", "--quick", "many", "settings"),
        cwd=ROOT,
        env={**os.environ, "AMQP_URL": backing.amqp_url, "DATABASE_URL": backing.database_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await running.communicate()

    assert running.returncode == 0, complained.decode()
    rows = [line.split("|")[1:-1] for line in said.decode().splitlines() if line.startswith("|")]
    done = [(row[0].strip(), row[1].strip()) for row in rows]
    assert {("insert", "10,000"), ("crawl", "10,000")} <= set(done)
    assert {"forget", "as migrated", "fill factor 90"} <= {name for name, _ in done}


async def test_crawl_benchmark_crawls_a_whole_manual_with_the_whole_system(backing: BackingServices) -> None:
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.crawl", "ours", "--manual", "postgresql", "--rounds", "1"),
        cwd=ROOT,
        env={**os.environ, "AMQP_URL": backing.amqp_url, "DATABASE_URL": backing.database_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await running.communicate()

    assert running.returncode == 0, complained.decode()  # a wrong number of pages or documents ends it
    [row] = [line.split("|")[1:-1] for line in said.decode().splitlines() if line.startswith("| Tallyho")]
    assert float(row[1].replace(",", "")) > 0


TWO_CHILDREN = """
import os, subprocess, sys, time
from benchmarks.cpu import sampled_memory

child = [sys.executable, "-c", "import sys; held = b'x' * 100_000_000; sys.stdin.read()"]
with sampled_memory([os.getpid()]) as megabytes:
    children = [subprocess.Popen(child, stdin=subprocess.PIPE) for _ in range(2)]
    while not megabytes or megabytes[-1] < 200:
        time.sleep(0.1)
    for one in children:
        one.communicate()
print(max(megabytes), megabytes[-1])
"""


def test_memory_of_processes_that_ended_before_the_run_is_measured() -> None:
    said = subprocess.run(
        [sys.executable, "-c", TWO_CHILDREN], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=120
    )
    most, last = map(float, said.stdout.split())

    assert most > 200
    assert last < 100
