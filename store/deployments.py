"""Deployments as callers trigger, read and cancel them. A trigger is one transaction: all of it or nothing."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from psycopg.types.json import Jsonb
from sqlalchemy import ColumnElement, Select, func, literal, literal_column, select

from domain.configuration import ConfigurationChange, digest, merge
from domain.deployment import (
    Concurrency,
    Deployment,
    DeploymentMetadata,
    ListDeploymentsOptions,
    Repository,
    RetryRequest,
    RollbackPreview,
    RollbackRequest,
    Trigger,
    TriggerDeploymentRequest,
)
from domain.errors import DeploymentError, ErrorCode
from domain.ids import uuid7
from domain.ordinary import unmasked_warnings
from domain.page import Page, PageRequest
from domain.result import DeploymentResult
from domain.secret import SecretUse, document, uses
from domain.source import check_source_ref, is_commit
from domain.states import ACTIVE, TERMINAL, Status
from store import audit, data_keys, destination, gate, lanes, previews, rollbacks
from store.database import Connection, Database, Row, execute
from store.idempotency import IdempotentRequest, Outcome, once
from store.limits import TriggerLimiter
from store.paging import fetch_page
from store.projects import (
    as_uuid,
    opened_secrets,
    project_row,
    sealed_secrets,
    secret_counts,
    wake_gated,
)
from store.rows import POSITION, change, configuration_of, deployment_of, deployment_row, write_event
from store.seal import Sealer, Seals
from store.tables import DeploymentRow

_SORT_COLUMNS = {"createdAt": "created_at", "startedAt": "started_at", "finishedAt": "finished_at"}
AT_ONCE = 4
"""Triggers of one project that hold a connection at the same time. They follow each other by its rows anyway, and the
other projects need connections, too."""
RETRYABLE_STATUSES = frozenset({Status.FAILED, Status.CANCELED, Status.TIMEOUT})


class DeploymentStore:
    def __init__(
        self, database: Database, sealer: Sealer, limiter: TriggerLimiter, temporal_page: str | None = None
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._limiter = limiter
        self._temporal_page = temporal_page
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def trigger(
        self, request: TriggerDeploymentRequest, actor: str, idempotent: IdempotentRequest | None = None
    ) -> Outcome[Deployment]:
        """Accepts a deployment: idempotency, limit, ref, environment, lane, row, event and audit in one transaction.

        Raises:
            DeploymentError: project-not-found, rate-limited, invalid-source-ref, environment-not-found,
                already-running, idempotency-mismatch, conflict, unavailable.
        """

        turn = self._turns.setdefault(request.project_id, asyncio.Semaphore(AT_ONCE))
        async with turn, self._database.transaction() as connection:
            return await once(
                connection, idempotent, Deployment, self._sealer, lambda: self.accept(connection, request, actor)
            )

    async def accept(
        self,
        connection: Connection,
        request: TriggerDeploymentRequest,
        actor: str,
        *,
        trigger: Trigger = "api",
        commit: str | None = None,
    ) -> Deployment:
        """`trigger` inside a transaction. `commit` pins what the ref stands for."""
        project = await project_row(connection, request.project_id)
        await self._limiter.take(connection, request.project_id)
        check_source_ref(request.source_ref)
        environment = await destination.chosen(connection, project, request, actor, self._sealer)
        base = await previews.base_of(connection, project, environment)
        change = request.configuration or ConfigurationChange()
        below = base["configuration"] if base else {}
        layer = merge(project["configuration"], below, environment["configuration"], change.layer())
        sealer = await data_keys.sealing(connection, self._sealer, project["id"])
        shared = opened_secrets(project, sealer, f"project {project['id']}")
        of_base = opened_secrets(base, sealer, f"environment {base['id']}") if base else {}
        own = opened_secrets(environment, sealer, f"environment {environment['id']}")
        secrets = merge(shared, of_base, own, change.secret_layer())
        used = {
            **uses("project", secret_counts(project, shared)),
            **(uses("base", secret_counts(base, of_base)) if base else {}),
            **uses("environment", secret_counts(environment, own)),
            **_of_request(change),
        }
        columns = self._columns(
            project, environment, request.source_ref, layer, secrets, sealer=sealer, trigger=trigger
        )
        columns |= {"triggered_by": actor, "message": request.message, "secret_versions": _versions(secrets, used)}
        if commit is not None:
            columns["commit_sha"] = commit
        return await self._insert(connection, columns, project, environment, request, sealer=sealer)

    async def retry(
        self, deployment_id: str, request: RetryRequest, actor: str, idempotent: IdempotentRequest | None = None
    ) -> Outcome[Deployment]:
        """A new deployment with the snapshot of an ended one that did not succeed.

        Raises:
            DeploymentError: as `trigger`, and not-found, conflict (it runs or has succeeded).
        """

        async def make() -> Deployment:
            parent = await deployment_row(connection, deployment_id)
            if parent["status"] not in RETRYABLE_STATUSES:
                raise _conflict(parent, "be retried", RETRYABLE_STATUSES)
            project = await project_row(connection, parent["project_id"])
            await self._limiter.take(connection, parent["project_id"])
            environment = await destination.kept(connection, parent)
            sealer = await data_keys.sealing(connection, self._sealer, project["id"])
            columns = self._repeat(parent, request, sealer)
            if request.from_stage == "deploy":
                columns["restores"] = _built(parent, request)
            columns |= {"triggered_by": actor, "message": request.message or parent["message"]}
            told = {"deed": "retry", "retryOf": str(parent["id"])}
            return await self._insert(connection, columns, project, environment, request, sealer=sealer, **told)

        async with self._database.transaction() as connection:
            return await once(connection, idempotent, Deployment, self._sealer, make)

    async def rollback(
        self, deployment_id: str, request: RollbackRequest, actor: str, idempotent: IdempotentRequest | None = None
    ) -> Outcome[Deployment]:
        """A new deployment with all that an earlier one ran with, made live again where the provider can.

        No rule of the environment and no limit keeps it, and it takes the lane: what stands in line is replaced, what
        runs is ended.

        Raises:
            DeploymentError: not-found, conflict (nothing to go back to), idempotency-mismatch.
        """

        async def make() -> Deployment:
            row = await deployment_row(connection, deployment_id)
            project = await project_row(connection, row["project_id"])
            environment = await destination.kept(connection, row)
            target = await rollbacks.find_target(connection, row, request.target_deployment_id)
            return await self.bring_back(connection, (project, environment, row), target, actor, request.message)

        async with self._database.transaction() as connection:
            return await once(connection, idempotent, Deployment, self._sealer, make)

    async def bring_back(
        self, connection: Connection, of: tuple[Row, Row, Row], target: Row, actor: str, message: str | None
    ) -> Deployment:
        """`rollback` inside a transaction. `of` are the project, its locked environment, and what is rolled back."""
        project, environment, row = of
        sealer = await data_keys.sealing(connection, self._sealer, project["id"])
        columns = self._restoring(target, sealer)
        columns |= {"rollback_of": row["id"], "triggered_by": actor, "message": message}
        asked = RetryRequest(concurrency="supersede", cancel_running=True)
        told = {"deed": "rollback", "rollbackOf": str(row["id"]), "to": str(target["id"])}
        if row["rollback_of"] is not None:  # which lifts the hold
            await wake_gated(connection, environment["id"])
        made = await self._insert(connection, columns, project, environment, asked, sealer=sealer, **told)
        await rollbacks.hold(connection, environment, row, await deployment_row(connection, made.id))
        return made

    async def preview_rollback(self, deployment_id: str, request: RollbackRequest) -> RollbackPreview:
        """What `rollback` would change. Raises DeploymentError: not-found, conflict."""
        async with self._database.transaction() as connection:
            row = await deployment_row(connection, deployment_id)
            await destination.kept(connection, row)
            target = await rollbacks.find_target(connection, row, request.target_deployment_id)
            sealer = await data_keys.opening(connection, self._sealer, row["project_id"])
            return RollbackPreview(
                target=self._read(target),
                changes=rollbacks.changes(row, target, sealer),
                held_ref=None if row["rollback_of"] else row["source_ref"],
            )

    async def get(self, deployment_id: str) -> Deployment:
        """Raises DeploymentError (not-found)."""
        async with self._database.transaction() as connection:
            row = await deployment_row(connection, deployment_id)
            seconds = await _queue_seconds(connection, row)
            return self._read(row).model_copy(update={"queue_seconds": seconds})

    async def list_of_project(
        self, project_id: str, options: ListDeploymentsOptions, page: PageRequest
    ) -> Page[Deployment]:
        """Raises DeploymentError (project-not-found)."""
        columns = DeploymentRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
        descending = options.sort_order == "desc"
        # What has not happened yet comes last either way, and has to be comparable.
        never = literal("-infinity" if descending else "infinity").cast(columns.created_at.type)
        key: ColumnElement[Any] = func.coalesce(
            columns[_SORT_COLUMNS[options.sort_by]], never, type_=columns.created_at.type
        )
        chosen = _chosen(project_id, options)
        async with self._database.transaction() as connection:
            await project_row(connection, project_id)
            return await fetch_page(connection, chosen, (key, columns.id), page, self._read, descending=descending)

    async def request_cancel(self, deployment_id: str, actor: str) -> Deployment:
        """Writes down that it is to be canceled; asking twice changes nothing.

        Raises:
            DeploymentError: not-found, conflict (it has ended).
        """
        async with self._database.transaction() as connection:
            row = await deployment_row(connection, deployment_id, lock=True)
            if row["status"] in TERMINAL:
                raise _conflict(row, "be canceled", ACTIVE)
            if row["cancel_requested_at"] is None:
                before, row = row, await change(connection, row, cancel_requested_at=datetime.now(UTC))
                await audit.deployment(connection, actor, "cancel", before, row)
            return self._read(row)

    async def result(self, deployment_id: str) -> DeploymentResult | None:
        """None until the deployment has ended. Raises DeploymentError (not-found)."""
        async with self._database.transaction() as connection:
            row = await deployment_row(connection, deployment_id)
            cursor = await execute(
                connection, "select document from results where deployment_id = %(id)s", {"id": row["id"]}
            )
            found = await cursor.fetchone()
            return DeploymentResult.model_validate(found["document"]) if found else None

    async def count_by_status(self) -> dict[str, int]:
        """How many deployments have not ended, by status."""
        statement = "select status, count(*) as number from deployments where status = any(%(active)s) group by status"
        rows = await self._database.fetch_all(statement, {"active": sorted(ACTIVE)})
        return {row["status"]: row["number"] for row in rows}

    def _read(self, row: Row) -> Deployment:
        return deployment_of(row, self._temporal_page)

    def _columns(
        self,
        project: Row,
        environment: Row,
        source_ref: str,
        layer: dict[str, Any],
        secrets: dict[str, str],
        *,
        sealer: Seals,
        trigger: Trigger = "api",
    ) -> dict[str, Any]:
        identity = uuid7()
        url = project["repository_url"]
        repository = Repository(url=url, branch=source_ref) if url else None
        metadata = DeploymentMetadata(repository=repository, trigger=trigger)
        configuration = configuration_of(environment["name"], layer, list(secrets))
        return {
            "id": identity,
            "source_ref": source_ref,
            "commit_sha": source_ref if is_commit(source_ref) and len(source_ref) >= 40 else None,
            "provider": project["provider"],
            "provider_settings": Jsonb(project["provider_settings"]),
            "repository_url": url,
            "metadata": Jsonb(metadata.model_dump(mode="json", by_alias=True)),
            "configuration": Jsonb(configuration.model_dump(mode="json", by_alias=True)),
            "configuration_digest": digest(configuration),
            "secrets": sealed_secrets(secrets, sealer, f"deployment {identity}"),
        }

    def _restoring(self, target: Row, sealer: Seals) -> dict[str, Any]:
        """The columns of a deployment that makes `target` live again: its snapshot, its commit, its secrets of then."""
        before = deployment_of(target, None)
        layer = before.configuration.model_dump(exclude={"secrets", "environment"})
        secrets = opened_secrets(target, sealer, f"deployment {target['id']}")
        columns = self._columns(
            target, {"name": target["environment_name"]}, before.source_ref, layer, secrets, sealer=sealer
        )
        known = DeploymentMetadata(repository=before.metadata.repository)
        return columns | {
            "metadata": Jsonb(known.model_dump(mode="json", by_alias=True)),
            "commit_sha": before.commit_sha,
            "restores": target["restores"] or target["id"],
            "secret_versions": Jsonb(target["secret_versions"]),
        }

    def _repeat(self, parent: Row, request: RetryRequest, sealer: Seals) -> dict[str, Any]:
        """The columns of a deployment that runs with its parent's snapshot, but for what `request` overrides."""
        before = deployment_of(parent, None)
        change = request.configuration or ConfigurationChange()
        layer = merge(before.configuration.model_dump(exclude={"secrets", "environment"}), change.layer())
        secrets = merge(opened_secrets(parent, sealer, f"deployment {parent['id']}"), change.secret_layer())
        ref = check_source_ref(request.source_ref or before.source_ref)
        columns = self._columns(parent, {"name": parent["environment_name"]}, ref, layer, secrets, sealer=sealer)
        metadata = before.metadata.model_copy(
            update={
                "retry_count": before.metadata.retry_count + 1,
                "parent_deployment_id": before.id,
                "repository": before.metadata.repository if request.source_ref is None else None,
            }
        )
        columns["metadata"] = Jsonb(metadata.model_dump(mode="json", by_alias=True))
        columns["secret_versions"] = _versions(secrets, {**before.secret_versions, **_of_request(change)})
        if request.source_ref is None:
            columns["commit_sha"] = before.commit_sha
        return columns

    async def _insert(
        self,
        connection: Connection,
        columns: dict[str, Any],
        project: Row,
        environment: Row,
        request: TriggerDeploymentRequest | RetryRequest,
        *,
        sealer: Seals,
        deed: str = "trigger",
        **told: str,
    ) -> Deployment:
        """`deed` and `told` are what the audit says of it."""
        policy = request.concurrency or environment["concurrency"] or project["concurrency"]
        asked = (request.cancel_running, environment["cancel_running"], project["cancel_running"])
        columns |= {
            "project_id": project["id"],
            "environment_id": environment["id"],
            "environment_name": environment["name"],
            "sequence": await _next_sequence(connection, environment["id"], previews.ttl_seconds(project)),
            "lane_policy": "parallel" if request.force else policy,
            "break_glass": request.break_glass,
            "forced": request.force,
        }
        if request.break_glass is None and columns.get("rollback_of") is None:
            gate.check_ref(environment, columns["source_ref"])
        columns |= await self._place(
            connection,
            columns,
            environment,
            policy,
            force=request.force,
            cancel_running=next(said for said in asked if said is not None),
        )
        names, places = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
        cursor = await execute(
            connection, f"insert into deployments ({names}) values ({places}) returning *, {POSITION}", columns
        )
        row = await cursor.fetchone()
        if row is None:
            raise LookupError("insert into deployments returned nothing")
        told |= {"ref": row["source_ref"], "environment": row["environment_name"], "by": row["metadata"]["trigger"]}
        await audit.deployment(connection, row["triggered_by"], deed, None, row, reason=row["message"], **told)
        if row["break_glass"]:
            await audit.deployment(connection, row["triggered_by"], "break-glass", None, row, reason=row["break_glass"])
        await write_event(connection, row)
        secrets = opened_secrets(row, sealer, f"deployment {row['id']}")
        return self._read(row).model_copy(update={"warnings": unmasked_warnings(secrets)})

    async def _place(
        self,
        connection: Connection,
        columns: dict[str, Any],
        environment: Row,
        policy: Concurrency,
        *,
        force: bool,
        cancel_running: bool,
    ) -> dict[str, Any]:
        """Where the new deployment stands: kept by a rule, in line, or free to go."""
        wait = await gate.keeps(connection, environment, {"rollback_of": None, **columns})
        if wait is not None:
            return {"lane": "gated", **gate.waiting_columns(wait)}
        lane = await lanes.enter(connection, environment["id"], policy, force=force)
        if policy == "supersede" and lane == "waiting":
            await lanes.supersede(connection, environment["id"], columns["id"], cancel_running=cancel_running)
        return lanes.in_line() if lane == "waiting" else {"lane": lane}


