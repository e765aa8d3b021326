"""Chunks: many lines of a log as one row. What a chunk holds, how it is written and read, and where it may come from.

A chunk's head can be asked by SQL: which lines, which times, and the sets of levels, sources and steps in it. Its data
is one zstd frame: four bytes (how long the columns are), the columns as JSON, and the messages joined by line feeds.
Times are written as the steps from one to the next, another column as runs, `[[how often, …], [value, …]]`, since
neighbours mostly agree.

Rules: a chunk does not know its number in the log until it is stored. Messages hold no NUL, which stands in the joined
text for a line feed inside a message. Times are kept to the millisecond, as they are written on the wire.
"""

import json
import re
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from itertools import accumulate, chain, groupby, pairwise, repeat
from typing import Any, Protocol, get_args

import orjson
import zstandard
from pydantic import TypeAdapter

from domain.log import DeploymentLog, LogFilter, LogLevel, LogLine, LogSource

ALL = LogFilter()

LIVE_LINES = 2_000
MERGED_LINES = 5_000
MOST_BYTES = 1_048_576
"""A chunk ends before it has more lines or, unless a single line does, more bytes of messages."""

LIVE_EFFORT = 3
MERGED_EFFORT = 9

OUTER_STEP = "outerStep"
"""A group inside a step is a step of its own; its lines keep the step around it in their metadata under this name."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_BITS = {
    "levels": {str(level): 1 << number for number, level in enumerate(LogLevel)},
    "sources": {source: 1 << number for number, source in enumerate(get_args(LogSource))},
}
_LOGS = TypeAdapter(list[DeploymentLog])
_LENGTH = 4
_COLOUR = re.compile(rb"\x1b\[[0-9;:]{0,64}m")

Metadata = dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a chunk without opening it. `levels` and `sources` are sets of bits, `bytes` is of messages."""

    first_line: int
    last_line: int
    began: datetime
    ended: datetime
    levels: int
    sources: int
    steps: list[str]
    bytes: int
    codec: str

    @property
    def lines(self) -> int:
        return self.last_line - self.first_line + 1

    def at(self, first_line: int) -> "Head":
        """The same, as that line of the log and those after it."""
        return replace(self, first_line=first_line, last_line=first_line + self.lines - 1)


@dataclass(frozen=True, slots=True)
class Chunk:
    head: Head
    data: bytes = field(repr=False)


HEAD_COLUMNS = tuple(entry.name for entry in fields(Head))


@dataclass(frozen=True, slots=True)
class Choice:
    """Which chunks a reader wants: those with lines above `after` and below `before` that may pass the filter."""

    wanted: LogFilter = ALL
    after: int = 0
    before: int | None = None
    backwards: bool = False

    @property
    def levels(self) -> int | None:
        return None if self.wanted.level is None else _set("levels", self.wanted.level.and_above)

    @property
    def source(self) -> int | None:
        return None if self.wanted.source is None else _set("sources", [self.wanted.source])

    @property
    def since(self) -> datetime | None:
        return None if self.wanted.since is None else _moment(milliseconds(self.wanted.since))

    @property
    def until(self) -> datetime | None:
        return None if self.wanted.until is None else _moment(milliseconds(self.wanted.until))

    def takes(self, head: Head) -> bool:
        """The same question as the statement of the SQL source asks, for chunks that are elsewhere."""
        return (
            head.last_line > self.after
            and (self.before is None or head.first_line < self.before)
            and (self.levels is None or head.levels & self.levels != 0)
            and (self.source is None or head.sources & self.source != 0)
            and (self.wanted.step is None or self.wanted.step in head.steps)
            and (self.since is None or head.ended >= self.since)
            and (self.until is None or head.began < self.until)
        )


class ChunkSource(Protocol):
    """Where the chunks of one log are."""

    def chunks(self, choice: Choice) -> AsyncIterator[Sequence[Chunk]]:
        """Batches of the chosen chunks, in the order of the log or, `backwards`, against it; a few MiB at a time."""


