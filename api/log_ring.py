"""The newest lines of a log, written for its viewers once: blocks of them, and a bounded ring of blocks."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from api.streams import Form, one_line
from domain.log import DeploymentLog

BLOCK_BYTES = 65_536
"""What a viewer is sent at once, a longer line aside."""

_RING_LINES = 1000
_RING_BYTES = 16 * BLOCK_BYTES


class Line(NamedTuple):
    number: int
    document: str


class Piece(NamedTuple):
    """What is to be sent, and the number up to which the log is then done with."""

    parts: list[bytes]
    position: int
    last: bool = False


class Block:
    """The wanted lines after `after` up to `last`, which is one of them."""

    def __init__(self, after: int, lines: Sequence[Line]) -> None:
        self.after = after
        self.last = lines[-1].number
        self.lines = lines
        self.bytes = sum(len(line.document) for line in lines)
        self.made = time.monotonic()
        self._written: dict[str, bytes] = {}

    def written(self, form: Form, position: int = 0) -> bytes:
        """Its lines after `position`: for nearly every viewer all of them, and so written once."""
        if position > self.after:
            return _write((line for line in self.lines if line.number > position), form)
        if form.media_type not in self._written:
            self._written[form.media_type] = _write(self.lines, form)
        return self._written[form.media_type]


def _write(lines: Iterable[Line], form: Form) -> bytes:
    return b"".join(form.entry("log", line.number, line.document) for line in lines)


def blocks_of(logs: Iterable[DeploymentLog], after: int) -> Iterator[Block]:
    lines: list[Line] = []
    size = 0
    for log in logs:
        line = Line(int(log.id), one_line(log))
        if lines and size + len(line.document) > BLOCK_BYTES:
            yield Block(after, lines)
            after, lines, size = lines[-1].number, [], 0
        lines.append(line)
        size += len(line.document)
    if lines:
        yield Block(after, lines)


def taken(blocks: Iterable[Block], position: int, form: Form) -> Piece:
    """What a viewer at `position` takes of them at once: small blocks go together."""
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        size += block.bytes
        if parts and size > BLOCK_BYTES:
            break
        parts.append(block.written(form, position))
        position = block.last
    return Piece([b"".join(parts)], position)


class Ring:
    """Blocks without a gap: they hold every wanted line after `start` up to `head`."""

    def __init__(self, start: int) -> None:
        self.start = self.head = start
        self._blocks: deque[Block] = deque()
        self._lines = self._bytes = 0

    def add(self, logs: Iterable[DeploymentLog], head: int | None = None) -> None:
        """The next wanted lines; with them, all up to `head` is known."""
        for block in blocks_of(logs, self.head):
            self._blocks.append(block)
            self.head = block.last
            self._lines += len(block.lines)
            self._bytes += block.bytes
        self.head = max(self.head, head or 0)
        while len(self._blocks) > 1 and (self._lines > _RING_LINES or self._bytes > _RING_BYTES):
            self._drop()

    def forget(self, made_before: float) -> None:
        """Who has not taken it by then reads the database: a log in which nothing happens costs no memory."""
        while self._blocks and self._blocks[0].made < made_before:
            self._drop()

    def after(self, position: int) -> list[Block] | None:
        """The blocks with lines after `position`; None where the ring does not reach back to there."""
        if position < self.start:
            return None
        found: list[Block] = []
        for block in reversed(self._blocks):
            if block.last <= position:
                break
            found.append(block)
        return found[::-1]

    def _drop(self) -> None:
        block = self._blocks.popleft()
        self.start = block.last
        self._lines -= len(block.lines)
        self._bytes -= block.bytes
