"""The log of a deployment behind one interface: lines get their numbers here, in the transaction that stores them.

Rule: a batch says from which cursor of its stream it goes on. One that was stored before is recognised by that and
changes nothing, so that a worker that dies between commit and heartbeat neither loses nor doubles a line. An attempt
that was taken over adds nothing (`domain.fence`).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date

import orjson

from domain.errors import DeploymentError, ErrorCode
from domain.fence import ATTEMPT, refuse_overtaken
from domain.log import DeploymentLog, LogBatch, LogFilter, LogLine, LogMatch, LogPage, StreamPosition
from store.chunks import (
    ALL,
    LIVE_EFFORT,
    LIVE_LINES,
    MERGED_EFFORT,
    MERGED_LINES,
    Archive,
    Chunk,
    ChunkSource,
    Columns,
    Lines,
    columns_of,
    pack,
    split,
)
from store.database import Connection, Database, execute
from store.log_match import SCAN_SECONDS, Budget, Matcher
from store.log_search import Place, Reader
from store.log_tables import (
    Log,
    PackedBatch,
    StoredChunks,
    add_chunks,
    begin_stream,
    ensure_partition,
    fetch_tails,
    find_log,
    find_stream,
    lock_log,
    newest_logs,
    store_batch,
    take_live,
    vacuum_live,
)
from store.seal import Sealer

_IN_A_THREAD = 1_000
"""From so many lines on, a batch is packed beside the event loop."""

_AT_A_TIME = 32
"""How many live chunks a merge has in memory."""

_TRUNCATED = 100
"""A merge that empties so many live chunks gives their space back to the file system."""


class LogStore:
    """`scan_seconds`: how long one request may look for lines before it answers what it has found."""

    def __init__(
        self, database: Database, sealer: Sealer, archive: Archive | None = None, scan_seconds: float = SCAN_SECONDS
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._archive = archive
        self._scan_seconds = scan_seconds

    async def position(self, deployment_id: str, stream: str) -> StreamPosition:
        """How far the stream has been stored.

        Raises:
            Overtaken: for an attempt, when a later one has written to it.
        """
        async with self._database.connection() as connection:
            return await self._position(connection, deployment_id, stream)

    async def append(self, deployment_id: str, batch: LogBatch) -> StreamPosition:
        """Stores the batch if the stream stands where it begins. Returns where the stream stands now."""
        if batch.cursor == batch.after:
            return await self.position(deployment_id, batch.stream)
        large = len(batch.lines) >= _IN_A_THREAD
        chunks = await asyncio.to_thread(_packed, batch.lines) if large else _packed(batch.lines)
        packed = PackedBatch(deployment_id, batch, self._sealed(deployment_id, batch), chunks, ATTEMPT.get())
        # What fits in one chunk is one statement, which needs no transaction around it.
        async with self._database.transaction() if len(chunks) > 1 else self._database.connection() as connection:
            while (moved := await store_batch(connection, packed)) is None:
                stands = await self._position(connection, deployment_id, batch.stream)
                if stands.cursor != batch.after:
                    return stands
                await begin_stream(connection, deployment_id, batch.stream)
        return StreamPosition(cursor=batch.cursor, lines=moved["lines"], bytes=moved["bytes"], memory=batch.memory)

    async def page(
        self,
        deployment_id: str,
        wanted: LogFilter,
        *,
        limit: int,
        offset: int = 0,
        after: int = 0,
        tail: int | None = None,
    ) -> LogPage:
        """Lines that pass the filter, in order: those with a number above `after`, or the last `tail` of them.

        Raises:
            DeploymentError: invalid-request, for a query that is not a regular expression of RE2, or for an offset that
                takes too long to count with this filter.
        """
        matcher, budget = Matcher(wanted), Budget(self._scan_seconds)
        log = await self._log(deployment_id)
        if log is None or log.lines <= after:
            return LogPage(lines=[])
        reader = self._reader(deployment_id, log)
        if tail is not None:
            return await reader.last_page(matcher, budget, min(tail, limit), after)
        return await reader.page(matcher, budget, limit=limit, offset=offset, after=after)

    async def tails(self, deployment_ids: Sequence[str], lines: int) -> dict[str, list[DeploymentLog]]:
        """The last lines of each of these logs: one query, whatever their number, but for logs in the archive."""
        async with self._database.connection() as connection:
            stored, archived = await fetch_tails(connection, deployment_ids, lines)
        last = await asyncio.to_thread(_last, stored, lines)
        for deployment_id in archived:
            last[deployment_id] = (await self.page(deployment_id, ALL, limit=lines, tail=lines)).lines
        return {deployment_id: last.get(deployment_id, []) for deployment_id in deployment_ids}

    async def search(
        self, project_id: str, wanted: LogFilter, *, limit: int, cursor: str | None = None, context: int = 0
    ) -> tuple[list[LogMatch], str | None]:
        """Matches of the project's logs, the newest deployment first, within a log in order; and where to go on.

        Raises:
            DeploymentError: invalid-request, for a query that RE2 does not take or a cursor that is not ours.
        """
        matcher, budget, place = Matcher(wanted), Budget(self._scan_seconds), Place.of(cursor)
        matches: list[LogMatch] = []
        async for deployment_id, log in self._newest(project_id, place):
            after = place.line if place is not None and place.deployment_id == deployment_id else 0
            if after >= log.lines:
                continue
            reader = self._reader(deployment_id, log)
            found = await reader.find(matcher, budget, most=limit + 1 - len(matches), after=after, context=context)
            more = len(matches) + len(found.numbers) > limit
            if more:
                found.numbers.pop()
            matches += await reader.matches(found, context)
            if more:
                return matches, str(Place(matches[-1].deployment_id, int(matches[-1].id)))
            if budget.spent:
                return matches, str(Place(deployment_id, found.looked))
        return matches, None

    async def merge(self, deployment_id: str) -> None:
        """Rewrites what was written live as large chunks. Once more changes nothing; lines may still be added later."""
        log = await self._log(deployment_id)
        if log is None or log.merged_at is not None:
            return
        await ensure_partition(self._database, log.day)
        async with self._database.transaction() as connection:
            await lock_log(connection, deployment_id)
            taken = await _merge(connection, deployment_id, log.day)
        if taken >= _TRUNCATED:
            await vacuum_live(self._database)

    async def _log(self, deployment_id: str) -> Log | None:
        async with self._database.connection() as connection:
            return await find_log(connection, deployment_id)

    def _reader(self, deployment_id: str, log: Log) -> Reader:
        return Reader(deployment_id, self._source(deployment_id, log), log.lines)

    def _source(self, deployment_id: str, log: Log) -> ChunkSource:
        if log.archived_at is not None:
            return self._archived(log.archive_key)
        return StoredChunks(self._database, deployment_id, log.day, self._archived)

    def _archived(self, key: str | None) -> ChunkSource:
        if self._archive is None or key is None:
            raise DeploymentError(
                ErrorCode.UNAVAILABLE, "the log is in the archive, and this process was not told where that is"
            )
        return self._archive.log(key)

    async def _newest(self, project_id: str, place: Place | None) -> AsyncIterator[tuple[str, Log]]:
        """The project's logs from that place on, the newest deployment first."""
        start = None if place is None else place.deployment_id
        while True:
            async with self._database.connection() as connection:
                logs = await newest_logs(connection, project_id, start, including=place is not None)
            for entry in logs:
                yield entry
            if not logs:
                return
            start, place = logs[-1][0], None

    async def _position(self, connection: Connection, deployment_id: str, stream: str) -> StreamPosition:
        row = await find_stream(connection, deployment_id, stream)
        if row is None:
            return StreamPosition()
        refuse_overtaken(row["fence"])
        memory = row["memory"] and self._sealer.open(row["memory"], _purpose(deployment_id, stream))
        return StreamPosition.model_validate({**row, "memory": orjson.loads(memory) if memory else {}})

    def _sealed(self, deployment_id: str, batch: LogBatch) -> bytes | None:
        if not batch.memory:
            return None
        return self._sealer.seal(orjson.dumps(batch.memory), _purpose(deployment_id, batch.stream))


