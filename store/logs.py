"""The log of a deployment behind one interface: lines get their numbers here, in the transaction that stores them.

Rule: a batch says from which cursor of its stream it goes on. One that was stored before is recognised by that and
changes nothing, so that a worker that dies between commit and heartbeat neither loses nor doubles a line.
"""

from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import select

from domain.log import DeploymentLog, LogBatch, LogFilter, LogLine
from store.database import Connection, Database, Row, execute, notify
from store.paging import run
from store.projects import as_uuid
from store.tables import LogLineRow


class LogStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def cursor(self, deployment_id: str, stream: str) -> str:
        """How far the stream has been stored; '' is its beginning."""
        async with self._database.transaction() as connection:
            return await _cursor(connection, deployment_id, stream)

    async def append(self, deployment_id: str, batch: LogBatch) -> str:
        """Stores the batch if the stream stands where it begins. Returns where the stream stands now."""
        async with self._database.transaction() as connection:
            total = await _lock_counter(connection, deployment_id)
            stands = await _cursor(connection, deployment_id, batch.stream)
            if stands != batch.after or batch.cursor == batch.after:
                return stands
            await _insert(connection, deployment_id, total, batch.lines)
            await _advance(connection, deployment_id, batch, total + len(batch.lines))
            if batch.lines:
                await notify(connection, deployment_id)
            return batch.cursor

    async def page(
        self,
        deployment_id: str,
        wanted: LogFilter,
        *,
        limit: int,
        offset: int = 0,
        after: int = 0,
        tail: int | None = None,
    ) -> list[DeploymentLog]:
        """Lines that pass the filter, in order: those with a number above `after`, or the last `tail` of them."""
        columns = LogLineRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
        statement = select(LogLineRow.__table__).where(columns.deployment_id == as_uuid(deployment_id))  # type: ignore[attr-defined]  # as above
        for condition in _conditions(columns, wanted, after):
            statement = statement.where(condition)
        if tail is None:
            statement = statement.order_by(columns.sequence).offset(offset).limit(limit)
        else:
            statement = statement.order_by(columns.sequence.desc()).limit(min(tail, limit))
        async with self._database.transaction() as connection:
            rows = await run(connection, statement)
        return [_read(row) for row in (rows if tail is None else reversed(rows))]


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


async def _cursor(connection: Connection, deployment_id: str, stream: str) -> str:
    cursor = await execute(
        connection,
        "select cursor from log_streams where deployment_id = %(id)s and stream = %(stream)s",
        {"id": deployment_id, "stream": stream},
    )
    row = await cursor.fetchone()
    return str(row["cursor"]) if row else ""


async def _insert(connection: Connection, deployment_id: str, total: int, lines: list[LogLine]) -> None:
    columns = "deployment_id, sequence, timestamp, level, message, step, source, metadata"
    async with connection.cursor().copy(f"copy log_lines ({columns}) from stdin".encode()) as copy:
        for sequence, line in enumerate(lines, total + 1):
            metadata = Jsonb(line.metadata) if line.metadata is not None else None
            # PostgreSQL's text holds no NUL.
            message = line.message.replace("\x00", "")
            await copy.write_row(
                (deployment_id, sequence, line.timestamp, line.level.value, message, line.step, line.source, metadata)
            )


async def _advance(connection: Connection, deployment_id: str, batch: LogBatch, total: int) -> None:
    await execute(
        connection,
        "insert into log_streams (deployment_id, stream, cursor) values (%(id)s, %(stream)s, %(cursor)s)"
        " on conflict (deployment_id, stream) do update set cursor = excluded.cursor",
        {"id": deployment_id, "stream": batch.stream, "cursor": batch.cursor},
    )
    await execute(
        connection,
        "update log_counters set lines = %(total)s where deployment_id = %(id)s",
        {"id": deployment_id, "total": total},
    )


def _read(row: Row) -> DeploymentLog:
    return DeploymentLog.model_validate({**row, "id": str(row["sequence"]), "deployment_id": str(row["deployment_id"])})
