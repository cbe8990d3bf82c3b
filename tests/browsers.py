"""Chromium as it is installed here, and the processes that belong to it."""

import asyncio
import os
import shutil

CHROMIUM = shutil.which("chromium")


async def browsers() -> set[str]:
    """The browsers that this process has started."""
    drivers = await children_of(os.getpid(), "run-driver")
    return {browser for driver in drivers for browser in await children_of(driver, "chromium")}


async def children_of(pid: int | str, name: str) -> set[str]:
    """The processes that another has started, by their ids."""
    listing = await asyncio.create_subprocess_exec("pgrep", "-P", str(pid), "-f", name, stdout=asyncio.subprocess.PIPE)
    output, _ = await listing.communicate()
    return set(output.decode().split())
