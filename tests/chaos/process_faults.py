"""Services that are killed at a named point or at any moment, ended in order, or frozen."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from random import Random

from chaos.database_faults import sessions_ended
from chaos.orders import OrderNotCarriedOut
from chaos.sabotage import MID_STATEMENT
from chaos.stage import LEASE_SECONDS, STOP_SECONDS, NotInjected, Stage

PASSAGE_SECONDS = 12.0
SILENCE_SECONDS = 30.0  # the services end a session after 20
OUTBOX_LEASE_SECONDS = 15.0
SILENT_SESSIONS = """
SELECT count(*) > 0 FROM pg_stat_activity
WHERE usename = $1 AND state = 'active' AND wait_event = 'ClientRead'
    AND state_change < clock_timestamp() - interval '1 second'
"""


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


async def frozen_in_a_statement(stage: Stage, rng: Random) -> None:
    """Stop a process while the server waits for the rest of a statement; what it holds locked must be freed."""
    service, nth = rng.choice([*stage.replicas("crawler"), *stage.replicas("job-tracker")]), rng.randint(1, 4)
    await sessions_ended(stage, rng)  # statements are prepared once in a session
    try:
        await stage.orders.freeze(service, MID_STATEMENT, nth, within=PASSAGE_SECONDS)
    except OrderNotCarriedOut as error:
        raise NotInjected(str(error)) from error
    try:
        async with stage.sql() as connection, asyncio.timeout(SILENCE_SECONDS):
            for is_silent in (True, False):
                while await connection.fetchval(SILENT_SESSIONS, stage.role) is not is_silent:
                    await asyncio.sleep(0.2)  # a view can't be awaited
    except TimeoutError:
        stage.complaints.append(f"{service} was frozen in a statement, and held what it had locked to the end")
    finally:
        stage.signal(service, signal.SIGCONT)
