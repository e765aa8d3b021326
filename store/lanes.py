"""Lanes: one project and one environment. Who may run, and who is next, is decided under the environment's row lock.

A deployment's `lane` is `held`, `waiting` (in line, by its sequence), `released`, or `none` (it runs beside: by force,
or because its environment is `parallel`). The database itself refuses a second one that holds the same lane.
"""

from datetime import UTC, datetime
from uuid import UUID

from domain.deployment import Concurrency
from domain.errors import DeploymentError, ErrorCode
from domain.states import ACTIVE
from store.database import Connection, Row, execute
from store.rows import NOT_WAITING, change


async def lock(connection: Connection, deployment_id: str) -> None:
    """The environment of a deployment: who frees or grants a lane holds its row."""
    await execute(
        connection,
        "select 1 from environments where id = (select environment_id from deployments where id = %(id)s) for update",
        {"id": deployment_id},
    )


async def enter(connection: Connection, environment_id: UUID, policy: Concurrency, *, force: bool) -> str:
    """What the new deployment's `lane` is. The caller holds the lock of the environment's row.

    Raises:
        DeploymentError: already-running, when the policy is `reject`.
    """
    if policy == "parallel":
        return "none"
    running = await _active(connection, environment_id)
    held = any(row["lane"] == "held" for row in running)
    if force or not running:
        return "none" if held else "held"
    if policy == "reject":
        raise DeploymentError(
            ErrorCode.ALREADY_RUNNING,
            f"deployment {running[0]['id']} is running in this environment; wait, cancel it, or send force: true",
            details={"runningDeploymentId": str(running[0]["id"])},
        )
    in_line = any(row["lane"] == "waiting" for row in running)
    return "waiting" if held or in_line else "held"


async def supersede(connection: Connection, environment_id: UUID, newest: UUID, *, cancel_running: bool) -> None:
    """Takes those that wait out of the line; with `cancel_running`, asks the one that runs to end as well.

    Called before `newest` is written: nobody may wait for a deployment while he holds the project's row.
    """
    replaced = {"waiting", "held"} if cancel_running else {"waiting"}
    for row in await _active(connection, environment_id, lock=True):
        if row["lane"] in replaced:
            left = {"lane": "released"} if row["lane"] == "waiting" else {}
            asked = row["cancel_requested_at"] or datetime.now(UTC)
            await change(connection, row, superseded_by=newest, cancel_requested_at=asked, **left)


async def leave(connection: Connection, row: Row) -> Row:
    """Frees what `row` holds, or its place in the line, and gives a free lane to the first in line.

    The caller holds the lock of the environment's row, and not yet the project's.
    """
    if row["lane"] not in {"held", "waiting"}:
        return row
    row = await change(connection, row, lane="released")
    rows = await _active(connection, row["environment_id"], lock=True)
    first = next((other for other in rows if other["lane"] == "waiting"), None)
    if first is not None and not any(other["lane"] == "held" for other in rows):
        await change(connection, first, lane="held", lane_granted_at=datetime.now(UTC), **NOT_WAITING)
    return row


async def _active(connection: Connection, environment_id: UUID, *, lock: bool = False) -> list[Row]:
    """Those of an environment that have not ended, by sequence."""
    cursor = await execute(
        connection,
        "select * from deployments where environment_id = %(id)s and status = any(%(active)s) order by sequence"
        + (" for update" if lock else ""),
        {"id": environment_id, "active": sorted(ACTIVE)},
    )
    return await cursor.fetchall()
