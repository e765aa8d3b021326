"""News at least once a second, whatever they wait for: the last ones again, without their lines."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from providers.base import BuildNews

BEAT_SECONDS = 0.8


async def with_beats(news: AsyncGenerator[BuildNews, None], first: BuildNews) -> AsyncGenerator[BuildNews, None]:
    """`first` is what is said as long as there are none."""
    last = first
    async with contextlib.aclosing(news):
        while True:
            coming = asyncio.ensure_future(anext(news, None))
            try:
                while not (await asyncio.wait({coming}, timeout=BEAT_SECONDS))[0]:
                    yield last.model_copy(update={"lines": []})
            finally:
                coming.cancel()
                await asyncio.wait({coming})
            if (new := coming.result()) is None:
                return
            yield new
            last = new
