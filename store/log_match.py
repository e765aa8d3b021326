"""Which lines of an opened chunk a reader wants.

The messages are searched as one text, without making lines of it, by RE2: its time is linear in the text and its memory
is bounded, whatever the pattern. A match never reaches over a line's end.
"""

import math
import re
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import re2

from domain.errors import DeploymentError, ErrorCode
from domain.log import LogFilter
from store.chunks import OUTER_STEP, Choice, Lines, milliseconds

SCAN_SECONDS = 0.7
"""How long one request may look for lines. It answers what it has found by then, and where to go on."""

_SLICE = 16_384
"""The clock is looked at after so many bytes: what the worst pattern needs for them is well below a second."""

_PATTERN_MEMORY = 524_288
"""Bytes that RE2 may use for a pattern. A larger one makes the worst pattern slower than the clock allows."""

_WHOLE_TEXT = re.compile(r"\\[Az]|\(\?[a-zA-Z]*-[a-zA-Z]*m")
"""In a pattern: what means the beginning or end of the text, so that each line has to be a text of its own."""


class Budget:
    """The time that a request has for looking."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def spent(self) -> bool:
        return time.monotonic() > self._until


class Matcher:
    """A filter, ready to be asked.

    Raises:
        DeploymentError: invalid-request, for a query that RE2 does not take.
    """

    def __init__(self, wanted: LogFilter) -> None:
        self.wanted = wanted
        self.choice = Choice(wanted)
        self._pattern: Any = _compiled(wanted) if wanted.query else None
        self._alone = wanted.regex and _WHOLE_TEXT.search(wanted.query or "") is not None

    @property
    def takes_all(self) -> bool:
        how = {"query", "regex", "case_sensitive"}
        return not self.wanted.query and not self.wanted.model_dump(exclude=how, exclude_none=True)

    def find(self, lines: Lines, start: int, stop: int, most: int | None, budget: Budget) -> tuple[list[int], int]:
        """The indexes from `start` to before `stop` that pass, the first `most`, and the index up to which was looked.

        At least one slice is looked through, even when the time is spent, so that whoever asks again gets further.
        """
        found: list[int] = []
        for first, last in _stretches(self._marks(lines), start, stop):
            for looked, passes in self._look(lines, first, last, budget):
                if passes:
                    found.append(looked - 1)
                if len(found) == most or budget.spent:
                    return found, looked
        return found, stop

    def _marks(self, lines: Lines) -> bytes | None:
        """A byte for each line, 1 where all but the query passes; None where that is everywhere."""
        tests = [_marked(lines, column, passes) for column, passes in self._columns()]
        if self.wanted.step is not None:
            inside = [_marked(lines, column, passes) for column, passes in self._step(self.wanted.step)]
            tests.append(bytes(map(max, *inside)))
        if self.wanted.since or self.wanted.until:
            tests.append(bytes(map(self._in_time, lines.times)))
        return bytes(map(min, *tests)) if len(tests) > 1 else tests[0] if tests else None

    def _columns(self) -> Iterator[tuple[str, Callable[[Any], bool]]]:
        level, source = self.wanted.level, self.wanted.source
        if level is not None:
            yield "levels", level.and_above.__contains__
        if source is not None:
            yield "sources", lambda value: value == source

    @staticmethod
    def _step(step: str) -> Iterator[tuple[str, Callable[[Any], bool]]]:
        yield "steps", lambda name: name == step
        yield "metadata", lambda metadata: metadata is not None and metadata.get(OUTER_STEP) == step

    @cached_property
    def _times(self) -> tuple[float, float]:
        since, until = self.wanted.since, self.wanted.until
        return milliseconds(since) if since else -math.inf, milliseconds(until) if until else math.inf

    def _in_time(self, passed: int) -> bool:
        since, until = self._times
        return since <= passed < until

    def _look(self, lines: Lines, first: int, last: int, budget: Budget) -> Iterator[tuple[int, bool]]:
        """At each line that passes, and when the time is spent: how far it has looked, and whether that line passes."""
        if self._pattern is None:
            yield from ((index + 1, True) for index in range(first, last))
        elif self._alone:
            for index in range(first, last):
                yield index + 1, self._pattern.search(lines.plain_line(index)) is not None
        else:
            yield from self._search(lines, first, last, budget)

    def _search(self, lines: Lines, first: int, last: int, budget: Budget) -> Iterator[tuple[int, bool]]:
        text = lines.plain
        place, end = lines.span(first, last)
        counted, index = place, first
        while place <= end:
            cut = text.find(b"\n", place + _SLICE, end)
            stop = end if cut < 0 else cut
            match = self._pattern.search(text, place, stop)
            if match is not None or budget.spent:
                at = stop if match is None else match.start()
                index, counted = index + text.count(b"\n", counted, at), at
                yield index + 1, match is not None
                rest = text.find(b"\n", at, end)
                stop = end if rest < 0 else rest
            place = stop + 1


def _compiled(wanted: LogFilter) -> Any:
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    options.never_nl = True
    options.never_capture = True
    options.literal = not wanted.regex
    options.case_sensitive = wanted.case_sensitive
    # Each line begins and ends on its own (?m). A line feed inside a message is a NUL in the text.
    query = f"(?m){wanted.query}" if wanted.regex else (wanted.query or "").replace("\n", "\x00")
    try:
        return re2.compile(query, options)
    except re2.error as error:
        said = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise DeploymentError(
            ErrorCode.INVALID_REQUEST,
            f"q: RE2 does not take this regular expression: {said} (it has no back-references and no look-around)",
            fields=[("/query/q", said)],
        ) from None
    finally:
        # The library keeps 128 patterns with all their memory; each of ours is used for one request.
        re2.purge()


def _marked(lines: Lines, column: str, passes: Callable[[Any], bool]) -> bytes:
    marks = bytearray(lines.count)
    for start, stop, value in lines.runs(column):
        if passes(value):
            marks[start:stop] = b"\x01" * (stop - start)
    return bytes(marks)


def _stretches(marks: bytes | None, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Neighbours that are marked, as start and stop."""
    if marks is None:
        yield start, stop
        return
    while (first := marks.find(1, start, stop)) >= 0:
        last = marks.find(0, first, stop)
        start = stop if last < 0 else last
        yield first, start
