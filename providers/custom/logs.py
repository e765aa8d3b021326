"""How the log of a described provider is read: page by page, from the status, as plain text from an offset on.

Rule: a `Place` is what has been told. Who resumes from it gets each line after it once, whatever pages there are.
"""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, ValidationError

from domain.log import LogLine
from domain.wire import Wire
from providers.custom.api import GONE, NO_MORE, Api, document_of
from providers.custom.pointers import at, cursor_at, identifier_at, moment_at, text_at
from providers.custom.settings import Line
from providers.http import Answer, plain

LINES_AT_ONCE = 1000
LONGEST_TEXT = 128 * 1024
"""Whoever stores a line cuts it far below, after it has been masked."""


class Place(Wire):
    """`told` lines of the page at `cursor`, the last of them with the id `last`; or `offset` bytes of a text."""

    cursor: str | int | None = None
    told: int = 0
    last: str | None = None
    offset: int = 0
    remarked: bool = Field(default=False, description="what could not be read has been said")

    @classmethod
    def read(cls, cursor: str) -> "Place":
        """A cursor that is not ours tells that nothing was told."""
        try:
            return cls.model_validate_json(cursor or "{}")
        except ValidationError:
            return cls()

    def __str__(self) -> str:
        return "" if self == Place() else self.model_dump_json(exclude_defaults=True)

    def moved(self, **changed: Any) -> "Place":
        return self.model_copy(update=changed)


@dataclass(frozen=True)
class Piece:
    """Lines, and the place after them; `more`: the next page can be asked for at once."""

    place: Place
    lines: list[LogLine]
    more: bool = False


@dataclass(frozen=True)
class Seen:
    """How the build was last seen: the answer to `status`, and whether it has ended."""

    status: Any
    ended: bool


class Log(ABC):
    """`unreadable` says that there were entries without a text where the description says that it is."""

    def __init__(self, api: Api, build_id: str) -> None:
        self.unreadable = False
        self._api = api
        self._build_id = build_id
        self._logs = api.settings.logs

    @abstractmethod
    async def read(self, place: Place, seen: Seen) -> list[Piece]:
        """What is new after `place`."""


class NoLog(Log):
    async def read(self, place: Place, seen: Seen) -> list[Piece]:
        del place, seen
        return []


class _Entries(Log):
    """Lines that come as entries of a list."""

    def _pieces(self, entries: list[Any], place: Place) -> Iterator[Piece]:
        for start in range(self._first(entries, place), len(entries), LINES_AT_ONCE):
            some = entries[start : start + LINES_AT_ONCE]
            place = place.moved(told=start + len(some), last=self._last_id(some) or place.last)
            yield Piece(place, [line for entry in some if (line := self._read_line(entry)) is not None])

    def _first(self, entries: list[Any], place: Place) -> int:
        """Which of them has not been told: of the same list the next one; of a list that has moved, what comes after
        the last that was told."""
        if place.last is None or self._last_id(entries[: place.told]) == place.last:
            return place.told
        found = (index + 1 for index in reversed(range(len(entries))) if self._id(entries[index]) == place.last)
        return next(found, 0)

    def _last_id(self, entries: list[Any]) -> str | None:
        return next((identity for entry in reversed(entries) if (identity := self._id(entry))), None)

    def _id(self, entry: Any) -> str | None:
        return identifier_at(entry, self._line.id)

    def _read_line(self, entry: Any) -> LogLine | None:
        where = self._line
        message = at(entry, where.message)
        if not isinstance(message, str):
            self.unreadable = True
            return None
        step = text_at(entry, where.step)
        return LogLine(
            timestamp=moment_at(entry, where.timestamp) or datetime.now(UTC),
            message=message[:LONGEST_TEXT],
            level=self._logs.level(text_at(entry, where.level)),
            step=plain(step, 60) if step else None,
        )

    @property
    def _line(self) -> Line:
        return self._logs.line or Line(message="")


class StatusLog(_Entries):
    async def read(self, place: Place, seen: Seen) -> list[Piece]:
        entries = at(seen.status, self._logs.lines)
        self.unreadable = self.unreadable or not isinstance(entries, list | None)
        return list(self._pieces(entries, place)) if isinstance(entries, list) else []


class PageLog(_Entries):
    async def read(self, place: Place, seen: Seen) -> list[Piece]:
        del seen
        answer = await self._api.ask("logs", buildId=self._build_id, cursor=place.cursor)
        if answer.status in GONE:
            return []
        document = document_of(answer)
        entries = at(document, self._logs.lines)
        if not isinstance(entries, list):
            raise answer.unusable(f"{self._logs.lines or 'the whole'}: no list of lines")
        pieces = list(self._pieces(entries, place))
        told = pieces[-1].place if pieces else place
        after = cursor_at(document, self._logs.next) if self._logs.next is not None else told.last
        if after is not None and after != place.cursor:
            pieces.append(Piece(told.moved(cursor=after, told=0), [], more=bool(pieces)))
        return pieces


class TextLog(Log):
    async def read(self, place: Place, seen: Seen) -> list[Piece]:
        answer = await self._api.ask("logs", buildId=self._build_id, offset=place.offset)
        if answer.status in GONE or answer.status == NO_MORE:
            return []
        text = answer.body[place.offset :] if self._is_whole(answer) else answer.body
        if not seen.ended:
            text = text[: text.rfind(b"\n") + 1]
        return list(_pieces_of(io.BytesIO(text).readlines(), place))

    def _is_whole(self, answer: Answer) -> bool:
        """A server may give the whole when it is asked for a range (RFC 9110)."""
        asked = self._api.settings.requests.logs
        return asked is not None and "range" in map(str.lower, asked.headers) and answer.status == 200


KINDS: dict[str, type[Log]] = {"none": NoLog, "page": PageLog, "status": StatusLog, "text": TextLog}


def _pieces_of(lines: list[bytes], place: Place) -> Iterator[Piece]:
    now = datetime.now(UTC)
    for start in range(0, len(lines), LINES_AT_ONCE):
        some = lines[start : start + LINES_AT_ONCE]
        place = place.moved(offset=place.offset + sum(map(len, some)))
        yield Piece(place, [LogLine(timestamp=now, message=_decoded(line)) for line in some])


def _decoded(line: bytes) -> str:
    return line[:LONGEST_TEXT].decode(errors="replace").removesuffix("\n").removesuffix("\r")
