"""Cancels and deadlines that are never lost. See `docs/decisions/0003-cancel-and-deadline.md` for what was measured.

A cancel that lands together with a step's completion raises nothing, or takes the step's result away: `Guard.check`
after each step finds the one, `to_its_end` and `shielded` keep the other.
"""

import asyncio
import contextlib
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


async def to_its_end(step: workflow.ActivityHandle[Answer]) -> Answer:
    """The result of a step with a side effect. A cancel is passed on, and what comes of it is waited for.

    A step that no worker has begun is gone at once then; one that has begun is carried through, and its result counts.
    """
    while True:
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)  # a result that came in the same workflow task has still to get through
            if step.done():
                return step.result()
            step.cancel()


async def shielded(step: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of `step`, which no cancel reaches."""
    task = asyncio.create_task(step)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done():
                return task.result()
