"""Publications of an environment, numbered in the order in which they may go out.

Rules: a number is given under the environment's row lock, so that of two deployments one comes first. An older
deployment does not go out over a newer one that has been published: it stays at its own address. It waits while one is
under way. Who was forced does neither. A cancel that was acknowledged before the first number keeps it from going out,
whenever the workflow hears of it. Numbers follow the clock: a database that is restored from a backup goes on
above those of then.
"""

from datetime import UTC, datetime

from domain.audit import SYSTEM
from domain.errors import DeploymentError, ErrorCode
from domain.fence import Overtaken
from domain.states import ACTIVE, TERMINAL, Status
from store import audit
from store.database import Connection, Row, execute
from store.rows import change

_LOOK_AGAIN_SECONDS = 2


async def begin(connection: Connection, row: Row) -> int | None:
    """The number; None for one that is to stay at its own address. Its rows are locked by the caller.

    Raises:
        DeploymentError: unavailable, while a newer deployment of the environment is being published.
        Overtaken: when the deployment has ended, is to be canceled, or is to make way for a newer one.
    """
    if row["status"] in TERMINAL:
        raise Overtaken(f"deployment {row['id']} has ended as {row['status']}")
    if row["superseded_by"] is not None and row["cancel_requested_at"] is not None:
        raise Overtaken(f"deployment {row['id']} makes way for {row['superseded_by']}")
    if row["publication"] is None and row["cancel_requested_at"] is not None:
        raise Overtaken(f"deployment {row['id']} is to be canceled")
    newer = [] if row["forced"] else await _newer(connection, row)
    published = next((one for one in newer if one["deployment_url"] or one["status"] == Status.SUCCEEDED), None)
    if published is not None or row["superseded_by"] is not None:
        if published is not None and row["superseded_by"] is None:
            aside = await change(connection, row, superseded_by=published["id"], publication=None)
            await audit.deployment(connection, SYSTEM, "supersede", row, aside, supersededBy=str(published["id"]))
        return None
    if newer:
        message = f"deployment {newer[0]['id']}, which is newer, is being published"
        raise DeploymentError(ErrorCode.UNAVAILABLE, message, retry_after_seconds=_LOOK_AGAIN_SECONDS)
    number = await _next(connection, row)
    await change(connection, row, publication=number)
    return number


async def check(connection: Connection, row: Row, number: int) -> None:
    """Raises Overtaken unless the deployment still runs and nobody in its environment was given a number since."""
    cursor = await execute(
        connection,
        "select last_publication from environments where id = %(id)s",
        {"id": row["environment_id"]},
    )
    environment = await cursor.fetchone()
    if row["status"] in TERMINAL or environment is None or environment["last_publication"] != number:
        raise Overtaken(f"publication {number} of deployment {row['id']} was overtaken")


async def _newer(connection: Connection, row: Row) -> list[Row]:
    """Later ones of its environment that have been live, well or not, or are being published; the newest first."""
    cursor = await execute(
        connection,
        "select id, status, deployment_url from deployments where environment_id = %(environment)s"
        " and sequence > %(sequence)s and publication is not null"
        " and (status = any(%(standing)s) or deployment_url is not null) order by sequence desc",
        {
            "environment": row["environment_id"],
            "sequence": row["sequence"],
            "standing": [*sorted(ACTIVE), str(Status.SUCCEEDED)],
        },
    )
    return await cursor.fetchall()


async def _next(connection: Connection, row: Row) -> int:
    cursor = await execute(
        connection,
        "update environments set last_publication = greatest(last_publication + 1, %(now)s) where id = %(id)s"
        " returning last_publication",
        {"id": row["environment_id"], "now": int(datetime.now(UTC).timestamp() * 1000)},
    )
    given = await cursor.fetchone()
    if given is None:
        raise LookupError(f"environment {row['environment_id']} is gone")
    number: int = given["last_publication"]
    return number
