"""The tables of the log: a log's row, and its chunks, live and merged.

Rules: one statement reads both kinds of chunks, so that a merge at that moment neither hides nor doubles a line. What
partitions are chosen by stands in it as a constant. No chunk has more than MERGED_LINES lines.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from typing import Any

import psycopg

from domain.log import LogBatch
from store.chunks import HEAD_COLUMNS, MERGED_LINES, Choice, Chunk, ChunkSource, Head
from store.database import CHANNEL, Connection, Database, Row, execute

LIVE = "log_chunks_live"
MERGED = "log_chunks"

_COLUMNS = ", ".join((*HEAD_COLUMNS, "data"))
_FIRST_CHUNKS, _MOST_CHUNKS = 2, 32
"""How many chunks are fetched at a time: few at first, since most readers need one."""

_LOGS_AT_A_TIME = 50

_PARTITION_LOCK = 4_839_201_178  # any number that nobody else in this database locks


@dataclass(frozen=True, slots=True)
class Log:
    """The log of a deployment, as far as its row tells."""

    day: date
    lines: int
    bytes: int
    merged_at: datetime | None
    archived_at: datetime | None
    archive_key: str | None
    dropped_at: datetime | None

    @classmethod
    def of(cls, row: Row) -> "Log":
        return cls(**{name: row[name] for name in LOG_COLUMNS})


LOG_COLUMNS = tuple(entry.name for entry in fields(Log))


async def find_log(connection: Connection, deployment_id: str) -> Log | None:
    cursor = await execute(
        connection,
        f"select {', '.join(LOG_COLUMNS)} from logs where deployment_id = %(id)s",
        {"id": deployment_id},
    )
    row = await cursor.fetchone()
    return None if row is None else Log.of(row)


class StoredChunks:
    """The chunks of one log in the database; `archived` is where they are once they have been archived."""

    def __init__(
        self, database: Database, deployment_id: str, day: date, archived: Callable[[str | None], ChunkSource]
    ) -> None:
        self._database = database
        self._deployment_id = deployment_id
        self._day = day
        self._archived = archived

    async def chunks(self, choice: Choice) -> AsyncIterator[Sequence[Chunk]]:
        """No connection is held between two batches."""
        size = _FIRST_CHUNKS
        if choice.before is not None and not choice.backwards:
            size = min(choice.before - choice.after, MERGED_LINES)  # so many lines are in no more chunks than that
        while True:
            statement, parameters = _selection(self._deployment_id, self._day, choice, size)
            async with self._database.connection() as connection:
                # The log's row is read with them: what has been archived may have been dropped.
                rows = await _fetch_binary(
                    connection,
                    f"select archived_at, archive_key, chunks.* from logs left join ({statement}) as chunks on true"
                    f" where logs.deployment_id = %(id)s order by first_line {_order(choice)}",
                    parameters,
                )
            if rows and rows[0]["archived_at"] is not None:
                async for moved in self._archived(rows[0]["archive_key"]).chunks(choice):
                    yield moved
                return
            batch = [chunk_of(row) for row in rows if row["data"] is not None]
            if batch:
                yield batch
            if len(batch) < size:
                return
            last = batch[-1].head
            choice = (
                replace(choice, before=last.first_line) if choice.backwards else replace(choice, after=last.last_line)
            )
            size = min(2 * size, _MOST_CHUNKS)


async def fetch_chunks(
    connection: Connection, deployment_id: str, day: date, choice: Choice, limit: int
) -> list[Chunk]:
    statement, parameters = _selection(deployment_id, day, choice, limit)
    return [chunk_of(row) for row in await _fetch_binary(connection, statement, parameters)]


async def _fetch_binary(connection: Connection, statement: str, parameters: dict[str, Any]) -> list[Row]:
    """Data of chunks comes as it is, not as twice as many characters."""
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement.encode(), parameters)
    return await cursor.fetchall()


def _selection(deployment_id: str, day: date, choice: Choice, limit: int) -> tuple[str, dict[str, Any]]:
    conditions, parameters = _conditions(choice)
    statement = (
        f"select {_COLUMNS} from (select {_COLUMNS} from {LIVE} where {conditions}"
        f" union all select {_COLUMNS} from {MERGED} where day = '{day:%Y-%m-%d}' and {conditions}) as both_kinds"
        f" order by first_line {_order(choice)} limit %(limit)s"
    )
    return statement, {**parameters, "id": deployment_id, "limit": limit}


def _order(choice: Choice) -> str:
    return "desc" if choice.backwards else "asc"


def _conditions(choice: Choice) -> tuple[str, dict[str, object]]:
    wanted = {
        # The first of the two lets the index jump; the second is what is meant.
        f"first_line > %(after)s - {MERGED_LINES} and last_line > %(after)s": ("after", choice.after or None),
        "first_line < %(before)s": ("before", choice.before),
        "levels & %(levels)s != 0": ("levels", choice.levels),
        "sources & %(source)s != 0": ("source", choice.source),
        "%(step)s = any(steps)": ("step", choice.wanted.step),
        "ended >= %(since)s": ("since", choice.since),
        "began < %(until)s": ("until", choice.until),
    }
    used = {text: pair for text, pair in wanted.items() if pair[1] is not None}
    return " and ".join(["deployment_id = %(id)s", *used]), dict(used.values())


def chunk_of(row: Row) -> Chunk:
    return Chunk(Head(**{name: row[name] for name in HEAD_COLUMNS}), row["data"])


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A batch, ready to be stored: its memory is sealed and its lines are packed."""

    deployment_id: str
    batch: LogBatch
    memory: bytes | None
    chunks: Sequence[Chunk]
    attempt: datetime | None


