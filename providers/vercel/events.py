"""Records of Vercel's build log: which are lines, and where one has to go on reading.

Two forms are in use: flat {type, created, id, date, text, …}, and nested {type, created, payload: {id, date, text, …}}.
Keep-alives have no `created`. After a reconnect records come again: `Place` knows which have been told.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from pydantic import ValidationError
from pydantic_core import from_json

from domain.log import LogLevel, LogLine
from domain.wire import Wire

LEVELS = {"error": LogLevel.ERROR, "warning": LogLevel.WARN, "fatal": LogLevel.ERROR}
NEWS_OF_STATE = frozenset({"deployment-state", "alias-assigned", "exit", "fatal"})
"""Types after which the deployment itself is worth a look."""

LONGEST_TEXT = 128 * 1024
"""Whoever stores a line cuts it far below, after it has been masked."""

_REMEMBERED = 20_000
_SEEN_AT_ONCE = 2_000


class Info(Wire):
    step: str | None = None


class Record(Wire):
    type: str = ""
    created: float | None = None
    date: float | None = None
    id: str | None = None
    text: str | None = None
    level: str | None = None
    info: Info | None = None
    payload: "Record | None" = None


@dataclass(frozen=True)
class Entry:
    """A line, when Vercel says that it was written, and its id."""

    at: int
    id: str
    line: LogLine


def records_of(line: bytes) -> tuple[list[Record], int]:
    """The records of a line of the stream, or of a whole JSON array; and how many could not be read."""
    try:
        parsed = from_json(line) if line.strip() else []
    except ValueError:
        return [], 1
    found, wrong = [], 0
    for record in parsed if isinstance(parsed, list) else [parsed]:
        try:
            found.append(Record.model_validate(record))
        except ValidationError:
            wrong += record is not None  # null is a record that has nothing to say
    return found, wrong


def entry_of(record: Record) -> Entry | None:
    """The line that a record has, if it has one."""
    said = record.payload or record
    at = said.date or record.date or record.created or said.created
    if said.text is None or at is None or not 0 < at < 1e14:
        return None
    level = LEVELS.get(said.level or record.level or record.type)
    line = LogLine(
        timestamp=datetime.fromtimestamp(at / 1000, UTC),
        level=level,
        message=said.text[:LONGEST_TEXT],
        step=said.info.step if said.info else None,
    )
    return Entry(int(at), short(said.id or said.text), line)


def short(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]


@dataclass
class Place:
    """How far a log has been taken over: the newest millisecond, and the ids that have been seen in it.

    What is older than `floor` was told before this place was resumed.
    """

    at: int = 0
    seen: list[str] = field(default_factory=list)
    floor: int = 0
    _known: OrderedDict[str, None] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def read(cls, cursor: str) -> Self:
        at, _, seen = cursor.partition(":")
        ids = seen.split(",") if seen else []
        place = cls(int(at or 0), ids, int(at or 0))
        place._known.update(dict.fromkeys(ids))
        return place

    def __str__(self) -> str:
        return f"{self.at}:{','.join(self.seen)}" if self.at else ""

    def is_new(self, entry: Entry) -> bool:
        return entry.at >= self.floor and entry.id not in self._known

    def pass_by(self, entry: Entry) -> None:
        if entry.at > self.at:
            self.at, self.seen = entry.at, []
        if entry.at == self.at and len(self.seen) < _SEEN_AT_ONCE:
            self.seen.append(entry.id)
        self._known[entry.id] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
