"""What becomes of finished logs: they are merged, archived when they are old, and their day is dropped as a whole.

Rules: a day's partition goes only under a lock that keeps everybody out of it, and only when each log of that day has
ended and is in the archive, where there is one. Each step is found again by what the one before has left behind, so a
round that dies half-way is gone on with by the next, and two rounds at once do no harm.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog
from psycopg.errors import LockNotAvailable

from domain.errors import DeploymentError, ErrorCode
from domain.log import LogSweep
from domain.states import TERMINAL
from store.archive import LogArchive
from store.chunks import Choice, Chunk
from store.database import Connection, Database, Row, execute
from store.log_tables import LIVE, MERGED, ensure_partition, fetch_chunks, partition
from store.logs import LogStore

DAYS_AHEAD = 7
LOCK_PATIENCE = "500ms"
"""How long readers may have to stand behind a drop that waits itself; then it is left to the next round."""

_CHUNKS_AT_A_TIME = 32
_FINAL = sorted(TERMINAL)
_IS_LIVE = f"exists (select from {LIVE} c where c.deployment_id = l.deployment_id)"
_IS_ARCHIVED = "coalesce(l.archive_key like '%%-' || l.lines, false)"
"""A key ends with the number of lines: one that got more afterwards is archived anew."""


Item = TypeVar("Item", str, date)
_log = structlog.get_logger()


@dataclass(frozen=True)
class Keep:
    """How many days a log stays in the database and, counted from the same day, in the archive."""

    database_days: int = 30
    archive_days: int = 365


class LogUpkeep:
    """Without an archive, old logs are dropped and gone."""

    def __init__(self, database: Database, logs: LogStore, archive: LogArchive | None, keep: Keep) -> None:
        self._database = database
        self._logs = logs
        self._archive = archive
        self._keep = keep

    async def sweep(self) -> LogSweep:
        """One round. What is due and cannot be done now is left to the next one."""
        today = datetime.now(UTC).date()
        waiting: list[str] = []
        merged = await _each(await self._unmerged(), self._merge, waiting)
        due = await self._partitions_before(_cutoff(today, self._keep.database_days))
        archived = deleted = 0
        if self._archive is not None:
            archive = partial(self._archive_log, self._archive)
            archived = await _each(await self._unarchived(due), archive, waiting)
        dropped = await _each(due, self._drop, waiting)
        for ahead in range(DAYS_AHEAD + 1):
            await ensure_partition(self._database, today + timedelta(days=ahead))
        if self._archive is not None:
            deleted = await self._delete_before(self._archive, _cutoff(today, self._keep.archive_days), waiting)
        done = LogSweep(merged=merged, archived=archived, dropped=dropped, deleted=deleted, waiting=waiting)
        (_log.warning if waiting else _log.info)("logs are kept", **done.model_dump())
        return done

    async def _unmerged(self) -> list[str]:
        rows = await self._database.fetch_all(
            f"select distinct c.deployment_id from {LIVE} c join deployments d on d.id = c.deployment_id"
            " where d.status = any(%(final)s)",
            {"final": _FINAL},
        )
        return [str(row["deployment_id"]) for row in rows]

    async def _merge(self, deployment_id: str) -> bool:
        await self._logs.merge(deployment_id)
        return True

    async def _partitions_before(self, cutoff: date) -> list[date]:
        rows = await self._database.fetch_all(
            "select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid"
            " where i.inhparent = %(parent)s::regclass",
            {"parent": MERGED},
        )
        days = (date.fromisoformat(row["name"].removeprefix(f"{MERGED}_")) for row in rows)
        return sorted(day for day in days if day < cutoff)

    async def _unarchived(self, days: list[date]) -> list[str]:
        rows = await self._database.fetch_all(
            "select l.deployment_id from logs l join deployments d on d.id = l.deployment_id"
            " where l.day = any(%(days)s) and l.lines > 0 and l.dropped_at is null"
            f" and d.status = any(%(final)s) and not {_IS_ARCHIVED} and not {_IS_LIVE} order by l.day",
            {"days": days, "final": _FINAL},
        )
        return [str(row["deployment_id"]) for row in rows]

    async def _archive_log(self, archive: LogArchive, deployment_id: str) -> bool:
        """Under the log's lock: nothing is added to it and nothing merged meanwhile."""
        async with self._database.transaction() as connection:
            cursor = await execute(
                connection,
                f"select day, lines, archive_key from logs l where deployment_id = %(id)s and not {_IS_ARCHIVED}"
                " for update skip locked",
                {"id": deployment_id},
            )
            log = await cursor.fetchone()
            if log is None:
                return False
            chunks = _whole(_chunks(archive, connection, deployment_id, log), log["lines"])
            key = await archive.write(log["day"], deployment_id, log["lines"], chunks)
            await execute(
                connection,
                "update logs set archived_at = now(), archive_key = %(key)s where deployment_id = %(id)s",
                {"key": key, "id": deployment_id},
            )
        return True

    async def _drop(self, day: date) -> bool:
        async with self._database.transaction() as connection:
            await _lock_chunks(connection)
            cursor = await execute(
                connection,
                "select count(*) as logs from logs l join deployments d on d.id = l.deployment_id"
                " where l.day = %(day)s and l.lines > 0 and l.dropped_at is null"
                f" and (d.status <> all(%(final)s) or {_IS_LIVE} or (%(archived)s and not {_IS_ARCHIVED}))",
                {"day": day, "final": _FINAL, "archived": self._archive is not None},
            )
            needed = await cursor.fetchone()
            if needed is None or needed["logs"]:
                return False
            await execute(connection, f"drop table if exists {partition(day)}")
            await execute(
                connection,
                "update logs set dropped_at = now()"
                " where day = %(day)s and lines > 0 and archived_at is null and dropped_at is null",
                {"day": day},
            )
        return True

    async def _delete_before(self, archive: LogArchive, cutoff: date, waiting: list[str]) -> int:
        async def delete(day: date) -> int:
            await self._database.fetch_all(
                "update logs set dropped_at = now(), archived_at = null, archive_key = null"
                " where day = %(day)s and archived_at is not null and dropped_at is null returning deployment_id",
                {"day": day},
            )
            return await archive.delete(day)

        try:
            days = await archive.days()
        except DeploymentError as error:
            waiting.append(error.message)
            return 0
        return await _each([day for day in days if day < cutoff], delete, waiting)


