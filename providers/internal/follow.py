"""Reads what a supervisor writes, as news. A reader's place in the log is a number of bytes, which is its cursor.

Rule: the state is read before the lines, so that all lines come before a final stage.
"""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from domain.log import LogLevel, LogLine
from providers.base import MOST_LINES, BuildNews
from providers.internal.builds import BuildDirectory, BuildState
from providers.internal.log_file import Block

_CHUNK = 1024 * 1024
"""More than the longest row there can be, so that a chunk holds at least one."""

_BLOCKS = TypeAdapter(list[Block])
_LINES = re.compile(rb'{"lines":(\d{1,9}),')


@dataclass(frozen=True)
class Page:
    lines: list[LogLine]
    offset: int
    complete: bool


def read_lines(log: Path, offset: int) -> Page:
    """The lines of whole rows from `offset` on; `complete` when these are all there are now."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            chunk = file.read(_CHUNK)
    except FileNotFoundError:
        return Page([], offset, complete=True)
    rows = chunk.split(b"\n")[:-1]
    few = _few(rows)
    size = sum(len(row) + 1 for row in few)
    return Page(_read(few), offset + size, complete=len(chunk) < _CHUNK and len(few) == len(rows))


def _few(rows: list[bytes]) -> list[bytes]:
    """As many of them as may be told at once."""
    lines = [min(int(said[1]), MOST_LINES) if (said := _LINES.match(row)) else 1 for row in rows]
    return [row for row, upto in zip(rows, accumulate(lines), strict=True) if upto <= MOST_LINES]


def _read(rows: list[bytes]) -> list[LogLine]:
    try:
        blocks = _BLOCKS.validate_json(b"[" + b",".join(rows) + b"]")
    except ValidationError:  # a disk that was full, or somebody's hand
        if len(rows) > 1:
            return [line for row in rows for line in _read([row])]
        text = "… a part of the log file cannot be read"
        return [LogLine(timestamp=datetime.now(UTC), message=text, level=LogLevel.WARN, source="system")]
    return [line for block in blocks for line in block.log_lines()]


class Follower:
    def __init__(self, build: BuildDirectory, cursor: str) -> None:
        self.build = build
        self.offset = int(cursor) if cursor.isdecimal() else 0
        self._told_at = 0.0
        self._told: BuildState | None = None

    def news(self, state: BuildState) -> BuildNews | None:
        """What is new; None when nothing is and it is not yet time to say so."""
        page = read_lines(self.build.log, self.offset)
        over = state.ended and page.complete
        due = time.monotonic() - self._told_at >= 1 or state != self._told
        if not (page.lines or over or due):
            return None
        self.offset, self._told, self._told_at = page.offset, state, time.monotonic()
        return BuildNews(
            cursor=str(self.offset),
            lines=page.lines,
            stage=state.stage if over or not state.ended else "building",
            step=state.step,
            waiting=state.waiting,
            repository=state.repository,
            failure=state.failure if over else None,
        )
