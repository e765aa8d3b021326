"""Reads of one log: by number, by a filter forwards, the last lines, and what lies around a line.

Opening chunks and looking through them happens in threads: zstd and RE2 let go of the interpreter while they work.

Rule: whoever looks for longer than the budget answers what was found, and how far it has looked.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise

from domain.errors import DeploymentError, ErrorCode
from domain.log import DeploymentLog, LogMatch, LogPage
from store.chunks import Choice, Chunk, ChunkSource, Lines
from store.log_match import Budget, Matcher

_PLACE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a search over the logs of a project goes on: after that line of that deployment's log."""

    deployment_id: str
    line: int

    def __str__(self) -> str:
        return f"{self.deployment_id}_{self.line}"

    @classmethod
    def of(cls, cursor: str | None) -> "Place | None":
        if cursor is None:
            return None
        match = _PLACE.fullmatch(cursor)
        if match is None:
            raise DeploymentError(
                ErrorCode.INVALID_REQUEST,
                "cursor: expected the nextCursor of a page of this search",
                fields=[("/query/cursor", "not a cursor of this search")],
            )
        return cls(match[1], int(match[2]))


@dataclass(slots=True)
class Found:
    """What a look through a log has brought: numbers of lines that pass, lines by number, and how far it came.

    `cut`: the time was spent before the end.
    """

    numbers: list[int] = field(default_factory=list)
    lines: dict[int, DeploymentLog] = field(default_factory=dict)
    looked: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Reader:
    """A log that is being read, of so many lines."""

    deployment_id: str
    source: ChunkSource
    total: int

    async def between(self, first: int, last: int) -> list[DeploymentLog]:
        """The lines with these numbers, as far as they are there."""

        def opened(chunks: Sequence[Chunk]) -> list[DeploymentLog]:
            return [line for chunk in chunks for line in _part(chunk, self.deployment_id, first, last)]

        if first > last:
            return []
        choice = Choice(after=first - 1, before=last + 1)
        batches = [await asyncio.to_thread(opened, chunks) async for chunks in self.source.chunks(choice)]
        return [line for batch in batches for line in batch]

    async def page(self, matcher: Matcher, budget: Budget, *, limit: int, offset: int, after: int) -> LogPage:
        if matcher.takes_all:
            first = after + offset + 1
            lines = await self.between(first, min(first + limit - 1, self.total))
            return LogPage(lines=lines, cursor=int(lines[-1].id) if lines and int(lines[-1].id) < self.total else None)
        found = await self.find(matcher, budget, most=offset + limit + 1, after=after, skip=offset)
        if found.cut and len(found.numbers) < offset:
            raise DeploymentError(
                ErrorCode.INVALID_REQUEST,
                f"offset: finding {offset} lines that pass this filter takes too long; ask for them page by page",
                fields=[("/query/offset", "takes too long with this filter: use the cursor of the page before")],
            )
        numbers = found.numbers[offset : offset + limit]
        more = len(found.numbers) > offset + limit
        return LogPage(
            lines=[found.lines[number] for number in numbers],
            cursor=numbers[-1] if more else found.looked if found.cut else None,
        )

    async def last_page(self, matcher: Matcher, budget: Budget, count: int, after: int) -> LogPage:
        """The last lines that pass, looked for from the end; fewer when the time is spent before they are found."""
        if matcher.takes_all:
            return LogPage(lines=await self.between(max(after, self.total - count) + 1, self.total))
        lines: list[DeploymentLog] = []
        before = self.total + 1

        def look(chunk: Chunk) -> list[DeploymentLog]:
            opened = Lines(chunk)
            # What a merge has put together since may hold lines that were looked at already.
            start, stop = max(after + 1 - opened.first_line, 0), min(opened.count, before - opened.first_line)
            indexes, looked = matcher.find(opened, start, stop, None, budget)
            return opened.logs(self.deployment_id, indexes[len(lines) - count :] if looked == stop else [])

        choice = replace(matcher.choice, after=after, before=before, backwards=True)
        async for chunks in self.source.chunks(choice):
            for chunk in chunks:
                lines[:0] = await asyncio.to_thread(look, chunk)
                before = chunk.head.first_line
                if len(lines) == count or budget.spent:
                    return LogPage(lines=lines)
        return LogPage(lines=lines)

    async def find(
        self, matcher: Matcher, budget: Budget, *, most: int, after: int, skip: int = 0, context: int = 0
    ) -> Found:
        """The first lines above `after` that pass, at most so many; those that are skipped are numbers alone."""
        found = Found(looked=after)

        def look(chunks: Sequence[Chunk]) -> bool:
            """False when it is over."""
            for chunk in chunks:
                lines = Lines(chunk)
                start = max(found.looked + 1 - lines.first_line, 0)
                indexes, looked = matcher.find(lines, start, lines.count, most - len(found.numbers), budget)
                wanted = indexes[max(skip - len(found.numbers), 0) :]
                around = _around(wanted, context, lines.count)
                found.lines.update(zip(map(lines.number, around), lines.logs(self.deployment_id, around), strict=True))
                found.numbers.extend(map(lines.number, indexes))
                found.looked = lines.number(looked - 1)
                if len(found.numbers) == most:
                    return False
                if budget.spent:
                    found.cut = True
                    return False
            return True

        async for chunks in self.source.chunks(replace(matcher.choice, after=after)):
            if not await asyncio.to_thread(look, chunks):
                break
        else:
            found.looked = self.total
        return found

    async def matches(self, found: Found, context: int) -> list[LogMatch]:
        """What was found with the lines around it; those that lie in other chunks are read now."""
        needed = {
            number: range(max(number - context, 1), min(number + context, self.total) + 1) for number in found.numbers
        }
        missing = sorted(set(chain.from_iterable(needed.values())) - found.lines.keys())
        for first, last in _ranges(missing, 2 * context):
            found.lines.update((int(line.id), line) for line in await self.between(first, last))
        return [
            LogMatch(
                **dict(found.lines[number]),
                before=[found.lines[near] for near in around if near < number],
                after=[found.lines[near] for near in around if near > number],
            )
            for number, around in needed.items()
        ]


def _part(chunk: Chunk, deployment_id: str, first: int, last: int) -> list[DeploymentLog]:
    lines = Lines(chunk)
    start = max(first - lines.first_line, 0)
    return lines.logs(deployment_id, range(start, min(last + 1 - lines.first_line, lines.count)))


def _around(indexes: Sequence[int], context: int, count: int) -> list[int]:
    if context == 0:
        return list(indexes)
    return sorted(
        {near for index in indexes for near in range(max(index - context, 0), min(index + context + 1, count))}
    )


def _ranges(numbers: Sequence[int], gap: int) -> Iterable[tuple[int, int]]:
    """First and last of those that lie close together."""
    if not numbers:
        return []
    breaks = [(before, after) for before, after in pairwise(numbers) if after - before > gap + 1]
    return zip(
        [numbers[0], *(after for _, after in breaks)], [*(before for before, _ in breaks), numbers[-1]], strict=True
    )