async def store_batch(connection: Connection, packed: PackedBatch) -> Row | None:
    """How many lines and bytes the stream has after it; None when the batch does not begin where the stream stands, or
    a later attempt has written to it.

    Comparing, moving on and storing the first chunk is one statement. It locks the log's row, so that nobody else adds
    lines until the transaction ends.
    """
    lines, first = len(packed.batch.lines), packed.chunks[0] if packed.chunks else None
    cursor = await execute(
        connection,
        f"{_MOVE}{_STORE if first else ''}"
        " select moved.*, grown.total, pg_notify(%(channel)s, %(id)s::text) from moved, grown",
        {
            **({**_values(first), "rest": lines - first.head.lines} if first else {}),
            **{name: getattr(packed.batch, name) for name in ("stream", "after", "cursor")},
            "id": packed.deployment_id,
            "memory": packed.memory,
            "attempt": packed.attempt,
            "lines": lines,
            "size": sum(chunk.head.bytes for chunk in packed.chunks),
            "channel": CHANNEL,
        },
    )
    moved = await cursor.fetchone()
    if moved is not None and first is not None:
        number = moved["total"] - lines + first.head.lines + 1
        await add_chunks(connection, packed.deployment_id, number, packed.chunks[1:])
    return moved


_MOVE = (
    "with moved as (update log_streams set cursor = %(cursor)s, memory = %(memory)b, lines = lines + %(lines)s,"
    " bytes = bytes + %(size)s, fence = coalesce(%(attempt)s::timestamptz, fence)"
    " where deployment_id = %(id)s and stream = %(stream)s and cursor = %(after)s"
    " and coalesce(fence <= %(attempt)s::timestamptz, true)"
    " returning lines, bytes),"
    " grown as (update logs set lines = lines + %(lines)s, bytes = bytes + %(size)s,"
    " merged_at = case when %(lines)s = 0 then merged_at end"
    " where deployment_id = %(id)s and exists (select from moved) returning lines as total)"
)
_STORE = (
    f", stored as (insert into {LIVE} ({_COLUMNS}, deployment_id)"
    " select total - %(lines)s + 1, total - %(rest)s, "
    f"{', '.join(f'%({name})s' for name in HEAD_COLUMNS[2:])}, %(data)b, %(id)s from grown)"
)


def _values(chunk: Chunk) -> dict[str, Any]:
    return {**{name: getattr(chunk.head, name) for name in HEAD_COLUMNS}, "data": chunk.data}


async def begin_stream(connection: Connection, deployment_id: str, stream: str) -> None:
    """The rows of a stream that has not begun, and of its log."""
    await execute(
        connection,
        "insert into logs (deployment_id) values (%(id)s) on conflict do nothing",
        {"id": deployment_id},
    )
    await execute(
        connection,
        "insert into log_streams (deployment_id, stream, cursor) values (%(id)s, %(stream)s, '')"
        " on conflict do nothing",
        {"id": deployment_id, "stream": stream},
    )


async def find_stream(connection: Connection, deployment_id: str, stream: str) -> Row | None:
    cursor = await execute(
        connection,
        "select cursor, lines, bytes, memory, fence from log_streams"
        " where deployment_id = %(id)s and stream = %(stream)s",
        {"id": deployment_id, "stream": stream},
    )
    return await cursor.fetchone()


async def lock_log(connection: Connection, deployment_id: str) -> None:
    """Nobody else adds lines until the transaction ends."""
    await execute(connection, "select from logs where deployment_id = %(id)s for update", {"id": deployment_id})