async def _queue_seconds(connection: Connection, row: Row) -> float | None:
    """The place in the line × the median duration of the environment's last ten that succeeded."""
    if row["queue_position"] is None:
        return None
    cursor = await execute(
        connection,
        "select percentile_cont(0.5) within group (order by extract(epoch from finished_at - started_at)) as seconds"
        " from (select finished_at, started_at from deployments where environment_id = %(id)s and status = 'succeeded'"
        " order by sequence desc limit 10) as latest",
        {"id": row["environment_id"]},
    )
    median = await cursor.fetchone()
    return round(row["queue_position"] * median["seconds"], 1) if median and median["seconds"] is not None else None


async def _next_sequence(connection: Connection, environment_id: UUID, ttl_seconds: int) -> int:
    """Each deployment to a preview makes it stay longer."""
    cursor = await execute(
        connection,
        "update environments set last_sequence = last_sequence + 1,"
        " expires_at = case when branch is not null then now() + make_interval(secs => %(ttl)s) end"
        " where id = %(id)s returning last_sequence",
        {"id": environment_id, "ttl": ttl_seconds},
    )
    row = await cursor.fetchone()
    return int(row["last_sequence"]) if row else 0


def _chosen(project_id: str, options: ListDeploymentsOptions) -> Select[Any]:
    columns = DeploymentRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
    table = DeploymentRow.__table__  # type: ignore[attr-defined]  # as above
    statement: Select[Any] = select(table).add_columns(literal_column(POSITION)).where(columns.project_id == project_id)
    if options.environment_id is not None:
        # A malformed id is one that no environment has.
        statement = statement.where(columns.environment_id == (as_uuid(options.environment_id) or UUID(int=0)))
    if options.status:
        statement = statement.where(columns.status.in_([str(status) for status in options.status]))
    if options.triggered_by is not None:
        statement = statement.where(columns.triggered_by == options.triggered_by)
    if options.source_ref is not None:
        statement = statement.where(columns.source_ref == options.source_ref)
    return statement


def _of_request(change: ConfigurationChange) -> dict[str, SecretUse]:
    return {name: SecretUse(scope="request") for name in change.secret_layer()}


def _versions(secrets: dict[str, str], used: dict[str, SecretUse]) -> Jsonb:
    """The column: of the secrets that it runs with."""
    return Jsonb(document({name: use for name, use in sorted(used.items()) if name in secrets}))


def _built(parent: Row, request: RetryRequest) -> UUID:
    """The deployment whose build is there to be published. Raises DeploymentError (conflict)."""
    if request.source_ref is not None or request.configuration is not None or parent["artifact_id"] is None:
        raise DeploymentError(
            ErrorCode.CONFLICT,
            "there is no build to publish: fromStage 'deploy' needs one that was built, unchanged; accepted: build",
        )
    built: UUID = parent["restores"] or parent["id"]
    return built


def _conflict(row: Row, what: str, accepted: frozenset[Status]) -> DeploymentError:
    words = ", ".join(status for status in Status if status in accepted)
    return DeploymentError(ErrorCode.CONFLICT, f"a deployment that is {row['status']} cannot {what}; accepted: {words}")
