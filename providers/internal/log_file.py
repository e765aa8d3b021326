"""A build's log: from a command's bytes to numbered lines in `log.jsonl`.

Rules:
1. A line is written within 100 ms, whole, and never changed; so a reader's place is a number of bytes.
2. What a limit cuts is replaced by a marker with exact counts. A log never fails a build.
3. Values of secrets do not get here: they are replaced before the first byte is written.
"""

import re
import time
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import orjson

from domain.configuration import HIDDEN
from domain.log import LogLevel
from domain.wire import rfc3339
from providers.internal.limits import Limits

FLUSH_SECONDS = 0.1
_FLUSH_BYTES = 256 * 1024
_TAIL_LINES = 1000
_TAIL_BYTES = 1024 * 1024
_EXCERPT_LINES = 20
_SHORTEST_SECRET = 4
"""Shorter values would hide every 'on' and 'yes' of the log."""

_ERROR = re.compile(r"\s*(error|fatal): |npm (ERR!|error) ", re.IGNORECASE)
_WARNING = re.compile(r"\s*warn(ing)?: |npm warn ", re.IGNORECASE)


class LineSplitter:
    """Cuts bytes into lines, in the memory of one line. Of a progress bar (`\\r`), the last state stays."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.rest = b""
        self.cut = 0

    def feed(self, chunk: bytes) -> list[str]:
        *whole, rest = chunk.split(b"\n")
        lines = []
        for part in whole:
            self._append(part)
            lines.append(self._take())
        self._append(rest)
        return lines

    def end(self) -> list[str]:
        """The last line, where it did not end with a line feed."""
        return [self._take()] if self.rest or self.cut else []

    def _append(self, part: bytes) -> None:
        self.rest += part
        if len(self.rest) > self.longest and b"\r" in self.rest.rstrip(b"\r"):
            self.rest = _last_state(self.rest)
        if len(self.rest) > self.longest:
            self.cut += len(self.rest) - self.longest
            self.rest = self.rest[: self.longest]

    def _take(self) -> str:
        text = _last_state(self.rest).decode("utf-8", "replace").replace("\0", "")
        if self.cut:
            text += f" … [{self.cut} bytes of this line cut]"
        self.rest, self.cut = b"", 0
        return text


def _last_state(line: bytes) -> bytes:
    """What a terminal would show in the end of a line that returns to its beginning."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


class LogFile:
    """Appends lines; beyond its budget, counts them and keeps the last ones for the end."""

    def __init__(self, path: Path, limits: Limits, secrets: Iterable[str]) -> None:
        self._file = path.open("ab")
        self._limits = limits
        self._secrets = _secrets_pattern(secrets)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._flushed_at = time.monotonic()
        self._written = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._beyond = 0
        self.excerpt: deque[str] = deque(maxlen=_EXCERPT_LINES)
        self.lines = 0

    def write(self, step: str, message: str, level: LogLevel | None = None) -> None:
        text = self.without_secrets(message)
        self.excerpt.append(text)
        self.lines += 1
        line = {
            "number": self.lines,
            "timestamp": rfc3339(datetime.now(UTC)),
            "step": step,
            "level": level or level_of(text),
            "message": text,
        }
        self._keep(orjson.dumps(line) + b"\n")

    def without_secrets(self, text: str) -> str:
        return self._secrets.sub(HIDDEN, text) if self._secrets else text

    def begin(self) -> None:
        """A step begins: an excerpt is of one step."""
        self.excerpt.clear()

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
        left_out = self._beyond - len(self._tail)
        if left_out:
            text = f"… {left_out} lines left out: the log is larger than {self._limits.log_bytes} bytes"
            marker = {"timestamp": rfc3339(datetime.now(UTC)), "level": LogLevel.WARN, "message": text}
            self._append(orjson.dumps(marker) + b"\n")
        for line in self._tail:
            self._append(line)
        self.flush(at_once=True)
        self._file.close()

    def _keep(self, line: bytes) -> None:
        if not self._beyond and self._written + len(line) <= self._limits.log_bytes:
            self._append(line)
            return
        self._beyond += 1
        self._tail.append(line)
        self._tail_bytes += len(line)
        while len(self._tail) > _TAIL_LINES or self._tail_bytes > _TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())

    def _append(self, line: bytes) -> None:
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        self._written += len(line)
        self.flush()


def level_of(message: str) -> LogLevel:
    """What a line says of itself, by the words that tools begin such lines with."""
    if _ERROR.match(message):
        return LogLevel.ERROR
    return LogLevel.WARN if _WARNING.match(message) else LogLevel.INFO


def _secrets_pattern(secrets: Iterable[str]) -> re.Pattern[str] | None:
    """Each value and each line of it; the longest first, so that none hides a part of another."""
    parts = {part.strip() for value in secrets for part in (value, *value.splitlines())}
    hidden = sorted((part for part in parts if len(part) >= _SHORTEST_SECRET), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, hidden))) if hidden else None