async def add_chunks(
    connection: Connection, deployment_id: str, number: int, chunks: Sequence[Chunk], day: date | None = None
) -> int:
    """From that line of the log on: among the merged chunks of the day, else the live ones. Returns the next number."""
    names = ["deployment_id", *HEAD_COLUMNS] + ([] if day is None else ["day"])
    statement = (
        f"insert into {LIVE if day is None else MERGED} ({', '.join(names)}, data)"
        f" values ({', '.join(f'%({name})s' for name in names)}, %(data)b)"
    )
    for chunk in chunks:
        values = _values(Chunk(chunk.head.at(number), chunk.data))
        await execute(connection, statement, {**values, "deployment_id": deployment_id, "day": day})
        number += chunk.head.lines
    return number


async def take_live(connection: Connection, deployment_id: str, limit: int) -> list[Chunk]:
    """The first live chunks of a log, which are no longer there."""
    rows = await _fetch_binary(
        connection,
        f"delete from {LIVE} where deployment_id = %(id)s and first_line in (select first_line from {LIVE}"
        f" where deployment_id = %(id)s order by first_line limit %(limit)s) returning {_COLUMNS}",
        {"id": deployment_id, "limit": limit},
    )
    return sorted(map(chunk_of, rows), key=lambda chunk: chunk.head.first_line)


async def vacuum_live(database: Database) -> None:
    """Gives the space of merged chunks back now; where that fails, the next autovacuum does it."""
    connect = psycopg.AsyncConnection.connect(database.url, autocommit=True, connect_timeout=5)
    with suppress(psycopg.Error):
        async with await connect as connection:
            await connection.execute(f"vacuum (skip_locked, truncate) {LIVE}".encode())


async def fetch_tails(
    connection: Connection, deployment_ids: Sequence[str], lines: int
) -> tuple[dict[str, list[Chunk]], list[str]]:
    """The chunks with the last lines of these logs, and the logs that are in the archive."""
    last = (
        "deployment_id = logs.deployment_id and last_line > logs.lines - %(lines)s"
        f" and first_line > logs.lines - %(lines)s - {MERGED_LINES}"
    )
    rows = await _fetch_binary(
        connection,
        f"select logs.deployment_id, chunks.* from logs left join lateral (select {_COLUMNS} from {LIVE} where {last}"
        f" union all select {_COLUMNS} from {MERGED} where day = logs.day and {last}) as chunks on true"
        " where logs.deployment_id = any(%(ids)s::uuid[]) and logs.lines > 0 and logs.dropped_at is null"
        " order by first_line",
        {"ids": list(deployment_ids), "lines": lines},
    )
    stored: defaultdict[str, list[Chunk]] = defaultdict(list)
    archived = []
    for row in rows:
        if row["data"] is None:
            archived.append(str(row["deployment_id"]))
        else:
            stored[str(row["deployment_id"])].append(chunk_of(row))
    return stored, archived


async def newest_logs(
    connection: Connection, project_id: str, start: str | None, *, including: bool
) -> list[tuple[str, Log]]:
    """Some logs of the project, the newest deployment first: from that of deployment `start` on."""
    older = "<=" if including else "<"
    place = f" and (d.created_at, d.id) {older} (select created_at, id from deployments where id = %(start)s)"
    cursor = await execute(
        connection,
        f"select d.id, {', '.join(f'l.{name}' for name in LOG_COLUMNS)} from deployments d"
        " join logs l on l.deployment_id = d.id where d.project_id = %(project)s and l.dropped_at is null"
        f"{place if start else ''} order by d.created_at desc, d.id desc limit {_LOGS_AT_A_TIME}",
        {"project": project_id, "start": start},
    )
    return [(str(row["id"]), Log.of(row)) for row in await cursor.fetchall()]


def partition(day: date) -> str:
    return f"{MERGED}_{day:%Y%m%d}"


async def ensure_partition(database: Database, day: date) -> None:
    """The day's partition. It is made aside and then attached, which keeps neither readers nor writers from working."""
    async with database.transaction() as connection:
        if await _exists(connection, day):
            return
        await execute(connection, "select pg_advisory_xact_lock(%(lock)s)", {"lock": _PARTITION_LOCK})
        if not await _exists(connection, day):
            name = partition(day)
            await execute(connection, f"create table {name} (like {MERGED} including all)")
            await execute(
                connection,
                f"alter table {MERGED} attach partition {name}"
                f" for values from ('{day:%Y-%m-%d}') to ('{day + timedelta(days=1):%Y-%m-%d}')",
            )


async def _exists(connection: Connection, day: date) -> bool:
    # As the snapshot has it: to_regclass may remember that it was not there when the lock was asked for.
    cursor = await execute(
        connection,
        "select from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = %(parent)s::regclass and c.relname = %(name)s",
        {"parent": MERGED, "name": partition(day)},
    )
    return await cursor.fetchone() is not None
