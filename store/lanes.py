"""Lanes: one project and one environment. Who may run, and who is next, is decided under the environment's row lock.

A deployment's `lane` is `gated` (a rule of the environment keeps it: see `gate`), `waiting` (in line, by its sequence),
`held`, `released`, or `none` (it runs beside: by force, or because its environment is `parallel`). The database itself
refuses a second one that holds the same lane.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from domain.audit import SYSTEM
from domain.deployment import Concurrency
from domain.errors import DeploymentError, ErrorCode
from domain.states import ACTIVE
from store import audit
from store.database import Connection, Row, execute
from store.rows import NOT_WAITING, change


def in_line() -> dict[str, Any]:
    """Columns of one that stands in line from now on."""
    return {"lane": "waiting", "waiting_on": "lane", "waiting_reason": None, "waiting_since": datetime.now(UTC)}


async def lock(connection: Connection, deployment_id: str) -> None:
    """The environment of a deployment: who frees or grants a lane holds its row."""
    await execute(
        connection,
        "select 1 from environments where id = (select environment_id from deployments where id = %(id)s)"
        " for no key update",
        {"id": deployment_id},
    )


async def enter(connection: Connection, environment_id: UUID, policy: Concurrency, *, force: bool) -> str:
    """What the new deployment's `lane` is. The caller holds the lock of the environment's row.

    Raises:
        DeploymentError: already-running, when the policy is `reject`.
    """
    if policy == "parallel":
        return "none"
    running = [row for row in await active(connection, environment_id) if row["lane"] != "gated"]
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


async def enter_late(connection: Connection, row: Row) -> Row:
    """Lets one in whose gate has opened; where `reject` would have refused it at the door, it stands in line now."""
    if row["lane_policy"] == "parallel":
        return await change(connection, row, lane="none", **NOT_WAITING)
    others = [other for other in await active(connection, row["environment_id"], lock=True) if other["id"] != row["id"]]
    if any(other["lane"] in {"held", "waiting"} for other in others):
        row = await change(connection, row, **in_line())
        if row["lane_policy"] == "supersede":
            older = [other for other in others if other["sequence"] < row["sequence"]]
            await replace(connection, older, row["id"], {"waiting"})
        return row
    return await change(connection, row, lane="held", **NOT_WAITING)


async def supersede(connection: Connection, environment_id: UUID, newest: UUID, *, cancel_running: bool) -> None:
    """Takes those that wait out of the line; with `cancel_running`, asks the one that runs to end as well.

    Called before `newest` is written: nobody may wait for a deployment while he holds the project's row.
    """
    replaced = {"waiting", "held"} if cancel_running else {"waiting"}
    await replace(connection, await active(connection, environment_id, lock=True), newest, replaced)


async def leave(connection: Connection, row: Row, *, deployed: bool) -> Row:
    """Frees what `row` holds, or its place in the line, and gives a free lane to the first in line.

    What is older than one that was deployed no longer goes out. The caller holds the lock of the environment's row, and
    not yet the project's.
    """
    if row["lane"] not in {"held", "waiting", "gated"}:
        return row
    row, rows = await step_out(connection, row)
    if deployed:
        older = [other for other in rows if other["sequence"] < row["sequence"]]
        await replace(connection, older, row["id"], {"gated", "waiting"})
    await grant(connection, row["environment_id"])
    return row


async def step_out(connection: Connection, row: Row) -> tuple[Row, list[Row]]:
    """Frees what `row` holds and locks all that have not ended, which are answered; the lane is to be granted yet."""
    if row["lane"] in {"held", "waiting", "gated"}:
        row = await change(connection, row, lane="released")
    return row, await active(connection, row["environment_id"], lock=True)


async def grant(connection: Connection, environment_id: UUID) -> Row | None:
    """Gives a free lane to the first in line. The caller has locked all that have not ended."""
    cursor = await execute(
        connection,
        "select * from deployments where environment_id = %(id)s and lane = 'waiting' and not exists"
        " (select 1 from deployments where environment_id = %(id)s and lane = 'held') order by sequence limit 1",
        {"id": environment_id},
    )
    first = await cursor.fetchone()
    return first and await change(connection, first, lane="held", **NOT_WAITING, **asking_to_wake())


def asking_to_wake() -> dict[str, datetime | None]:
    """Columns: the workflow is to look at its record again."""
    return {"wake_asked_at": datetime.now(UTC), "wake_delivered_at": None}


async def replace(connection: Connection, rows: list[Row], newest: UUID, lanes: set[str]) -> None:
    """Asks those of `rows` that have one of these lanes to end, `newest` being there instead.

    All of `rows` are locked by now, and so is whatever the caller goes on to change.
    """
    for row in rows:
        if row["lane"] in lanes:
            left = {"lane": "released"} if row["lane"] in {"gated", "waiting"} else {}
            asked = row["cancel_requested_at"] or datetime.now(UTC)
            replaced = await change(connection, row, superseded_by=newest, cancel_requested_at=asked, **left)
            await audit.deployment(connection, SYSTEM, "supersede", row, replaced, supersededBy=str(newest))


async def active(connection: Connection, environment_id: UUID, *, lock: bool = False) -> list[Row]:
    """Those of an environment that have not ended, by sequence."""
    cursor = await execute(
        connection,
        "select * from deployments where environment_id = %(id)s and status = any(%(active)s) order by sequence"
        + (" for update" if lock else ""),
        {"id": environment_id, "active": sorted(ACTIVE)},
    )
    return await cursor.fetchall()
