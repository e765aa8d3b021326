"""The tables of the log: a log's row, and its chunks, live and merged.

Rules: one statement reads both kinds of chunks, so that a merge at that moment neither hides nor doubles a line. What
partitions are chosen by stands in it as a constant. No chunk has more than MERGED_LINES lines.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta

from store.chunks import HEAD_COLUMNS, MERGED_LINES, Choice, Chunk, Head
from store.database import Connection, Database, Row, execute

LIVE = "log_chunks_live"
MERGED = "log_chunks"

_COLUMNS = ", ".join((*HEAD_COLUMNS, "data"))
_FIRST_CHUNKS, _MOST_CHUNKS = 2, 32
"""How many chunks are fetched at a time: few at first, since most readers need one."""

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


async def find_log(connection: Connection, deployment_id: str, *, lock: bool = False) -> Log | None:
    cursor = await execute(
        connection,
        f"select {', '.join(LOG_COLUMNS)} from logs where deployment_id = %(id)s{' for update' if lock else ''}",
        {"id": deployment_id},
    )
    row = await cursor.fetchone()
    return None if row is None else Log.of(row)


class StoredChunks:
    """The chunks of one log in the database."""

    def __init__(self, database: Database, deployment_id: str, day: date) -> None:
        self._database = database
        self._deployment_id = deployment_id
        self._day = day

    async def chunks(self, choice: Choice) -> AsyncIterator[Sequence[Chunk]]:
        """No connection is held between two batches."""
        size = _FIRST_CHUNKS if choice.before is None else min(choice.before - choice.after, MERGED_LINES)
        while True:
            async with self._database.transaction() as connection:
                batch = await fetch_chunks(connection, self._deployment_id, self._day, choice, size)
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
    conditions, parameters = _conditions(choice)
    statement = (
        f"select {_COLUMNS} from (select {_COLUMNS} from {LIVE} where {conditions}"
        f" union all select {_COLUMNS} from {MERGED} where day = '{day:%Y-%m-%d}' and {conditions}) as chunks"
        f" order by first_line {'desc' if choice.backwards else 'asc'} limit %(limit)s"
    )
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement.encode(), {**parameters, "id": deployment_id, "limit": limit})
    return [chunk_of(row) for row in await cursor.fetchall()]


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


async def insert_chunk(connection: Connection, deployment_id: str, chunk: Chunk, day: date | None = None) -> None:
    """Among the merged chunks of the day, else among the live ones."""
    names = ["deployment_id", *HEAD_COLUMNS] + ([] if day is None else ["day"])
    await execute(
        connection,
        f"insert into {LIVE if day is None else MERGED} ({', '.join(names)}, data)"
        f" values ({', '.join(f'%({name})s' for name in names)}, %(data)b)",
        {
            **{name: getattr(chunk.head, name) for name in HEAD_COLUMNS},
            "deployment_id": deployment_id,
            "day": day,
            "data": chunk.data,
        },
    )


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
    cursor = await execute(connection, "select to_regclass(%(name)s) as found", {"name": partition(day)})
    row = await cursor.fetchone()
    return row is not None and row["found"] is not None
