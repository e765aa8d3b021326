"""Every activity beats: a worker that dies is noticed within the heartbeat time-out, and a cancel gets through."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ParamSpec, TypeVar

from temporalio import activity

BEAT_SECONDS = 2.0

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


def beating(step: Callable[Parameters, Awaitable[Answer]]) -> Callable[Parameters, Awaitable[Answer]]:
    """Beats while `step` runs. For steps that have nothing to tell about their progress."""

    @functools.wraps(step)
    async def alive(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        async with _beats():
            return await step(*args, **kwargs)

    return alive


def carried_through(step: Callable[Parameters, Awaitable[Answer]]) -> Callable[Parameters, Awaitable[Answer]]:
    """Once begun, `step` is brought to its end, whatever cancel arrives: better a late side effect than half of one."""

    @functools.wraps(step)
    async def whole(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        task = asyncio.ensure_future(step(*args, **kwargs))
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        return task.result()

    return whole


@contextlib.asynccontextmanager
async def _beats() -> AsyncIterator[None]:
    task = asyncio.create_task(_beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _beat() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(BEAT_SECONDS)
