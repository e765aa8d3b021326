"""Work that goes on after its answer: telling Temporal what the database already has.

Rule: nothing may depend on it. What fails here is logged; the worker's dispatcher delivers it later.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from domain.errors import DeploymentError

_log = structlog.get_logger()
_GRACE_SECONDS = 2


class Background:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.create_task(_told(work, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Gives what is under way a moment, then lets go."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _told(work: Coroutine[Any, Any, None], what: str) -> None:
    try:
        await work
    except DeploymentError as error:
        _log.warning("put off", what=what, reason=error.message)
    except Exception:  # noqa: BLE001  # nobody awaits this task: its failure would be seen by no one else
        _log.exception("failed in the background", what=what)