def _purpose(deployment_id: str, stream: str) -> str:
    return f"log {deployment_id} {stream}"


def _packed(lines: Sequence[LogLine]) -> list[Chunk]:
    return [pack(part, LIVE_EFFORT) for part in split(columns_of(lines), LIVE_LINES)]


async def _merge(connection: Connection, deployment_id: str, day: date) -> int:
    """Takes the live chunks a few at a time and puts merged ones in their place; says how many it took."""
    number, taken, pending = 0, 0, Columns()
    while chunks := await take_live(connection, deployment_id, _AT_A_TIME):
        number, taken = number or chunks[0].head.first_line, taken + len(chunks)
        merged, pending = await asyncio.to_thread(_merged, pending, chunks)
        number = await add_chunks(connection, deployment_id, number, merged, day)
    await add_chunks(connection, deployment_id, number, [pack(pending, MERGED_EFFORT)] if taken else [], day)
    await execute(connection, "update logs set merged_at = now() where deployment_id = %(id)s", {"id": deployment_id})
    return taken


def _merged(pending: Columns, chunks: Sequence[Chunk]) -> tuple[list[Chunk], Columns]:
    """Full chunks, and the lines that wait for more."""
    for chunk in chunks:
        pending.add(Lines(chunk).columns())
    *full, pending = split(pending, MERGED_LINES)
    return [pack(part, MERGED_EFFORT) for part in full], pending


def _last(stored: Mapping[str, Sequence[Chunk]], lines: int) -> dict[str, list[DeploymentLog]]:
    return {
        deployment_id: [line for chunk in chunks for line in Lines(chunk).last(deployment_id, lines)][-lines:]
        for deployment_id, chunks in stored.items()
    }
