"""Lanes: one project and one environment. Who may run is decided under the environment's row lock, in the database."""

from uuid import UUID

from domain.errors import DeploymentError, ErrorCode
from domain.states import ACTIVE
from store.database import Connection, execute


async def enter(connection: Connection, environment_id: UUID, policy: str, *, force: bool) -> str:
    """What the new deployment's `lane` is. The caller holds the lock of the environment's row.

    `held`: it has the lane; `none`: it runs beside, by force or because the environment is `parallel`.

    Raises:
        DeploymentError: already-running.
    """
    if policy == "parallel":
        return "none"
    cursor = await execute(
        connection,
        "select id, lane from deployments where environment_id = %(id)s and status = any(%(active)s) order by sequence",
        {"id": environment_id, "active": sorted(ACTIVE)},
    )
    running = await cursor.fetchall()
    if running and not force:
        raise DeploymentError(
            ErrorCode.ALREADY_RUNNING,
            f"deployment {running[0]['id']} is running in this environment; wait, cancel it, or send force: true",
            details={"runningDeploymentId": str(running[0]["id"])},
        )
    return "none" if any(row["lane"] == "held" for row in running) else "held"
