"""Projects and their environments: defaults of what a deployment runs with. Secrets are sealed beside them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import orjson
from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb
from sqlalchemy import select

from domain.configuration import HIDDEN, ConfigurationChange, merge
from domain.errors import DeploymentError, ErrorCode
from domain.ids import uuid7
from domain.ordinary import unmasked_warnings
from domain.page import Page, PageRequest
from domain.previews import Previews
from domain.project import (
    CreateEnvironmentRequest,
    CreateProjectRequest,
    Environment,
    Project,
    PushRule,
    UpdateEnvironmentRequest,
    UpdateProjectRequest,
    without_credentials,
)
from domain.secret import CountedSecret, count, document, read_counts, versions
from domain.source import repository_key
from domain.token import EVERY_PROJECT
from store import audit, data_keys
from store.database import Connection, Database, Row, execute
from store.idempotency import IdempotentRequest, Outcome, once
from store.paging import fetch_page
from store.seal import BY_DATA_KEY, CannotOpen, Sealer, Seals
from store.tables import EnvironmentRow, ProjectRow

DEFAULT_ENVIRONMENT = "production"

Answer = TypeVar("Answer", Project, Environment)
_NOTHING_SET: Row = {"configuration": {}, "secrets": None, "secret_versions": {}}
NOT_HELD = {"held_ref": None, "held_commit": None, "held_by": None}
_UPDATED = ("name", "repository_url", "concurrency", "cancel_running", "provider_settings", "previews")


class ProjectStore:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def create_project(
        self, request: CreateProjectRequest, actor: str, idempotent: IdempotentRequest | None = None
    ) -> Outcome[Project]:
        """A project with its default environment `production`.

        Raises:
            DeploymentError: conflict, when the id is taken.
        """

        request = without_credentials(request)

        async def make() -> Project:
            sealer = await data_keys.sealing(connection, self._sealer, request.id)
            columns = _project_columns(request, sealer, actor)
            row = await insert(connection, columns, "projects", f"the project {request.id} exists")
            production = CreateEnvironmentRequest(name=DEFAULT_ENVIRONMENT, type="production", is_default=True)
            columns = _environment_columns(request.id, production, sealer, actor)
            environment = await insert(connection, columns, "environments", "")
            await audit.record(connection, actor, "project.create", request.id, request.id, after=row)
            await audit.environment(connection, actor, "create", None, environment, name=DEFAULT_ENVIRONMENT)
            return _warned(self._project(row), request.configuration)

        async with self._database.transaction() as connection:
            return await once(connection, idempotent, Project, self._sealer, make)

    async def get_project(self, project_id: str) -> Project:
        """Raises DeploymentError (project-not-found)."""
        async with self._database.transaction() as connection:
            return self._project(await project_row(connection, project_id))

    async def list_projects(self, visible: list[str], page: PageRequest) -> Page[Project]:
        """Those in `visible`, newest first; `*` is all."""
        chosen = select(ProjectRow.__table__)  # type: ignore[attr-defined]  # SQLModel does not declare it
        if EVERY_PROJECT not in visible:
            chosen = chosen.where(ProjectRow.__table__.c.id.in_(visible))  # type: ignore[attr-defined]  # as above
        columns = ProjectRow.__table__.c  # type: ignore[attr-defined]  # as above
        async with self._database.transaction() as connection:
            return await fetch_page(connection, chosen, (columns.created_at, columns.id), page, self._project)

    async def update_project(
        self, project_id: str, change: UpdateProjectRequest, actor: str, version: int | None = None
    ) -> Project:
        """`version` is what the caller has seen, where he says so.

        Raises:
            DeploymentError: project-not-found, precondition-failed.
        """
        change = without_credentials(change)
        async with self._database.transaction() as connection:
            sealer = await data_keys.sealing(connection, self._sealer, project_id)
            row = await project_row(connection, project_id, lock=True)
            check_version(row, version)
            columns = _said(change, *_UPDATED)
            if change.push_rules is not None:
                columns["push_rules"] = _push_rules(change.push_rules)
            columns |= _configuration_columns(row, change.configuration, sealer, f"project {project_id}", actor)
            key = _repository_key(columns.get("repository_url", row["repository_url"]))
            before, row = row, await update(connection, "projects", row["id"], {**columns, "repository_key": key})
            fields = sorted(columns)
            await audit.record(
                connection, actor, "project.update", project_id, project_id, before=before, after=row, fields=fields
            )
            return _warned(self._project(row), change.configuration)

    async def create_environment(
        self,
        project_id: str,
        request: CreateEnvironmentRequest,
        actor: str,
        idempotent: IdempotentRequest | None = None,
    ) -> Outcome[Environment]:
        """Raises DeploymentError: project-not-found, conflict (the name is taken)."""

        async def make() -> Environment:
            await project_row(connection, project_id)
            await _lock_environments(connection, project_id)
            taken = await _take_default_away(connection, project_id) if request.is_default else None
            sealer = await data_keys.sealing(connection, self._sealer, project_id)
            columns = _environment_columns(project_id, request, sealer, actor)
            row = await insert(connection, columns, "environments", f"the environment {request.name} exists")
            await _record_taken(connection, actor, taken)
            await audit.environment(connection, actor, "create", None, row, name=request.name)
            return _warned(self._environment(row), request.configuration)

        async with self._database.transaction() as connection:
            return await once(connection, idempotent, Environment, self._sealer, make)

    async def get_environment(self, environment_id: str) -> Environment:
        """Raises DeploymentError (environment-not-found)."""
        async with self._database.transaction() as connection:
            return self._environment(await environment_row(connection, environment_id))

    async def list_environments(self, project_id: str, page: PageRequest) -> Page[Environment]:
        """Raises DeploymentError (project-not-found)."""
        columns = EnvironmentRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
        chosen = select(EnvironmentRow.__table__).where(columns.project_id == project_id)  # type: ignore[attr-defined]  # as above
        chosen = chosen.where(columns.deleted_at.is_(None))
        async with self._database.transaction() as connection:
            await project_row(connection, project_id)
            return await fetch_page(
                connection, chosen, (columns.created_at, columns.id), page, self._environment, descending=False
            )

    async def update_environment(
        self, environment_id: str, change: UpdateEnvironmentRequest, actor: str, version: int | None = None
    ) -> Environment:
        """Raises DeploymentError: environment-not-found, precondition-failed."""
        async with self._database.transaction() as connection:
            await _lock_environments(connection, (await environment_row(connection, environment_id))["project_id"])
            row = await environment_row(connection, environment_id)
            check_version(row, version)
            columns = _said(change, "type", "concurrency", "cancel_running", "is_default", "held_ref")
            if change.protection is not None:
                columns["protection"] = Jsonb(change.protection.model_dump(mode="json", by_alias=True))
            if "held_ref" in columns:
                columns |= {**NOT_HELD, "held_ref": columns["held_ref"]}
            sealer = await data_keys.sealing(connection, self._sealer, row["project_id"])
            columns |= _configuration_columns(row, change.configuration, sealer, f"environment {row['id']}", actor)
            takes = change.is_default and not row["is_default"]
            taken = await _take_default_away(connection, row["project_id"]) if takes else None
            before, row = row, await update(connection, "environments", row["id"], columns)
            if {"protection", "held_ref"} & set(columns):
                await wake_gated(connection, row["id"])
            await _record_taken(connection, actor, taken)
            await audit.environment(connection, actor, "update", before, row, fields=sorted(columns))
            if before["held_ref"] is not None and row["held_ref"] is None:
                await audit.environment(connection, actor, "release", before, row, ref=before["held_ref"])
            return _warned(self._environment(row), change.configuration)

    def _project(self, row: Row) -> Project:
        return Project.model_validate({**row, **self._shown(row, f"project {row['id']}")})

    def _environment(self, row: Row) -> Environment:
        return Environment.model_validate({**row, "id": str(row["id"]), **self._shown(row, f"environment {row['id']}")})

    def _shown(self, row: Row, purpose: str) -> dict[str, Any]:
        """The configuration as it was sent, by its names on the wire, with the names of its secrets; their versions."""
        sealed = row["secrets"]
        by_ring = sealed is not None and not bytes(sealed).startswith(BY_DATA_KEY)
        # Whoever seals under a data key also counts: so nothing is opened for its names.
        names = _names_of(row, self._sealer, purpose) if by_ring else ()
        told = versions(secret_counts(row, names))
        change = ConfigurationChange.stored(row["configuration"])
        shown = change.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
        secrets = {"secrets": dict.fromkeys(told, HIDDEN)} if told else {}
        return {"configuration": {**shown, **secrets}, "secret_versions": told}


async def project_row(connection: Connection, project_id: str, *, lock: bool = False) -> Row:
    """Raises DeploymentError (project-not-found)."""
    statement = "select * from projects where id = %(id)s" + (" for update" if lock else "")
    row = await (await execute(connection, statement, {"id": project_id})).fetchone()
    if row is None:
        raise DeploymentError(ErrorCode.PROJECT_NOT_FOUND, f"there is no project {project_id[:64]}")
    return row


async def environment_row(connection: Connection, environment_id: str, *, lock: bool = False) -> Row:
    """Raises DeploymentError (environment-not-found), also for one that was deleted."""
    # Not "for update": that would make those wait who only make sure that the environment is there.
    locked = " for no key update" if lock else ""
    statement = f"select * from environments where id = %(id)s and deleted_at is null{locked}"
    identity = as_uuid(environment_id)
    row = identity and await (await execute(connection, statement, {"id": identity})).fetchone()
    if not row:
        raise DeploymentError(ErrorCode.ENVIRONMENT_NOT_FOUND, f"there is no environment {environment_id[:64]}")
    return row


def as_uuid(text: str) -> UUID | None:
    """None for what is no UUID, so that a malformed id is one that does not exist."""
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None


def opened_secrets(row: Row, sealer: Seals, purpose: str) -> dict[str, str]:
    if row["secrets"] is None:
        return {}
    opened: dict[str, str] = orjson.loads(sealer.open(bytes(row["secrets"]), purpose))
    return opened


def _names_of(row: Row, sealer: Seals, purpose: str) -> Iterable[str]:
    """None of them where they cannot be opened: the other projects of a list are to be seen all the same."""
    try:
        return opened_secrets(row, sealer, purpose)
    except CannotOpen:
        return ()


def secret_counts(row: Row, names: Iterable[str]) -> dict[str, CountedSecret]:
    """Of a project or an environment whose secrets have these names."""
    return read_counts(row["secret_versions"], names)


def sealed_secrets(secrets: dict[str, str], sealer: Seals, purpose: str) -> bytes | None:
    return sealer.seal(orjson.dumps(secrets), purpose) if secrets else None


def _project_columns(request: CreateProjectRequest, sealer: Seals, actor: str) -> dict[str, Any]:
    return {
        "id": request.id,
        "name": request.name or request.id,
        "provider": request.provider,
        "provider_settings": Jsonb(request.provider_settings),
        "repository_url": request.repository_url,
        "concurrency": request.concurrency,
        "cancel_running": request.cancel_running,
        "push_rules": _push_rules(request.push_rules),
        "previews": Jsonb(request.previews.model_dump()) if request.previews else None,
        "repository_key": _repository_key(request.repository_url),
        **_configuration_columns(_NOTHING_SET, request.configuration, sealer, f"project {request.id}", actor),
    }


def _environment_columns(
    project_id: str, request: CreateEnvironmentRequest, sealer: Seals, actor: str
) -> dict[str, Any]:
    identity = uuid7()
    return {
        "id": identity,
        "project_id": project_id,
        "name": request.name,
        "type": request.type,
        "is_default": request.is_default,
        "concurrency": request.concurrency,
        "cancel_running": request.cancel_running,
        "protection": Jsonb(request.protection.model_dump(mode="json", by_alias=True)),
        **_configuration_columns(_NOTHING_SET, request.configuration, sealer, f"environment {identity}", actor),
    }


def _configuration_columns(
    row: Row, change: ConfigurationChange | None, sealer: Seals, purpose: str, actor: str
) -> dict[str, Any]:
    """The configuration after `change`; secrets go their own, sealed way."""
    if change is None:
        return {}
    before = opened_secrets(row, sealer, purpose)
    after = merge(before, change.secret_layer())
    columns = {"configuration": Jsonb(merge(row["configuration"], change.layer()))}
    if after == before:
        return columns
    counts = count(secret_counts(row, before), before, after, actor, datetime.now(UTC))
    return columns | {
        "secrets": sealed_secrets(after, sealer, purpose),
        "secret_versions": Jsonb(document(counts)),
    }


def _push_rules(rules: list[PushRule]) -> Jsonb:
    return Jsonb([rule.model_dump() for rule in rules])


def _repository_key(url: str | None) -> str | None:
    """What pushes to the project's repository are found by."""
    return url and repository_key(url)


