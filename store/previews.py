"""Preview environments: one for each branch, made by the first deployment that goes there.

Rules: of a project's branch there is one, whoever asks at once: who makes one holds the project's previews (an advisory
lock, before any lock of an environment). What it is built with comes from the base environment each time.
"""

from datetime import UTC, datetime
from typing import Any

from psycopg import Rollback
from psycopg.types.json import Jsonb

from domain.audit import SYSTEM
from domain.errors import DeploymentError, ErrorCode
from domain.ids import uuid7
from domain.previews import DEFAULT_TTL_SECONDS, Previews, preview_names
from domain.source import branch_matches
from domain.states import ACTIVE
from store import audit, data_keys
from store.database import Connection, Row, execute
from store.environments import IDLE, remove
from store.lanes import active
from store.projects import insert
from store.rows import change
from store.seal import Sealer

_LOOKS = 5
_NO_BASE: Row = {"concurrency": None, "cancel_running": None, "protection": {}}


async def environment_of(connection: Connection, project: Row, branch: str, actor: str, ring: Sealer) -> Row:
    """The preview environment of a branch, locked; a new one where there is none.

    Raises:
        DeploymentError: environment-not-found (no previews, or no base), invalid-source-ref (not of this branch),
            conflict (there are as many as there may be, and none is idle).
    """
    _previews(project, branch)
    found = await _find(connection, project, branch)
    if found is None:
        await execute(connection, "select pg_advisory_xact_lock(hashtextextended(%(id)s, 7))", {"id": project["id"]})
        found = await _find(connection, project, branch)
    return found or await _make(connection, project, branch, actor, ring)


async def base_of(connection: Connection, project: Row, environment: Row) -> Row | None:
    """What a preview's configuration lies on, beside the project; None where that is all.

    Raises:
        DeploymentError: environment-not-found.
    """
    if environment["branch"] is None or project["previews"] is None:
        return None
    return await _base(connection, project, Previews.model_validate(project["previews"]))


def ttl_seconds(project: Row) -> int:
    """How long a preview stays after a deployment; also while the project makes no new ones."""
    if project["previews"] is None:
        return DEFAULT_TTL_SECONDS
    return Previews.model_validate(project["previews"]).ttl_seconds


async def branch_is_gone(connection: Connection, project_id: str, branch: str, actor: str) -> None:
    """The branch's preview ends as soon as nothing runs there, and what runs or waits there is canceled."""
    environment = await _find(connection, {"id": project_id}, branch)
    if environment is None:
        return
    canceled = [
        (row, await change(connection, row, cancel_requested_at=datetime.now(UTC)))
        for row in await active(connection, environment["id"], lock=True)
        if row["cancel_requested_at"] is None
    ]
    cursor = await execute(
        connection,
        "update environments set expires_at = now() where id = %(id)s returning *",
        {"id": environment["id"]},
    )
    [expired] = await cursor.fetchall()
    for before, after in canceled:
        await audit.deployment(connection, actor, "cancel", before, after, reason="the branch was deleted")
    await audit.environment(
        connection, actor, "expire", environment, expired, branch=branch, reason="the branch was deleted"
    )


def _previews(project: Row, branch: str) -> Previews:
    if project["previews"] is None:
        raise DeploymentError(
            ErrorCode.ENVIRONMENT_NOT_FOUND, f"the project {project['id']} makes no previews; set its `previews`"
        )
    previews = Previews.model_validate(project["previews"])
    if not branch_matches(branch, previews.refs):
        raise DeploymentError(
            ErrorCode.INVALID_SOURCE_REF,
            f"there are no previews of {branch[:100]!r}; accepted: {', '.join(previews.refs)}",
            fields=[("/sourceRef", "is none of the branches that the project's previews name")],
        )
    return previews


async def _find(connection: Connection, project: Row, branch: str) -> Row | None:
    cursor = await execute(
        connection,
        "select * from environments where project_id = %(project_id)s and branch = %(branch)s and deleted_at is null"
        " for no key update",
        {"project_id": project["id"], "branch": branch},
    )
    return await cursor.fetchone()


