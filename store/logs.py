"""The log of a deployment behind one interface: lines get their numbers here, in the transaction that stores them.

Rule: a batch says from which cursor of its stream it goes on. One that was stored before is recognised by that and
changes nothing, so that a worker that dies between commit and heartbeat neither loses nor doubles a line.
"""

from typing import Any

import orjson
from psycopg.types.json import Jsonb
from sqlalchemy import select

from domain.log import DeploymentLog, LogBatch, LogFilter, LogLevel, LogLine, LogPage, StreamPosition
from store.database import Connection, Database, Row, execute, notify
from store.paging import run
from store.projects import as_uuid
from store.seal import Sealer
from store.tables import LogLineRow


class LogStore:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def position(self, deployment_id: str, stream: str) -> StreamPosition:
        """How far the stream has been stored."""
        async with self._database.transaction() as connection:
            return await self._position(connection, deployment_id, stream)

    async def append(self, deployment_id: str, batch: LogBatch) -> StreamPosition:
        """Stores the batch if the stream stands where it begins. Returns where the stream stands now."""
        async with self._database.transaction() as connection:
            total = await _lock_counter(connection, deployment_id)
            stands = await self._position(connection, deployment_id, batch.stream)
            if stands.cursor != batch.after or batch.cursor == batch.after:
                return stands
            await _insert(connection, deployment_id, total, batch.lines)
            position = StreamPosition(
                cursor=batch.cursor,
                lines=stands.lines + len(batch.lines),
                bytes=stands.bytes + sum(len(line.message.encode()) for line in batch.lines),
                memory=batch.memory,
            )
            await self._advance(connection, deployment_id, batch.stream, position, total + len(batch.lines))
            if batch.lines:
                await notify(connection, deployment_id)
            return position

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
        """Lines that pass the filter, in order: those with a number above `after`, or the last `tail` of them."""
        columns = LogLineRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
        statement = select(LogLineRow.__table__).where(columns.deployment_id == as_uuid(deployment_id))  # type: ignore[attr-defined]  # as above
        for condition in _conditions(columns, wanted, after):
            statement = statement.where(condition)
        if tail is None:
            statement = statement.order_by(columns.sequence).offset(offset).limit(limit + 1)
        else:
            statement = statement.order_by(columns.sequence.desc()).limit(min(tail, limit))
        async with self._database.transaction() as connection:
            rows = await run(connection, statement)
        lines = [_read(row) for row in (rows if tail is None else reversed(rows))]
        more = tail is None and len(lines) > limit
        return LogPage(lines=lines[:limit], cursor=int(lines[limit - 1].id) if more else None)

    async def _position(self, connection: Connection, deployment_id: str, stream: str) -> StreamPosition:
        cursor = await execute(
            connection,
            "select cursor, lines, bytes, memory from log_streams where deployment_id = %(id)s and stream = %(stream)s",
            {"id": deployment_id, "stream": stream},
        )
        row = await cursor.fetchone()
        if row is None:
            return StreamPosition()
        memory = row["memory"] and self._sealer.open(row["memory"], _purpose(deployment_id, stream))
        return StreamPosition.model_validate({**row, "memory": orjson.loads(memory) if memory else {}})

    async def _advance(
        self, connection: Connection, deployment_id: str, stream: str, position: StreamPosition, total: int
    ) -> None:
        memory = position.memory and self._sealer.seal(orjson.dumps(position.memory), _purpose(deployment_id, stream))
        await execute(
            connection,
            "insert into log_streams (deployment_id, stream, cursor, lines, bytes, memory)"
            " values (%(id)s, %(stream)s, %(cursor)s, %(lines)s, %(bytes)s, %(memory)s)"
            " on conflict (deployment_id, stream) do update set cursor = excluded.cursor, lines = excluded.lines,"
            " bytes = excluded.bytes, memory = excluded.memory",
            {
                **position.model_dump(exclude={"memory"}),
                "id": deployment_id,
                "stream": stream,
                "memory": memory or None,
            },
        )
        await execute(
            connection,
            "update log_counters set lines = %(total)s where deployment_id = %(id)s",
            {"id": deployment_id, "total": total},
        )


def _conditions(columns: Any, wanted: LogFilter, after: int) -> list[Any]:
    conditions = [columns.sequence > after] if after else []
    if wanted.level is not None:
        conditions.append(columns.level.in_([str(level) for level in wanted.level.and_above]))
    if wanted.step is not None:
        conditions.append(columns.step == wanted.step)
    if wanted.source is not None:
        conditions.append(columns.source == wanted.source)
    if wanted.since is not None:
        conditions.append(columns.timestamp >= wanted.since)
    if wanted.query:
        conditions.append(columns.message.icontains(wanted.query, autoescape=True))
    return conditions


async def _lock_counter(connection: Connection, deployment_id: str) -> int:
    """The number of lines so far; nobody else adds any until the transaction ends."""
    await execute(
        connection,
        "insert into log_counters (deployment_id, lines) values (%(id)s, 0) on conflict do nothing",
        {"id": deployment_id},
    )
    cursor = await execute(
        connection, "select lines from log_counters where deployment_id = %(id)s for update", {"id": deployment_id}
    )
    row = await cursor.fetchone()
    return int(row["lines"]) if row else 0


async def _insert(connection: Connection, deployment_id: str, total: int, lines: list[LogLine]) -> None:
    columns = "deployment_id, sequence, timestamp, level, message, step, source, metadata"
    async with connection.cursor().copy(f"copy log_lines ({columns}) from stdin".encode()) as copy:
        for sequence, line in enumerate(lines, total + 1):
            metadata = Jsonb(line.metadata) if line.metadata is not None else None
            # PostgreSQL's text holds no NUL.
            message = line.message.replace("\x00", "")
            await copy.write_row(
                (
                    deployment_id,
                    sequence,
                    line.timestamp,
                    (line.level or LogLevel.INFO).value,
                    message,
                    line.step,
                    line.source,
                    metadata,
                )
            )


def _purpose(deployment_id: str, stream: str) -> str:
    return f"log {deployment_id} {stream}"


def _read(row: Row) -> DeploymentLog:
    return DeploymentLog.model_validate({**row, "id": str(row["sequence"]), "deployment_id": str(row["deployment_id"])})