class Archive(Protocol):
    """Where the chunks of finished logs are kept after the database has dropped them."""

    def log(self, key: str) -> ChunkSource:
        """The log that was archived under this key."""


@dataclass(slots=True)
class Columns:
    """Lines column by column. Times in milliseconds, messages as they are written."""

    times: list[int] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    steps: list[str | None] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    metadata: list[Metadata] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)

    def add(self, other: "Columns") -> None:
        for name in _COLUMNS:
            getattr(self, name).extend(getattr(other, name))

    def part(self, start: int, stop: int) -> "Columns":
        return Columns(**{name: getattr(self, name)[start:stop] for name in _COLUMNS})


_COLUMNS = tuple(entry.name for entry in fields(Columns))


def columns_of(lines: Sequence[LogLine]) -> Columns:
    """A line without a level is of level info."""
    return Columns(
        times=[milliseconds(line.timestamp) for line in lines],
        levels=[line.level or LogLevel.INFO for line in lines],
        steps=[line.step for line in lines],
        sources=[line.source for line in lines],
        metadata=[line.metadata for line in lines],
        messages=_written([line.message for line in lines]),
    )


def split(columns: Columns, most_lines: int) -> Iterator[Columns]:
    """Parts that are small enough for a chunk; all but the last are as large as they may be."""
    start = 0
    while start < len(columns.messages):
        sizes = list(accumulate(map(len, columns.messages[start : start + most_lines])))
        stop = start + max(1, bisect_right(sizes, MOST_BYTES))
        yield columns.part(start, stop)
        start = stop


def pack(columns: Columns, effort: int, first_line: int = 1) -> Chunk:
    """The lines as a chunk; `effort` is zstd's level."""
    document, text = _document(columns), b"\n".join(columns.messages)
    packed = _json(document)
    raw = b"".join((len(packed).to_bytes(_LENGTH, "big"), packed, text))
    count = len(columns.messages)
    outer = [found.get(OUTER_STEP) for found in document["metadata"][1] if found]
    steps = {step for step in chain(document["steps"][1], outer) if isinstance(step, str)}
    head = Head(
        first_line=first_line,
        last_line=first_line + count - 1,
        began=_moment(min(columns.times)),
        ended=_moment(max(columns.times)),
        levels=_set("levels", document["levels"][1]),
        sources=_set("sources", document["sources"][1]),
        steps=sorted(step.encode(errors="replace").replace(b"\x00", b"").decode() for step in steps),
        bytes=len(text) - count + 1,
        codec="zstd",
    )
    return Chunk(head, zstandard.ZstdCompressor(level=effort).compress(raw))


class Lines:
    """An opened chunk. Lines are meant by their index in it, from 0."""

    def __init__(self, chunk: Chunk) -> None:
        self._columns, self.text = _OPENERS[chunk.head.codec](chunk.data)
        self.first_line = chunk.head.first_line
        self.count = chunk.head.lines

    @cached_property
    def _document(self) -> dict[str, Any]:
        """Not read where nobody asks: a search mostly finds nothing."""
        return self._columns()

    def number(self, index: int) -> int:
        return self.first_line + index

    @cached_property
    def messages(self) -> list[bytes]:
        return self.text.split(b"\n")

    @cached_property
    def times(self) -> list[int]:
        return list(accumulate(self._document["times"], initial=self._document["base"]))[1:]

    @cached_property
    def plain(self) -> bytes:
        """The text without colours, as `domain.log_text.plain` makes it: what is searched."""
        return _COLOUR.sub(b"", self.text) if b"\x1b" in self.text else self.text

    def plain_line(self, index: int) -> bytes:
        start, stop = self.span(index, index + 1)
        return self.plain[start:stop]

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Where the lines from `first` to before `last` begin and end in `plain`."""
        if first == 0 and last == self.count:
            return 0, len(self.plain)
        return self._starts[first], self._starts[last] - 1

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((len(line) + 1 for line in self.plain.split(b"\n")), initial=0))

    def runs(self, column: str) -> Iterator[tuple[int, int, Any]]:
        """Start, stop and value of the column's runs: neighbours that agree."""
        counts, values = self._document[column]
        stops = list(accumulate(counts))
        return zip([0, *stops], stops, values, strict=False)

    def logs(self, deployment_id: str, indexes: Sequence[int]) -> list[DeploymentLog]:
        """These lines as they are handed out."""
        if not indexes:
            return []
        levels, steps, sources, metadata = map(self._expanded, ("levels", "steps", "sources", "metadata"))
        first, messages, times = self.first_line, self.messages, self.times
        return _LOGS.validate_python(
            [
                {
                    "id": str(first + index),
                    "deployment_id": deployment_id,
                    "timestamp": _moment(times[index]),
                    "message": _read(messages[index]),
                    "level": levels[index],
                    "step": steps[index],
                    "source": sources[index],
                    "metadata": metadata[index],
                }
                for index in indexes
            ]
        )

    def last(self, deployment_id: str, count: int) -> list[DeploymentLog]:
        return self.logs(deployment_id, range(max(self.count - count, 0), self.count))

    def columns(self) -> Columns:
        """As they were before they were packed."""
        levels, steps, sources, metadata = map(self._expanded, ("levels", "steps", "sources", "metadata"))
        return Columns(self.times, levels, steps, sources, metadata, self.messages)

    def _expanded(self, column: str) -> list[Any]:
        counts, values = self._document[column]
        return list(chain.from_iterable(map(repeat, values, counts)))


