"""A deployment's row read as the deployment that callers see, and each change of its status written as an event."""

from datetime import datetime
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from domain.build import Build
from domain.configuration import HIDDEN, DeploymentConfiguration
from domain.deployment import Deployment, DeploymentLinks, workflow_id
from domain.errors import DeploymentError, ErrorCode
from store.database import Connection, Row, execute, notify
from store.projects import as_uuid

NOT_WAITING = {"waiting_on": None, "waiting_reason": None, "waiting_since": None}

POSITION = """case when lane = 'waiting' then 1 + (select count(*) from deployments as ahead
    where ahead.environment_id = deployments.environment_id and ahead.lane = 'waiting'
    and ahead.sequence < deployments.sequence) end as queue_position"""
"""A column of `deployments`: the place in the line, from 1."""


def deployment_of(row: Row, temporal_page: str | None) -> Deployment:
    """`temporal_page` is the address of a workflow in the Temporal UI, with `{workflow_id}` in it."""
    identity = str(row["id"])
    return Deployment.model_validate(
        {
            **row,
            "id": identity,
            "environment_id": str(row["environment_id"]),
            "rollback_of": row["rollback_of"] and str(row["rollback_of"]),
            "restores": row["restores"] and str(row["restores"]),
            "superseded_by": row["superseded_by"] and str(row["superseded_by"]),
            "duration": _duration(row["started_at"] or row["created_at"], row["finished_at"]),
            "links": links_of(identity, temporal_page),
        }
    )


def build_of(row: Row) -> Build | None:
    """The provider's build, as far as it is known."""
    if row["build_id"] is None:
        return None
    return Build(
        deployment_id=str(row["id"]),
        project_id=row["project_id"],
        environment=row["environment_name"],
        build_id=row["build_id"],
        task_queue=row["task_queue"],
    )


def links_of(deployment_id: str, temporal_page: str | None) -> DeploymentLinks:
    own = f"/v1/deployments/{deployment_id}"
    page = temporal_page and temporal_page.format(workflow_id=workflow_id(deployment_id))
    return DeploymentLinks(self=own, logs=f"{own}/logs", result=f"{own}/result", events=f"{own}/events", temporal=page)


def _duration(started: datetime, finished: datetime | None) -> float | None:
    return None if finished is None else max(0.0, round((finished - started).total_seconds(), 3))


async def deployment_row(connection: Connection, deployment_id: str, *, lock: bool = False) -> Row:
    """Raises DeploymentError (not-found)."""
    statement = f"select *, {POSITION} from deployments where id = %(id)s" + (" for update" if lock else "")
    identity = as_uuid(deployment_id)
    row = identity and await (await execute(connection, statement, {"id": identity})).fetchone()
    if not row:
        raise DeploymentError(ErrorCode.NOT_FOUND, f"there is no deployment {deployment_id[:64]}")
    return row


async def change(connection: Connection, row: Row, **columns: Any) -> Row:
    """Writes `columns` to a locked row; a change of status is also an event."""
    places = "".join(f"{name} = %({name})s, " for name in columns)
    cursor = await execute(
        connection,
        f"update deployments set {places} updated_at = now(), version = version + 1 where id = %(id)s"
        f" returning *, {POSITION}",
        {**{name: _plain(value) for name, value in columns.items()}, "id": row["id"]},
    )
    changed = await cursor.fetchone()
    if changed is None:
        raise LookupError(f"deployment {row['id']} is gone")
    if changed["status"] != row["status"]:
        await write_event(connection, changed)
    return changed


async def write_event(connection: Connection, row: Row) -> None:
    """The event of a row's present status. Takes the project's row, so it comes late in a transaction."""
    document = deployment_of(row, None).model_dump_json(by_alias=True)
    await execute(
        connection,
        "with numbered as (update projects set event_sequence = event_sequence + 1 where id = %(project_id)s"
        " returning event_sequence)"
        " insert into events (project_id, sequence, deployment_id, version, status, document)"
        " select %(project_id)s, event_sequence, %(id)s, %(version)s, %(status)s, %(document)s from numbered",
        {
            **{name: row[name] for name in ("project_id", "id", "version", "status")},
            "document": Jsonb(orjson.loads(document)),
        },
    )
    await notify(connection, str(row["id"]), row["project_id"])


def hidden(names: list[str]) -> dict[str, str]:
    return dict.fromkeys(sorted(names), HIDDEN)


def configuration_of(environment: str, layer: dict[str, Any], secret_names: list[str]) -> DeploymentConfiguration:
    """The snapshot from merged layers. `environment` is the name of where it goes, whatever a layer says."""
    return DeploymentConfiguration.model_validate(
        {**layer, "environment": environment, "secrets": hidden(secret_names)}
    )


def _plain(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, (dict, list)) else value
