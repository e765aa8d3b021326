"""A build's log on disk: lines of JSON in `log.jsonl`, each a `LogLine`.

Rules:
1. A line is written within 100 ms, whole, and never changed; so a reader's place is a number of bytes.
2. What a limit cuts is replaced by a marker with exact counts. A log never fails a build.
3. Values of secrets do not get here: they are replaced before the first byte is written.
4. A level is written where it is known. What lines mean is read out of them by whoever takes them over.
"""

import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from domain.log import LogLevel
from domain.log_budget import Budget, LogBudget
from domain.log_text import LineSplitter, lines_of, plain, shortened
from domain.masking import Mask
from domain.wire import rfc3339
from providers.internal.limits import Limits

FLUSH_SECONDS = 0.1
_FLUSH_BYTES = 256 * 1024
_EXCERPT_LINES = 20


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
        messages = [orjson.dumps(text) for text in texts]
        sizes = [len(text) if text.isascii() else len(text.encode()) for text in texts]
        head = orjson.dumps(_fields(step=step, level=level))[:-1] + b',"message":'
        rows = [head + message + b"}\n" for message in messages]
        if self._budget.has_room(len(rows), sum(sizes)):
            self._budget.count(len(rows), sum(sizes))
            self._append(rows)
        else:
            for row, size in zip(rows, sizes, strict=True):
                self._add_alone(row, size)

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
            marker = _fields(level=LogLevel.WARN, message=missing.message, metadata=missing.metadata, source="system")
            self._append([orjson.dumps(marker) + b"\n"])
        self._append(self._budget.take_tail())
        self.flush(at_once=True)
        self._file.close()

    def _add_alone(self, row: bytes, size: int) -> None:
        if self._budget.has_room(1, size):
            self._budget.count(1, size)
            self._append([row])
        else:
            self._budget.keep(row, size)

    def _append(self, rows: list[bytes]) -> None:
        self._waiting += rows
        self._waiting_bytes += sum(map(len, rows))
        self.flush()


def _fields(**known: Any) -> dict[str, Any]:
    now = rfc3339(datetime.now(UTC))
    return {"timestamp": now, **{name: value for name, value in known.items() if value is not None}}