def milliseconds(moment: datetime) -> int:
    """Since 1970, without what is below."""
    return (moment - _EPOCH) // _MILLISECOND


def _moment(passed: int) -> datetime:
    return datetime.fromtimestamp(passed / 1000, UTC)


def _written(messages: list[str]) -> list[bytes]:
    if not messages:
        return []
    text = "\n".join(messages)
    if "\x00" in text or text.count("\n") >= len(messages):
        text = "\n".join(message.replace("\x00", "").replace("\n", "\x00") for message in messages)
    # What is half a character (a lone surrogate) has no UTF-8 and is a question mark from here on.
    return text.encode(errors="replace").split(b"\n")


def _json(document: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Metadata with half a character, a number beyond 64 bits, or no JSON at all: as near as can be had.
        return json.dumps(document, ensure_ascii=False, default=str).encode(errors="replace")


def _read(message: bytes) -> str:
    return message.replace(b"\x00", b"\n").decode()


def _document(columns: Columns) -> dict[str, Any]:
    base = columns.times[0]
    return {
        "base": base,
        "times": [after - before for before, after in pairwise([base, *columns.times])],
        "levels": _runs(columns.levels),
        "steps": _runs(columns.steps),
        "sources": _runs(columns.sources),
        "metadata": _runs(columns.metadata),
    }


def _runs(values: list[Any]) -> tuple[list[int], list[Any]]:
    if values.count(values[0]) == len(values):
        return [len(values)], values[:1]
    found = [(value, sum(1 for _ in same)) for value, same in groupby(values)]
    return [count for _, count in found], [value for value, _ in found]


def _set(column: str, words: Iterable[str]) -> int:
    return sum(_BITS[column][str(word)] for word in set(words))


_Opened = tuple[Callable[[], dict[str, Any]], bytes]
"""The columns, when they are called for, and the text."""


def _from_zstd(data: bytes) -> _Opened:
    raw = zstandard.ZstdDecompressor().decompress(data)
    start = _LENGTH + int.from_bytes(raw[:_LENGTH], "big")
    return partial(orjson.loads, raw[_LENGTH:start]), raw[start:]


def _from_json(data: bytes) -> _Opened:
    """A list of `[milliseconds, level, step, source, metadata, message]`: what migration 0003 makes of rows."""
    times, levels, steps, sources, metadata, messages = map(list, zip(*orjson.loads(data), strict=True))
    columns = Columns(times, levels, steps, sources, metadata, _written(messages))
    return partial(_document, columns), b"\n".join(columns.messages)


_OPENERS: dict[str, Callable[[bytes], _Opened]] = {"json": _from_json, "zstd": _from_zstd}
