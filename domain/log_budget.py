"""How much of a log is kept: all within its budget; beyond, its beginning and end, and what is missing is counted.

Rule: what is kept, with the marker between, stays within the budget. So a log that was cut before is not cut again.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

MIB = 1024 * 1024
_TAIL_LINES = 1000
_TAIL_BYTES = MIB
_MOST_WAITING = 20_000
"""Lines that wait in memory for the end, however short they are."""
_MARKER_BYTES = 128

Item = TypeVar("Item")


@dataclass(frozen=True)
class Budget:
    """Of the lines of one log, and of the bytes of their messages together."""

    lines: int = 2_000_000
    bytes: int = 256 * MIB

    @property
    def head_lines(self) -> int:
        return self.lines - min(_TAIL_LINES, self.lines // 2)

    @property
    def head_bytes(self) -> int:
        return self.bytes - min(_TAIL_BYTES, self.bytes // 2)


@dataclass(frozen=True)
class Missing:
    """What was left out between the beginning and the end of a log; false when nothing was."""

    lines: int = 0
    bytes: int = 0

    def __bool__(self) -> bool:
        return self.lines > 0

    @property
    def message(self) -> str:
        lines = "line is" if self.lines == 1 else "lines are"
        return f"… {self.lines} {lines} missing here ({self.bytes} bytes): the log was beyond its limit"

    @property
    def metadata(self) -> dict[str, Any]:
        return {"missingLines": self.lines, "missingBytes": self.bytes}


class LogBudget(Generic[Item]):
    """Counts what is stored and holds the last lines beyond the beginning. `lines` and `size` are stored already."""

    def __init__(self, budget: Budget, lines: int = 0, size: int = 0) -> None:
        self._budget = budget
        self._lines = lines
        self._bytes = size
        self._tail: deque[tuple[Item, int]] = deque()
        self._tail_bytes = 0
        self.missing = Missing()

    @property
    def begins(self) -> bool:
        """Whether this is still the beginning of the log; where it has ended once, everything else is its end."""
        return not self._tail and not self.missing

    def has_room(self, lines: int, size: int) -> bool:
        """Whether so much more belongs to the beginning."""
        room = self._lines + lines <= self._budget.head_lines and self._bytes + size <= self._budget.head_bytes
        return room and self.begins

    def count(self, lines: int, size: int) -> None:
        """So much more of the beginning is stored."""
        self._lines += lines
        self._bytes += size

    def keep(self, item: Item, size: int) -> None:
        """One line more of what may be the end."""
        self._tail.append((item, size))
        self._tail_bytes += size
        if self.missing or not self._fits():
            while self._tail and not self._fits(1, _MARKER_BYTES):
                _, dropped = self._tail.popleft()
                self._tail_bytes -= dropped
                self.missing = Missing(self.missing.lines + 1, self.missing.bytes + dropped)

    def take_tail(self) -> list[Item]:
        """The end of the log, to be stored after the marker where something is missing."""
        tail = [item for item, _ in self._tail]
        self.count(len(tail), self._tail_bytes)
        self._tail.clear()
        self._tail_bytes = 0
        return tail

    def _fits(self, lines: int = 0, size: int = 0) -> bool:
        return (
            self._lines + len(self._tail) + lines <= self._budget.lines
            and self._bytes + self._tail_bytes + size <= self._budget.bytes
            and len(self._tail) <= _MOST_WAITING
        )
