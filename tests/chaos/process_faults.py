"""Services that are killed at a named point or at any moment, ended in order, or frozen."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from random import Random

from chaos.orders import OrderNotCarriedOut
from chaos.stage import LEASE_SECONDS, STOP_SECONDS, NotInjected, Stage

PASSAGE_SECONDS = 12.0
OUTBOX_LEASE_SECONDS = 15.0


def killed_at(kind: str, point: str, last: int) -> Callable[[Stage, Random], Awaitable[None]]:
    """Let a replica kill itself at one of its next `last` passages of `point`."""

    async def inject(stage: Stage, rng: Random) -> None:
        service, nth = rng.choice(stage.replicas(kind)), rng.randint(1, last)
        try:
            await stage.orders.kill(service, point, nth, within=PASSAGE_SECONDS)
        except OrderNotCarriedOut as error:
            raise NotInjected(str(error)) from error

    return inject


async def killed_any_time(stage: Stage, rng: Random) -> None:
    """Kill a service wherever it is."""
    service = rng.choice(stage.replicas())
    await asyncio.sleep(rng.random() / 2)
    stage.signal(service, signal.SIGKILL)


async def terminated(stage: Stage, rng: Random) -> None:
    """Ask a service to end while it works; it must finish in order, in time."""
    name = rng.choice(stage.replicas())
    service = stage.system.services[name]
    await asyncio.to_thread(service.await_ready)
    pid = stage.signal(name, signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            while pid not in stage.exit_codes:
                await asyncio.sleep(0.05)
    except TimeoutError:
        stage.complaints.append(f"{name} (process {pid}) was not gone {STOP_SECONDS:g} s after SIGTERM")
        return
    if stage.exit_codes[pid] != 0:
        stage.complaints.append(f"{name} answered SIGTERM with exit code {stage.exit_codes[pid]}")


async def frozen(stage: Stage, rng: Random) -> None:
    """Stop a process for longer than the lease of a worker; it goes on as if no time had passed."""
    await _freeze(stage, rng.choice(stage.replicas()), 2 * LEASE_SECONDS)


async def frozen_long(stage: Stage, rng: Random) -> None:
    """Stop a process for longer than its rows in the outbox are leased: others publish them."""
    await _freeze(
        stage, rng.choice([*stage.replicas("crawler"), *stage.replicas("job-tracker")]), OUTBOX_LEASE_SECONDS + 2
    )


async def _freeze(stage: Stage, service: str, seconds: float) -> None:
    stage.signal(service, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        stage.signal(service, signal.SIGCONT)
