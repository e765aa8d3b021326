"""Cancels and deadlines that are never lost. See `docs/decisions/0003-cancel-and-deadline.md` for what was measured.

A cancel that lands together with a step's completion raises nothing: `Guard.check` after each step finds it. A step
with a side effect is shielded, so that its result is known whatever lands.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from temporalio import workflow

Answer = TypeVar("Answer")


class Guard:
    def __init__(self, deadline: asyncio.Timeout) -> None:
        self._deadline = deadline

    def check(self) -> None:
        """Raises CancelledError when the deployment is to be canceled or its time has run out."""
        if workflow.cancellation_reason() is not None or self._deadline.expired():
            raise asyncio.CancelledError


async def shielded(step: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of `step`, whatever cancel arrives meanwhile."""
    task = asyncio.create_task(step)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                return task.result()
