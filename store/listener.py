"""One database connection per process that hears what is new, whatever the number of those who wait for it.

Rules: a wake-up is a hint. Who is woken reads the tables, so that a lost one costs the time-out and nothing else. None
is lost for long: the connection is asked now and then, and when there is a new one everybody is woken.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator

import psycopg
from psycopg import sql

from store.database import CHANNEL

_PAUSE_SECONDS = 0.5
_CHECK_SECONDS = 3.0
"""A connection that was cut on the way says nothing, as one does on which nothing happens."""


class Wake:
    """Set when there may be news; waiting for it takes it back."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - a time-out is a normal outcome here, not an error
        """Returns at news, or after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout)
        self._event.clear()


class Listener:
    def __init__(self, url: str) -> None:
        self._url = url
        self._wakes: defaultdict[str, set[Wake]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Listener":
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @contextlib.asynccontextmanager
    async def watch(self, key: str) -> AsyncIterator[Wake]:
        """A wake for the deployment or project of that id."""
        wake = Wake()
        self._wakes[key].add(wake)
        try:
            yield wake
        finally:
            self._wakes[key].discard(wake)
            if not self._wakes[key]:
                del self._wakes[key]

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
                await self._hear()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _hear(self) -> None:
        connect = psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=5, keepalives_idle=30)
        async with await connect as connection:
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(CHANNEL)))
            # What was said while nobody listened is not said again: everyone looks once.
            for key in list(self._wakes):
                self._wake(key)
            while True:
                async for notice in connection.notifies(timeout=_CHECK_SECONDS):
                    for key in notice.payload.split():
                        self._wake(key)
                async with asyncio.timeout(_CHECK_SECONDS):
                    await connection.execute("select 1")

    def _wake(self, key: str) -> None:
        for wake in self._wakes.get(key, ()):
            wake.set()
