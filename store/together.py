"""What many ask for at once is done together: one round takes all that waits, and each gets its own answer.

Rule: under load a transaction's cost is shared by all of a round; without load a round has one, and waits for nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from domain.errors import DeploymentError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Together(Generic[Item, Answer]):
    """`work` answers all items of a round, in their order; `most` is how many a round has."""

    def __init__(self, work: Callable[[list[Item]], Awaitable[list[Answer]]], most: int = 100) -> None:
        self._work = work
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._rounds: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._rounds is None or self._rounds.done():
            self._rounds = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            await self._do(taken)

    async def _do(self, taken: list[tuple[Item, "asyncio.Future[Answer]"]]) -> None:
        try:
            answers = await self._work([item for item, _ in taken])
        except Exception as error:  # noqa: BLE001  # handed to those who wait for an answer: they fail by it
            if len(taken) > 1 and not isinstance(error, DeploymentError):
                for one in taken:  # a bug that one of them meets is not to be the others'
                    await self._do([one])
                return
            for _, waiting in taken:
                if not waiting.done():
                    waiting.set_exception(error)
        else:
            for (_, waiting), answer in zip(taken, answers, strict=True):
                if not waiting.done():  # who no longer waits has been disconnected
                    waiting.set_result(answer)
