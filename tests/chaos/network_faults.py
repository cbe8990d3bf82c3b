"""Connections between the services and their servers that break, fall silent or crawl."""

import asyncio
from random import Random

from chaos.proxy import Proxy
from chaos.stage import Stage

SLOW_SECONDS = 3.0


async def broker_reset(stage: Stage, _: Random) -> None:
    """Reset all connections to the broker."""
    stage.broker_link.reset()


async def database_reset(stage: Stage, _: Random) -> None:
    """Reset all connections to the database."""
    stage.database_link.reset()


async def broker_cut_off(stage: Stage, rng: Random) -> None:
    """Leave half of the connections to the broker half-open, for good: new ones work."""
    stage.broker_link.cut_off(0.5, rng)


async def database_cut_off(stage: Stage, rng: Random) -> None:
    """Leave half of the connections to the database half-open, for good: new ones work."""
    stage.database_link.cut_off(0.5, rng)


async def broker_slow(stage: Stage, rng: Random) -> None:
    """Delay everything to and from the broker."""
    await _slow(stage.broker_link, rng)


async def database_slow(stage: Stage, rng: Random) -> None:
    """Delay everything to and from the database."""
    await _slow(stage.database_link, rng)


async def _slow(link: Proxy, rng: Random) -> None:
    link.delay = rng.uniform(0.05, 0.4)
    try:
        await asyncio.sleep(SLOW_SECONDS)
    finally:
        link.delay = 0.0
