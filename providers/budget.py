"""How many calls an account may still make, as the provider said; so that we stop before the wall.

Shared, once several workers use one account, is no more than this: per key, how many are left and until when that
counts. A store-backed `Budget` keeps these two numbers in a row and is handed to `Http` in the place of this one.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

_RESERVE_SHARE = 0.02
"""Kept back for calls that are urgent, as a cancel is."""
_MANY = 10_000


class Budget(Protocol):
    async def take(self, key: str, *, urgent: bool) -> float:
        """Takes one call; else the seconds until there is one again."""

    async def note(self, key: str, *, limit: int, left: int, reset_seconds: float) -> None:
        """What the provider said last: `left` of `limit` for the next `reset_seconds`."""


class LocalBudget:
    """A `Budget` of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[int, int, float]] = OrderedDict()

    async def take(self, key: str, *, urgent: bool) -> float:
        limit, left, until = self._left.get(key, (0, 0, 0.0))
        wait = until - self._clock()
        if wait <= 0:
            self._left.pop(key, None)
            return 0
        if left <= (0 if urgent else int(limit * _RESERVE_SHARE)):
            return wait
        self._left[key] = (limit, left - 1, until)
        return 0

    async def note(self, key: str, *, limit: int, left: int, reset_seconds: float) -> None:
        self._left[key] = (limit, left, self._clock() + reset_seconds)
        self._left.move_to_end(key)
        if len(self._left) > _MANY:
            self._left.popitem(last=False)
