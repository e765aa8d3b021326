"""Reads a provider's news ahead while those before are being stored: as much as there is room for, and then it waits.

Rule: memory is bounded by what waits and what is being stored. A slow database so stops the reading of the provider.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from providers.base import FINAL_STAGES, BuildNews

MOST_LINES = 20_000
MOST_CHARACTERS = 8 * 1024 * 1024
PAUSE_SECONDS = 0.1
"""Between two batches, unless there is no more room: lines that come one by one are stored a few at a time."""


class ReadingAhead:
    def __init__(self) -> None:
        self._waiting: list[BuildNews] = []
        self._lines = 0
        self._characters = 0
        self._ended = False
        self._taken_at = 0.0
        self._changed = asyncio.Condition()

    async def take(self) -> list[BuildNews]:
        """All that is new, as soon as there is something; nothing when no more will come."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self._ended)
            pause = self._taken_at + PAUSE_SECONDS - time.monotonic()
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._changed.wait_for(lambda: self._full or self._ended)
            taken, self._waiting = self._waiting, []
            self._lines = self._characters = 0
            self._taken_at = time.monotonic()
            self._changed.notify_all()
            return taken

    async def read(self, all_news: AsyncGenerator[BuildNews, None]) -> None:
        """Until a final stage."""
        try:
            async with aclosing(all_news):
                async for news in all_news:
                    await self._put(news)
                    if news.stage in FINAL_STAGES:
                        return
        finally:
            async with self._changed:
                self._ended = True
                self._changed.notify_all()

    async def _put(self, news: BuildNews) -> None:
        """Returns when there is room for more."""
        async with self._changed:
            self._waiting.append(news)
            self._lines += len(news.lines)
            self._characters += sum(len(line.message) for line in news.lines)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: not self._full)

    @property
    def _full(self) -> bool:
        return self._lines >= MOST_LINES or self._characters >= MOST_CHARACTERS


async def read_ahead(all_news: AsyncGenerator[BuildNews, None]) -> AsyncGenerator[list[BuildNews], None]:
    """News in their order, as many at a time as have come meanwhile. What the provider raises comes after them."""
    ahead = ReadingAhead()
    reading = asyncio.create_task(ahead.read(all_news))
    try:
        while taken := await ahead.take():
            yield taken
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