async def _make(connection: Connection, project: Row, branch: str, actor: str, ring: Sealer) -> Row:
    """The deployment that it is made for says until when it stays."""
    previews = _previews(project, branch)
    base = await _base(connection, project, previews) or _NO_BASE
    ended = await _oldest_beyond(connection, project, previews)
    columns: dict[str, Any] = {
        "id": uuid7(),
        "project_id": project["id"],
        "type": "preview",
        "branch": branch,
        "concurrency": base["concurrency"],
        "cancel_running": base["cancel_running"],
        "protection": Jsonb(base["protection"]),
    }
    made = await _insert(connection, columns, preview_names(branch))
    # The deployment will want it, and nobody may wait for it once he has the project's row.
    await data_keys.sealing(connection, ring, project["id"])
    # The audit comes after all locks: nobody else can hold one of the environment that was just made.
    if ended is not None:
        await remove(connection, ended, SYSTEM, f"the project has {previews.maximum} previews at most")
    await audit.environment(connection, actor, "create", None, made, name=made["name"], branch=branch)
    return made


async def _insert(connection: Connection, columns: dict[str, Any], names: tuple[str, str]) -> Row:
    plain, distinct = names
    try:
        return await insert(connection, {**columns, "name": plain}, "environments", "")
    except DeploymentError:
        return await insert(
            connection, {**columns, "name": distinct}, "environments", f"the environment {distinct} exists"
        )


async def _base(connection: Connection, project: Row, previews: Previews) -> Row | None:
    if previews.base is None:
        return None
    cursor = await execute(
        connection,
        "select * from environments where project_id = %(project_id)s and name = %(name)s and deleted_at is null",
        {"project_id": project["id"], "name": previews.base},
    )
    found = await cursor.fetchone()
    if found is None:
        raise DeploymentError(
            ErrorCode.ENVIRONMENT_NOT_FOUND, f"there is no environment {previews.base}, the base of the previews"
        )
    return found


async def _oldest_beyond(connection: Connection, project: Row, previews: Previews) -> Row | None:
    """The one that has to end for another one, locked; None where there is room.

    While one was waited for, it may have ended, or something may run there now: then all of them are looked at again.
    """
    for _ in range(_LOOKS):
        there, idle = await _count(connection, project)
        if there < previews.maximum:
            return None
        if not idle:
            break
        found = await _lock_idle(connection, project)
        if found is not None:
            return found
    raise DeploymentError(
        ErrorCode.CONFLICT,
        f"there are {there} previews, the project's maximum is {previews.maximum}, and none is idle;"
        " delete one, wait, or raise `previews.maximum`",
    )


async def _count(connection: Connection, project: Row) -> tuple[int, int]:
    """How many there are, and how many of them are idle."""
    cursor = await execute(
        connection,
        f"select count(*) as number, count(*) filter (where {IDLE}) as idle from environments"
        " where project_id = %(id)s and branch is not null and deleted_at is null",
        {"id": project["id"], "active": sorted(ACTIVE)},
    )
    [row] = await cursor.fetchall()
    return row["number"], row["idle"]


async def _lock_idle(connection: Connection, project: Row) -> Row | None:
    """The one that is idle the longest; None when it is no longer once it is locked, and then it is not locked."""
    asked = {"id": project["id"], "active": sorted(ACTIVE)}
    async with connection.transaction():
        cursor = await execute(
            connection,
            f"select * from environments where project_id = %(id)s and branch is not null and {IDLE}"
            " order by expires_at, id limit 1 for no key update",
            asked,
        )
        found = await cursor.fetchone()
        # A statement of its own: the one above saw the deployments as they were before it waited.
        still = f"select 1 from environments where id = %(found)s and {IDLE}"
        if found and await (await execute(connection, still, {**asked, "found": found["id"]})).fetchone():
            return found
        raise Rollback
    return None
