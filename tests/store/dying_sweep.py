"""A round of upkeep that is killed at a step: `python -m tests.store.dying_sweep DATABASE ARCHIVE STEP`."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import date

from store.archive import LogArchive
from store.chunks import Chunk
from store.database import Database
from store.log_upkeep import Keep, LogUpkeep
from store.logs import LogStore
from store.seal import Sealer
from tests.conftest import SECRET_KEYS

STEPS = ("merged", "half-way", "written", "archived", "dropped")
step = sys.argv[3] if __name__ == "__main__" else ""


def at(name: str) -> None:
    if name == step:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingLogs(LogStore):
    async def merge(self, deployment_id: str) -> None:
        await super().merge(deployment_id)
        at("merged")


class DyingArchive(LogArchive):
    async def write(self, day: date, name: str, lines: int, chunks: AsyncIterator[Sequence[Chunk]]) -> str:
        async def dying() -> AsyncIterator[Sequence[Chunk]]:
            async for batch in chunks:
                yield batch
                at("half-way")

        key = await super().write(day, name, lines, dying())
        at("written")
        return key


class DyingUpkeep(LogUpkeep):
    async def _archive_log(self, archive: LogArchive, deployment_id: str) -> bool:
        done = await super()._archive_log(archive, deployment_id)
        at("archived")
        return done

    async def _drop(self, day: date) -> bool:
        done = await super()._drop(day)
        at("dropped")
        return done


async def main(url: str, place: str) -> None:
    async with Database(url) as database:
        archive = DyingArchive(place)
        logs = DyingLogs(database, Sealer(SECRET_KEYS), archive)
        await DyingUpkeep(database, logs, archive, Keep()).sweep()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
