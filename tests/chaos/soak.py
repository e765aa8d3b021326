"""A long load, and what each part holds meanwhile: memory, open files, connections to the database.

Rule: whether a figure grows is said by a robust slope (Theil, Sen: the median of the slopes of all pairs) of what was
measured after the first third, in which caches and pools fill.
"""

import asyncio
import contextlib
import itertools
import re
import statistics
import time
from collections import defaultdict
from pathlib import Path

from providers.internal.processes import descendants
from tests.chaos.round import KEPT, World
from tests.chaos.scenarios import Told, Wish, ended
from tests.chaos.target import Target
from tests.chaos.traffic import Intent

AT_ONCE = 6
HERE_EVERY = 6
"""Each so-many-th deployment is built here; the others at the deploy server."""
OF_A_PROJECT = 8
SAMPLE_SECONDS = 2.0
MOST_GROWTH = 0.05
"""Of the median, over all the time that is looked at; and never less than these:"""
LEAST = {"MiB": 4.0, "files": 4.0, "connections": 2.0}
OURS = ("worker", "api", "api and worker")
"""Others' caches fill for hours: that is shown, and no fault here."""
_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)

Series = list[tuple[float, float]]


async def soak(world: World, wish: Wish) -> Told:
    until = time.monotonic() + wish.minutes * 60
    samples: defaultdict[tuple[str, str], Series] = defaultdict(list)
    sampling = asyncio.create_task(_sample(world.target, samples))
    intents: list[Intent] = []
    try:
        await asyncio.gather(*(_client(world, intents, until, wish.pause_seconds) for _ in range(AT_ONCE)))
    finally:
        sampling.cancel()
        await asyncio.wait([sampling])
    told = Told([("minutes", f"{wish.minutes:g}"), ("deployments", str(len(intents)))])
    for (part, unit), series in samples.items():
        later = series[len(series) // 3 :]
        slope, median = theil_sen(later), statistics.median(value for _, value in later)
        growth = slope * (later[-1][0] - later[0][0])
        flat = growth <= max(MOST_GROWTH * median, LEAST[unit])
        said = f"{median:.0f}, {slope * 3600:+.1f} an hour: {'flat' if flat else 'grows'}"
        told.figures.append((f"{part}: {unit}", said))
        if not flat and part in OURS:
            told.problems.append(f"{part} grows by {growth:.1f} {unit} in {wish.minutes * 2 / 3:.0f} minutes")
    return await ended(world, told, intents)


async def _client(world: World, intents: list[Intent], until: float, pause_seconds: float) -> None:
    """One deployment after the other, each watched to its end."""
    for number in itertools.count():
        if number % OF_A_PROJECT == 0:
            here = await world.clients.project("internal", world.repository)
            there = await world.clients.project("custom", world.provider.url)
        built_here = len(intents) % HERE_EVERY == 0
        intent = Intent(here if built_here else there, "internal" if built_here else "custom")
        intents.append(intent)
        await world.clients.trigger(intent)
        await asyncio.gather(*world.clients.watch(intent))
        await asyncio.sleep(pause_seconds)
        if time.monotonic() > until:
            return


async def _sample(target: Target, samples: dict[tuple[str, str], Series]) -> None:
    while True:
        now = time.monotonic()
        for part in KEPT:
            pids = [target.pid(part)]
            if part == "postgres":
                pids += descendants(pids[0])
            with contextlib.suppress(OSError):  # a connection's process may end meanwhile
                samples[part, "MiB"].append((now, sum(map(_private, pids)) / 2**20))
                samples[part, "files"].append((now, sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)))
        [row] = await target.rows("select count(*) from pg_stat_activity where application_name = 'headway'")
        samples["api and worker", "connections"].append((now, row["count"]))
        await asyncio.sleep(SAMPLE_SECONDS)


def _private(pid: int) -> int:
    """Bytes of memory that are its own: what several share is not counted several times."""
    found = _ANONYMOUS.search(Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def theil_sen(series: Series) -> float:
    """A second's growth. Thinned, so that the pairs stay a few thousand."""
    thin = series[:: max(1, len(series) // 100)]
    slopes = [(b - a) / (then - now) for (now, a), (then, b) in itertools.combinations(thin, 2) if then > now]
    return statistics.median(slopes) if slopes else 0.0
