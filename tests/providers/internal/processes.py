"""Looks at the process table from outside of the provider."""

import asyncio
import time
from pathlib import Path

from tests.servers import PATIENCE_SECONDS


def running(needle: str) -> list[int]:
    """Processes whose command line holds `needle`; the dead that wait to be buried have none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if needle.encode() in text.replace(b"\0", b" "):
                found.append(int(entry.name))
    return found


async def appears(needle: str, seconds: float = PATIENCE_SECONDS) -> list[int]:
    until = time.monotonic() + seconds
    while not (found := running(needle)):
        assert time.monotonic() < until, f"{needle!r} does not run"
        await asyncio.sleep(0.02)
    return found


async def is_gone(needle: str, seconds: float = PATIENCE_SECONDS) -> bool:
    until = time.monotonic() + seconds
    while running(needle):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.02)
    return True