async def _each(items: Sequence[Item], step: Callable[[Item], Awaitable[int]], waiting: list[str]) -> int:
    """How much was done. After one that could not because something is away, the rest is not tried either."""
    done = 0
    for item in items:
        try:
            done += await step(item)
        except DeploymentError as error:
            waiting.append(f"{item}: {error.message}")
            if error.code is ErrorCode.UNAVAILABLE:
                break
    return done


async def _lock_chunks(connection: Connection) -> None:
    """Keeps everybody out of the merged chunks, or gives up soon."""
    await execute(connection, f"set local lock_timeout = '{LOCK_PATIENCE}'")
    try:
        await execute(connection, f"lock table {MERGED} in access exclusive mode")
    except LockNotAvailable as error:
        raise DeploymentError(ErrorCode.UNAVAILABLE, "its chunks are being read by somebody who takes long") from error


async def _chunks(
    archive: LogArchive, connection: Connection, deployment_id: str, log: Row
) -> AsyncIterator[Sequence[Chunk]]:
    """Of a log that got more lines after it was archived, those of the archive first; then those of the database."""
    last = 0
    if log["archive_key"] is not None:
        async for batch in archive.log(log["archive_key"]).chunks(Choice()):
            yield batch
            last = batch[-1].head.last_line
    while batch := await fetch_chunks(connection, deployment_id, log["day"], Choice(after=last), _CHUNKS_AT_A_TIME):
        yield batch
        last = batch[-1].head.last_line


async def _whole(chunks: AsyncIterator[Sequence[Chunk]], lines: int) -> AsyncIterator[Sequence[Chunk]]:
    """The same, once it is sure that they are all lines of the log.

    Raises:
        DeploymentError: internal, where some are missing: what is there is better kept than archived as the whole.
    """
    last = 0
    async for batch in chunks:
        for chunk in batch:
            if chunk.head.first_line != last + 1:
                raise _incomplete(last, lines)
            last = chunk.head.last_line
        yield batch
    if last != lines:
        raise _incomplete(last, lines)


def _incomplete(last: int, lines: int) -> DeploymentError:
    return DeploymentError(ErrorCode.INTERNAL, f"lines are missing after {last} of {lines}; it is not archived")


def _cutoff(today: date, keep_days: int) -> date:
    """Days before it go. With 0 that is today, too."""
    return today - timedelta(days=keep_days or -1)
