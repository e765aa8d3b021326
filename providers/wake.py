"""How a follower pauses between two looks at a provider: for a while, or until somebody says that there may be news.

Rule: a wake-up is a hint (a webhook came in). A lost one costs the rest of the pause and nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol


class Wake(Protocol):
    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - a time-out is a normal outcome here, not an error
        """Returns at news, or after `timeout` seconds."""


Watch = Callable[[str], AbstractAsyncContextManager[Wake]]
"""A wake for the deployment of that id."""


class _Sleep:
    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - as above
        await asyncio.sleep(timeout)


@asynccontextmanager
async def unwoken(_: str) -> AsyncIterator[Wake]:
    """A watch for where nobody brings news: every pause lasts to its end."""
    yield _Sleep()
