"""A build's log on disk: `log.jsonl`, where each row is a `Block`: lines that came together.

Rules:
1. A row is written within 100 ms, whole, and never changed; so a reader's place is a number of bytes.
2. What a limit cuts is replaced by a marker with exact counts. A log never fails a build.
3. Values of secrets do not get here: they are replaced before the first byte is written.
4. A level is written where it is known. What lines mean is read out of them by whoever takes them over.
"""

import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from domain.log import LogLevel, LogLine, LogSource
from domain.log_budget import Budget, LogBudget
from domain.log_text import LineSplitter, lines_of, plain, shortened
from domain.masking import Mask
from domain.wire import rfc3339
from providers.internal.limits import Limits

FLUSH_SECONDS = 0.1
MOST_LINES = 500
MOST_BYTES = 256 * 1024
"""Of a row, whose JSON is at most three times as long: a colour's ESC is six characters there."""

_FLUSH_BYTES = 256 * 1024
_EXCERPT_LINES = 20


@dataclass(slots=True)
class Block:
    """`lines`, which is first in its row, says how many messages there are."""

    lines: int
    timestamp: datetime
    messages: list[str]
    step: str | None = None
    source: LogSource = "build"
    metadata: dict[str, Any] | None = None
    level: LogLevel | None = None

    def log_lines(self) -> list[LogLine]:
        return [
            LogLine(self.timestamp, message, self.step, self.source, self.metadata, self.level)
            for message in self.messages
        ]


class LogFile:
    """Appends lines; beyond its budget, counts them and keeps the last ones for the end."""

    def __init__(self, path: Path, limits: Limits, mask: Mask) -> None:
        self.mask = mask
        self._file = path.open("ab")
        self._line_bytes = limits.line_bytes
        self._budget: LogBudget[bytes] = LogBudget(Budget(limits.log_lines, limits.log_bytes))
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._flushed_at = time.monotonic()
        self._last: deque[str] = deque(maxlen=_EXCERPT_LINES)

    @property
    def excerpt(self) -> list[str]:
        """The last lines of the step."""
        return [plain(text) for text in self._last]

    def begin(self) -> None:
        """A step begins: an excerpt is of one step."""
        self._last.clear()

    def splitter(self) -> LineSplitter:
        """For what a command says: gives lines for `add`."""
        return LineSplitter(self.mask, self._line_bytes)

    def write(self, step: str, message: str, level: LogLevel | None = None) -> None:
        """What we say ourselves."""
        texts = self.mask.texts(lines_of(message))
        self.add(step, [shortened(text, self._line_bytes) for text in texts], level)

    def add(self, step: str, texts: list[str], level: LogLevel | None = None) -> None:
        """Lines that may be stored as they are."""
        self._last.extend(texts[-_EXCERPT_LINES:])
        for at in range(0, len(texts), MOST_LINES):
            self._add(texts[at : at + MOST_LINES], step=step, level=level)

    def flush(self, *, at_once: bool = False) -> None:
        due = time.monotonic() - self._flushed_at >= FLUSH_SECONDS or self._waiting_bytes >= _FLUSH_BYTES
        if self._waiting and (due or at_once):
            self._file.write(b"".join(self._waiting))
            self._file.flush()
            self._waiting.clear()
            self._waiting_bytes = 0
            self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Ends the log with what was kept of its end."""
        if missing := self._budget.missing:
            self._append(_row([missing.message], source="system", metadata=missing.metadata, level=LogLevel.WARN))
        for row in self._budget.take_tail():
            self._append(row)
        self.flush(at_once=True)
        self._file.close()

    def _add(self, texts: list[str], **said: Any) -> None:
        """As one row; one by one where not all of them belong to the beginning of the log."""
        size = sum(len(text.encode()) for text in texts)
        if self._budget.has_room(len(texts), size) and (len(texts) == 1 or size <= MOST_BYTES):
            self._budget.count(len(texts), size)
            self._append(_row(texts, **said))
        elif len(texts) == 1:
            self._budget.keep(_row(texts, **said), size)
        else:
            for text in texts:
                self._add([text], **said)

    def _append(self, row: bytes) -> None:
        self._waiting.append(row)
        self._waiting_bytes += len(row)
        self.flush()


def _row(texts: list[str], **said: Any) -> bytes:
    known = {name: value for name, value in said.items() if value is not None}
    row = {"lines": len(texts), "timestamp": rfc3339(datetime.now(UTC)), **known, "messages": texts}
    return orjson.dumps(row) + b"\n"
