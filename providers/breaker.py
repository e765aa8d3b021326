"""A circuit breaker per provider and account: who fails again and again is left alone for a while.

Rule: failures are what says that the provider is not well (5xx, time-outs, connections that break), never a refusal.
"""

import contextlib
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from domain.errors import DeploymentError, ErrorCode

THRESHOLD = 5
"""Failures in a row that open it."""
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0
_JITTER = 0.2
"""Pauses are up to this share longer, so that those who wait do not come back all at once."""
_MANY = 10_000


@dataclass(frozen=True)
class Trouble:
    """Why a provider is left alone: for whoever waits for it."""

    provider: str
    since: datetime
    why: str
    pause_seconds: int

    def __str__(self) -> str:
        return f"waiting for {self.provider} since {self.since:%H:%M:%S} UTC, because {self.why}"


class Breaker:
    """Closed: calls go through. Open: they are refused at once. Half open, after a pause: one call tries.

    Each trial that fails doubles the pause.
    """

    def __init__(
        self,
        provider: str,
        *,
        threshold: int = THRESHOLD,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._threshold = threshold
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._clock = clock
        self._failures = 0
        self._since: datetime | None = None
        self._why = ""
        self._pause = 0.0
        self._until = 0.0
        self._trying = False

    @property
    def trouble(self) -> Trouble | None:
        """What keeps it open; None while it is closed."""
        if self._pause == 0 or self._since is None:
            return None
        wait = max(1, round(self._until - self._clock()))
        return Trouble(self._provider, self._since, self._why, wait)

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """A call on its way; what neither succeeded nor failed (it was cancelled) says nothing.

        Raises:
            DeploymentError: unavailable, while it is open.
        """
        trial = self._admit()
        try:
            yield
        finally:
            if trial:
                self._trying = False

    def succeeded(self) -> None:
        self._failures = 0
        self._trying = False
        self._pause = self._until = 0
        self._since = None

    def failed(self, why: str) -> None:
        self._failures += 1
        self._why = why
        self._since = self._since or datetime.now(UTC)
        if self._failures >= self._threshold and self._clock() >= self._until:
            self._pause = min(self._longest_pause, self._pause * 2 or self._first_pause)
            self._until = self._clock() + self._pause * (1 + random.uniform(0, _JITTER))  # noqa: S311 - no secret

    def _admit(self) -> bool:
        """Whether this call is the trial."""
        trouble = self.trouble
        if trouble is None:
            return False
        if self._trying or self._clock() < self._until:
            raise DeploymentError(ErrorCode.UNAVAILABLE, str(trouble), retry_after_seconds=trouble.pause_seconds)
        self._trying = True
        return True


class Breakers:
    """One for each provider and account, in this process; what another worker learnt it learns by itself."""

    def __init__(self) -> None:
        self._all: OrderedDict[tuple[str, str], Breaker] = OrderedDict()

    def of(self, provider: str, account: str) -> Breaker:
        key = (provider, account)
        breaker = self._all.setdefault(key, Breaker(provider))
        self._all.move_to_end(key)
        if len(self._all) > _MANY:
            self._all.popitem(last=False)
        return breaker