def _warned(answer: Answer, change: ConfigurationChange | None) -> Answer:
    """What the caller has just set and will not find masked. It is said once: neither stored nor an event."""
    return answer.model_copy(update={"warnings": unmasked_warnings(change.secret_layer() if change else {})})


def _said(change: UpdateProjectRequest | UpdateEnvironmentRequest, *names: str) -> dict[str, Any]:
    """The columns that the caller named; a map travels as JSON."""
    values = {name: getattr(change, name) for name in names if name in change.model_fields_set}
    of_environment = {"concurrency", "cancel_running", "held_ref"}
    nullable = of_environment if isinstance(change, UpdateEnvironmentRequest) else {"repository_url", "previews"}
    return {name: _as_json(value) for name, value in values.items() if value is not None or name in nullable}


def _as_json(value: object) -> object:
    if isinstance(value, Previews):
        return Jsonb(value.model_dump())
    return Jsonb(value) if isinstance(value, dict) else value


def check_version(row: Row, version: int | None) -> None:
    if version is not None and row["version"] != version:
        raise DeploymentError(
            ErrorCode.PRECONDITION_FAILED, f"it was changed meanwhile: version {row['version']} is there, not {version}"
        )


async def insert(connection: Connection, columns: dict[str, Any], table: str, taken: str) -> Row:
    names, places = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
    try:
        async with connection.transaction():
            cursor = await execute(connection, f"insert into {table} ({names}) values ({places}) returning *", columns)
            row = await cursor.fetchone()
    except UniqueViolation:
        raise DeploymentError(ErrorCode.CONFLICT, taken) from None
    if row is None:
        raise LookupError(f"insert into {table} returned nothing")
    return row


