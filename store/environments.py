"""How an environment ends: it is deleted, and what was live of it is taken down afterwards.

Rules: who ends one holds its row, as whoever triggers there does, so that one of the two wins. Its row stays, for the
history of its deployments; no secret of it or of theirs does. What is to be taken down is said by the rows themselves,
until it is done.
"""

from datetime import UTC, datetime
from uuid import UUID

import psycopg
import structlog

from domain.audit import SYSTEM
from domain.build import RemovedEnvironment
from domain.errors import DeploymentError, ErrorCode
from domain.states import ACTIVE
from domain.wire import rfc3339
from store import audit
from store.database import Connection, Database, Row, execute
from store.projects import check_version, environment_row, update

IDLE = (
    "deleted_at is null and not is_default and not exists (select 1 from deployments"
    " where environment_id = environments.id and status = any(%(active)s))"
)
"""Of `environments`: what may be deleted; to be looked at again under its lock."""

_ASK_AGAIN = "interval '1 minute'"
"""A take-down that is under way is asked for again after this; it is the same one then."""


_log = structlog.get_logger()


class EnvironmentStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete(self, environment_id: str, actor: str, version: int | None = None) -> None:
        """`version` is what the caller has seen, where he says so.

        Raises:
            DeploymentError: environment-not-found, precondition-failed, conflict (it is the default one, or something
                runs or waits there).
        """
        async with self._database.transaction() as connection:
            row = await environment_row(connection, environment_id, lock=True)
            check_version(row, version)
            await remove(connection, row, actor)

    async def expire_due(self, limit: int = 20) -> None:
        """Deletes those whose time is over and where nothing runs, `limit` at most.

        One that cannot be deleted now, whatever it is, stays until the next time, and the others go.
        """
        looked_at: list[UUID] = []
        for _ in range(limit):
            try:
                async with self._database.transaction() as connection:
                    row = await _next_due(connection, looked_at)
                    if row is None:
                        return
                    looked_at.append(row["id"])
                    await remove(connection, row, SYSTEM, f"it expired at {rfc3339(row['expires_at'])}")
            except (DeploymentError, psycopg.Error) as error:
                if isinstance(error, DeploymentError) and error.code is ErrorCode.UNAVAILABLE:
                    raise
                _log.warning(
                    "an environment stays for now", environment=[str(one) for one in looked_at[-1:]], reason=str(error)
                )

    async def claim_take_downs(self, limit: int = 20) -> list[str]:
        """Ids of deleted environments of which something may be live; nobody else is given the same for a while."""
        rows = await self._database.fetch_all(
            "update environments set take_down_asked_at = now() where id in ("
            " select id from environments where deleted_at is not null and taken_down_at is null"
            f" and (take_down_asked_at is null or take_down_asked_at < now() - {_ASK_AGAIN})"
            " order by take_down_asked_at nulls first, deleted_at limit %(limit)s"
            " for no key update skip locked) returning id::text",
            {"limit": limit},
        )
        return [row["id"] for row in rows]

    async def builders_of(self, environment_id: str) -> list[str]:
        """The task queues of those who hold something of it."""
        rows = await self._database.fetch_all(
            "select distinct task_queue from deployments where environment_id = %(id)s and task_queue is not null"
            " order by task_queue",
            {"id": UUID(environment_id)},
        )
        return [row["task_queue"] for row in rows]

    async def removed(self, environment_id: str) -> RemovedEnvironment | None:
        """What is to be taken down; None where it is not deleted."""
        row = await self._database.fetch_one(
            "select project_id, name as environment, array(select id::text from deployments"
            " where environment_id = environments.id order by sequence) as deployment_ids"
            " from environments where id = %(id)s and deleted_at is not null",
            {"id": UUID(environment_id)},
        )
        return RemovedEnvironment.model_validate(row) if row else None

    async def note_taken_down(self, environment_id: str) -> None:
        await self._database.fetch_all(
            "update environments set taken_down_at = now()"
            " where id = %(id)s and deleted_at is not null and taken_down_at is null returning id",
            {"id": UUID(environment_id)},
        )


async def _next_due(connection: Connection, without: list[UUID]) -> Row | None:
    cursor = await execute(
        connection,
        f"select * from environments where expires_at <= now() and {IDLE} and id <> all(%(without)s)"
        " order by expires_at limit 1 for no key update skip locked",
        {"active": sorted(ACTIVE), "without": without},
    )
    return await cursor.fetchone()


async def remove(connection: Connection, row: Row, actor: str, reason: str | None = None) -> None:
    """Deletes an environment whose row is locked. Late in a transaction, since it is written to the audit.

    Raises:
        DeploymentError: conflict.
    """
    if row["is_default"]:
        raise DeploymentError(
            ErrorCode.CONFLICT, f"{row['name']} is the default environment: make another one the default first"
        )
    await _check_idle(connection, row)
    await execute(
        connection,
        "update deployments set secrets = null where environment_id = %(id)s and secrets is not null",
        {"id": row["id"]},
    )
    gone = await update(connection, "environments", row["id"], {"deleted_at": datetime.now(UTC), "secrets": None})
    await audit.environment(connection, actor, "delete", row, gone, name=row["name"], reason=reason)


async def _check_idle(connection: Connection, row: Row) -> None:
    cursor = await execute(
        connection,
        "select id, status, waiting_on from deployments where environment_id = %(id)s and status = any(%(active)s)"
        " order by sequence",
        {"id": row["id"], "active": sorted(ACTIVE)},
    )
    busy = await cursor.fetchall()
    if not busy:
        return
    what = ", ".join(f"deployment {one['id']} {_does(one)}" for one in busy[:3])
    more = f" and {len(busy) - 3} more" if len(busy) > 3 else ""
    raise DeploymentError(
        ErrorCode.CONFLICT,
        f"{row['name']} is not idle: {what}{more}; wait for the end, or cancel",
        details={"activeDeploymentIds": [str(one["id"]) for one in busy[:100]]},
    )


def _does(deployment: Row) -> str:
    waiting = deployment["waiting_on"]
    return f"waits ({waiting})" if waiting else f"is {deployment['status']}"
