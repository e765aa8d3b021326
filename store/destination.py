"""Where a deployment goes: its environment, locked, so that triggers of one lane follow each other."""

from domain.deployment import TriggerDeploymentRequest
from domain.errors import DeploymentError, ErrorCode
from domain.source import is_commit
from store import previews
from store.database import Connection, Row, execute
from store.projects import environment_row
from store.seal import Sealer

_LOOKS = 5
"""While the default changes, none is it for whoever waited for the one that was: the next look sees the new one."""


async def chosen(
    connection: Connection, project: Row, request: TriggerDeploymentRequest, actor: str, ring: Sealer
) -> Row:
    """The one that a trigger means: a branch's preview, by id, by name, or the default one.

    Raises:
        DeploymentError: environment-not-found; and what `previews.environment_of` raises.
    """
    if request.preview:
        _check_preview(request)
        return await previews.environment_of(connection, project, request.source_ref, actor, ring)
    if request.environment_id is not None:
        row = await environment_row(connection, request.environment_id, lock=True)
        if row["project_id"] == project["id"]:
            return row
        raise DeploymentError(ErrorCode.ENVIRONMENT_NOT_FOUND, f"there is no environment {request.environment_id[:64]}")
    name = request.configuration.environment if request.configuration else None
    for _ in range(_LOOKS):
        found = await _find(connection, project["id"], name)
        if found is not None:
            return found
    raise DeploymentError(ErrorCode.ENVIRONMENT_NOT_FOUND, f"there is no environment {name or 'that is the default'}")


async def kept(connection: Connection, deployment: Row) -> Row:
    """Where a deployment went. Raises DeploymentError (conflict) when that was deleted since."""
    try:
        return await environment_row(connection, str(deployment["environment_id"]), lock=True)
    except DeploymentError:
        raise DeploymentError(
            ErrorCode.CONFLICT,
            f"its environment {deployment['environment_name']} was deleted, and its secrets with it;"
            " trigger a new deployment",
        ) from None


async def _find(connection: Connection, project_id: str, name: str | None) -> Row | None:
    condition = "name = %(name)s" if name else "is_default"
    cursor = await execute(
        connection,
        f"select * from environments where project_id = %(project_id)s and deleted_at is null and {condition}"
        " for no key update",
        {"project_id": project_id, "name": name},
    )
    return await cursor.fetchone()


def _check_preview(request: TriggerDeploymentRequest) -> None:
    """A preview is of a branch, and an environment of its own."""
    if request.environment_id or (request.configuration and request.configuration.environment):
        where = "/environmentId" if request.environment_id else "/configuration/environment"
        wrong = f"{where}: `preview` has an environment of its own; accepted: one of the two"
        raise DeploymentError(ErrorCode.INVALID_REQUEST, wrong, fields=[(where, "contradicts `preview`")])
    if is_commit(request.source_ref) and len(request.source_ref) >= 40:
        raise DeploymentError(
            ErrorCode.INVALID_SOURCE_REF,
            "a preview is of a branch, not of a commit",
            fields=[("/sourceRef", "is a commit; accepted with `preview`: a branch")],
        )