async def update(connection: Connection, table: str, identity: object, columns: dict[str, Any]) -> Row:
    places = "".join(f"{name} = %({name})s, " for name in columns)
    cursor = await execute(
        connection,
        f"update {table} set {places} updated_at = now(), version = version + 1 where id = %(identity)s returning *",
        {**columns, "identity": identity},
    )
    row = await cursor.fetchone()
    if row is None:
        raise LookupError(f"{table} {identity} is gone")
    return row


async def _lock_environments(connection: Connection, project_id: str) -> None:
    """All of a project's, in one order. A trigger locks its environment before the project's row: so nobody who holds
    the project's row may wait for an environment."""
    statement = (
        "select 1 from environments where project_id = %(project_id)s and deleted_at is null"
        " order by id for no key update"
    )
    await execute(connection, statement, {"project_id": project_id})


async def wake_gated(connection: Connection, environment_id: object) -> None:
    """Those that a rule keeps look again: it may have been changed."""
    await execute(
        connection,
        "update deployments set wake_asked_at = now(), wake_delivered_at = null"
        " where environment_id = %(id)s and lane = 'gated'",
        {"id": environment_id},
    )


async def _take_default_away(connection: Connection, project_id: str) -> tuple[Row, Row] | None:
    """From the one that was it, which is answered as it was and as it is now."""
    cursor = await execute(
        connection,
        "select * from environments where project_id = %(project_id)s and is_default",
        {"project_id": project_id},
    )
    before = await cursor.fetchone()
    if before is None:
        return None
    return before, await update(connection, "environments", before["id"], {"is_default": False})


async def _record_taken(connection: Connection, actor: str, taken: tuple[Row, Row] | None) -> None:
    if taken is not None:
        await audit.environment(connection, actor, "update", *taken, fields=["is_default"])
