"""What a running deployment writes down: each stage, once and in order, whoever brings the news and however often.

Rules: a row is changed under its lock; `moves` of the state table decides what news still counts, so that late or
repeated news changes nothing; a status, its event and what came with it commit together. An attempt of a step that was
taken over writes nothing (`domain.fence`).
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from psycopg.types.json import Jsonb

from domain.audit import SYSTEM
from domain.build import Build, BuildRequest
from domain.configuration import DeploymentConfiguration
from domain.deployment import Deployment, DeploymentMetadata, Repository
from domain.descent import Descent
from domain.ending import Ending
from domain.errors import DeploymentError, ErrorCode
from domain.fence import ATTEMPT, refuse_overtaken
from domain.result import DeploymentResult, DeploymentSummary, DeploymentWarning, Failure
from domain.states import TERMINAL, Status, moves
from store import audit, data_keys, lanes, publications, rollbacks
from store.database import Connection, Database, Row, execute
from store.deployments import DeploymentStore
from store.limits import TriggerLimiter
from store.projects import environment_row, opened_secrets, project_row
from store.rows import NOT_WAITING, build_of, change, deployment_of, deployment_row
from store.seal import Sealer
from store.webhook_intake import match_parked


class ProgressStore:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 0))  # a rollback has no limit

    async def build_request(self, deployment_id: str, build_timeout: timedelta) -> BuildRequest:
        """What the provider is asked for, secrets opened; the build's deadline counts from when it was first asked.

        Raises:
            DeploymentError: not-found.
        """
        async with self._database.transaction() as connection:
            row = await deployment_row(connection, deployment_id)
            sealer = await data_keys.opening(connection, self._sealer, row["project_id"])
            secrets = opened_secrets(row, sealer, f"deployment {row['id']}")
        configuration = DeploymentConfiguration.model_validate(row["configuration"])
        return BuildRequest(
            deployment_id=deployment_id,
            environment=row["environment_name"],
            configuration=configuration,
            secrets=secrets,
            deadline=(row["started_at"] or datetime.now(UTC)) + build_timeout,
            **{name: row[name] for name in _REQUEST_COLUMNS},
        )

    async def build_to_restore(self, deployment_id: str) -> Build | None:
        """The build that a deployment makes live again; None where its provider knows none of it."""
        async with self._database.transaction() as connection:
            row = await deployment_row(connection, deployment_id)
            restored = await deployment_row(connection, str(row["restores"]))
        return build_of(restored) if restored["provider"] == row["provider"] else None

    async def reach(
        self, deployment_id: str, status: Status, *, waiting: str | None = None, **columns: Any
    ) -> Deployment:
        """Brings the news that a stage is reached; with it what is known since. Late news changes nothing.

        `waiting` is why the provider lets it wait; without, it no longer waits for its provider.
        """
        async with self._database.transaction() as connection:
            row = await _own_row(connection, deployment_id)
            if row["status"] not in TERMINAL:
                row = await _move(connection, row, status)
                columns |= _waits_for_provider(row, waiting)
                row = await _note(connection, row, columns)
                if "build_id" in columns:
                    await match_parked(connection, row)
            return deployment_of(row, None)

    async def wait_for_provider(self, deployment_id: str, reason: str) -> None:
        """The provider cannot be worked with now; `reach` says that it goes on."""
        async with self._database.transaction() as connection:
            row = await _own_row(connection, deployment_id)
            if row["status"] not in TERMINAL:
                await _note(connection, row, _waits_for_provider(row, reason))

    async def note_build(self, build: Build) -> None:
        """Which build of the provider it is, and where it is reached."""
        await self.reach(build.deployment_id, Status.INITIALIZING, build_id=build.build_id, task_queue=build.task_queue)

    async def pin_commit(self, deployment_id: str, commit: str) -> None:
        """What the ref means now is what will be deployed: a later push changes nothing about it."""
        async with self._database.transaction() as connection:
            row = await _own_row(connection, deployment_id)
            if row["commit_sha"] is None and row["status"] not in TERMINAL:
                pinned = await change(connection, row, commit_sha=commit)
                await audit.deployment(connection, SYSTEM, "pin", row, pinned, commit=commit)

    async def held_commit(self, deployment_id: str) -> str | None:
        """The commit that does not come back by itself where the deployment is to go."""
        async with self._database.transaction() as connection:
            row = await deployment_row(connection, deployment_id)
            held: str | None = (await environment_row(connection, str(row["environment_id"])))["held_commit"]
            return held

    async def note_descent(self, deployment_id: str, descent: Descent) -> None:
        """Kept for the gate, which decides from the record alone."""
        async with self._database.transaction() as connection:
            row = await _own_row(connection, deployment_id)
            if row["status"] not in TERMINAL:
                known = await change(connection, row, descent=descent.model_dump(mode="json", by_alias=True))
                await audit.deployment(connection, SYSTEM, "trace", row, known, held=descent.held)

    async def note_repository(self, deployment_id: str, repository: Repository) -> None:
        """What was fetched: commit, author, message."""
        async with self._database.transaction() as connection:
            row = await _own_row(connection, deployment_id)
            metadata = DeploymentMetadata.model_validate(row["metadata"])
            if metadata.repository != repository and row["status"] not in TERMINAL:
                known = metadata.model_copy(update={"repository": repository}).model_dump(mode="json", by_alias=True)
                await change(connection, row, metadata=known, commit_sha=repository.commit or row["commit_sha"])

    async def begin_publication(self, deployment_id: str) -> int | None:
        """The number under which this attempt publishes, higher than any before in its environment.

        None when a newer deployment has been published: this one is not to take its place.

        Raises:
            DeploymentError: unavailable, while a newer deployment is being published.
            Overtaken: when this one has ended, is to be canceled, or is to make way.
        """
        async with self._database.transaction() as connection:
            await lanes.lock(connection, deployment_id)
            return await publications.begin(connection, await _own_row(connection, deployment_id))

    async def check_publication(self, deployment_id: str, number: int) -> None:
        """Raises Overtaken when this attempt is no longer the one that publishes."""
        async with self._database.transaction() as connection:
            await publications.check(connection, await _own_row(connection, deployment_id), number)

    async def finish(self, deployment_id: str, ending: Ending) -> Deployment:
        """The final status, the result and the freed lane: one transaction. One that has ended stays as it is.

        A rollback by itself that cannot be made hinders no ending: it is told there instead.
        """
        try:
            return await self._finish(deployment_id, ending)
        except DeploymentError as error:
            if error.code is ErrorCode.UNAVAILABLE:
                raise
            ended = await self._finish(deployment_id, ending, hindered=error.message)
            _log.error("nothing is rolled back", deployment=deployment_id, reason=error.message)
            return ended

    async def _finish(self, deployment_id: str, ending: Ending, hindered: str | None = None) -> Deployment:
        """`hindered` is why no rollback can be made."""
        async with self._database.transaction() as connection:
            await lanes.lock(connection, deployment_id)
            row = await _own_row(connection, deployment_id)
            if row["status"] in TERMINAL:
                return deployment_of(row, None)
            before, ending = row, _stood_aside(row, _as_it_was(row, _as_was_asked(row, ending)))
            after = await rollbacks.aftermath(connection, row, ending, hindered)
            ending = _telling(ending, after)
            if after is not None and after.target is not None:
                row, _ = await lanes.step_out(connection, row)
            else:
                published = ending.status is Status.SUCCEEDED and not row["configuration"].get("skipDeploy")
                row = await lanes.leave(connection, row, deployed=published)
            *between, final = moves(Status(row["status"]), ending.status)
            for status in between:
                row = await _enter(connection, row, status)
            row = await _enter(
                connection,
                row,
                final,
                finished_at=datetime.now(UTC),
                **NOT_WAITING,
                error=ending.failure and ending.failure.model_dump(mode="json", by_alias=True),
                artifact_id=ending.report.artifact_id,
            )
            deployment = deployment_of(row, None)
            await _write_result(connection, deployment, ending)
            await audit.deployment(connection, SYSTEM, "finish", before, row, status=row["status"])
            if after is not None and after.target is not None:
                await self._bring_back(connection, row, after.target)
            return deployment

    async def _bring_back(self, connection: Connection, row: Row, target: Row) -> None:
        """What was live before, by itself. All that have not ended are locked; the lane is nobody's."""
        project = await project_row(connection, row["project_id"])
        environment = await environment_row(connection, str(row["environment_id"]))
        why = f"{row['id']} went live and {row['status']}: {row['error']['message'] if row['error'] else ''}"
        asked = (project, environment, row)
        await self._deployments.bring_back(connection, asked, target, SYSTEM, why[:_LONGEST_REASON])
        await lanes.grant(connection, environment["id"])


_log = structlog.get_logger()

_LONGEST_REASON = 500
_REQUEST_COLUMNS = ("project_id", "source_ref", "commit_sha", "repository_url", "provider_settings")


async def _own_row(connection: Connection, deployment_id: str) -> Row:
    """The deployment's row, locked, for the attempt that writes now. Its first write ends what earlier ones may do.

    Raises:
        Overtaken: when a later attempt has written.
    """
    row = await deployment_row(connection, deployment_id, lock=True)
    refuse_overtaken(row["fence"])
    attempt = ATTEMPT.get()
    if attempt not in {None, row["fence"]} and row["status"] not in TERMINAL:
        parameters = {"id": row["id"], "attempt": attempt}
        await execute(connection, "update deployments set fence = %(attempt)s where id = %(id)s", parameters)
    return row


def _waits_for_provider(row: Row, reason: str | None) -> dict[str, Any]:
    """The columns that say so, where they do not say it yet. Since when: since the first reason without a break."""
    if reason is not None:
        since = row["waiting_since"] if row["waiting_on"] == "provider" else datetime.now(UTC)
        return {"waiting_on": "provider", "waiting_reason": reason[:_LONGEST_REASON], "waiting_since": since}
    return NOT_WAITING if row["waiting_on"] == "provider" else {}


async def _note(connection: Connection, row: Row, columns: dict[str, Any]) -> Row:
    """Writes those that are new."""
    new = {name: value for name, value in columns.items() if row[name] != value}
    return await change(connection, row, **new) if new else row


async def _move(connection: Connection, row: Row, goal: Status) -> Row:
    for status in moves(Status(row["status"]), goal):
        row = await _enter(connection, row, status)
    return row


async def _enter(connection: Connection, row: Row, status: Status, **columns: Any) -> Row:
    """One move. A deployment has started when it leaves the queue."""
    if status is Status.INITIALIZING:
        columns["started_at"] = datetime.now(UTC)
    return await change(connection, row, status=str(status), **columns)


def _as_was_asked(row: Row, ending: Ending) -> Ending:
    """A cancel that was acknowledged counts, whatever came before the workflow heard of it. Not where it may be live:
    then it says what is wrong there, or that it is."""
    asked = row["cancel_requested_at"] is not None and row["publication"] is None
    if not asked or row["deployment_url"] is not None or ending.status is Status.CANCELED:
        return ending
    failure = ending.failure or Failure(code=ErrorCode.CANCELED, message=f"it had ended as {ending.status}")
    message = f"canceled on request; before it was: {failure.message}"
    canceled = failure.model_copy(update={"code": ErrorCode.CANCELED, "message": message, "retryable": True})
    return ending.model_copy(update={"status": Status.CANCELED, "failure": canceled})


def _as_it_was(row: Row, ending: Ending) -> Ending:
    """The cancel of one that was replaced in its line says so."""
    if row["superseded_by"] is None or ending.failure is None or ending.failure.code != ErrorCode.CANCELED:
        return ending
    message = f"superseded by deployment {row['superseded_by']}"
    return ending.model_copy(update={"failure": ending.failure.model_copy(update={"message": message})})


def _stood_aside(row: Row, ending: Ending) -> Ending:
    """The success of one that was overtaken says where it is not."""
    if row["superseded_by"] is None or row["publication"] is not None or ending.status is not Status.SUCCEEDED:
        return ending
    message = f"deployment {row['superseded_by']}, which is newer, was live before it: this one is at its own address"
    warnings = [*ending.report.warnings, DeploymentWarning(message=message, step="publish")]
    return ending.model_copy(update={"report": ending.report.model_copy(update={"warnings": warnings})})


def _telling(ending: Ending, after: rollbacks.Aftermath | None) -> Ending:
    """The ending, which says what is live now."""
    if after is None:
        return ending
    hint = "; ".join(part for part in (ending.failure and ending.failure.hint, after.hint) if part)
    warnings = [*ending.report.warnings, DeploymentWarning(message=after.hint)]
    return ending.model_copy(
        update={
            "failure": ending.failure and ending.failure.model_copy(update={"hint": hint}),
            "report": ending.report.model_copy(update={"warnings": warnings}),
        }
    )


async def _write_result(connection: Connection, deployment: Deployment, ending: Ending) -> None:
    cursor = await execute(connection, "select lines from logs where deployment_id = %(id)s", {"id": deployment.id})
    counted = await cursor.fetchone()
    result = DeploymentResult(
        deployment_id=deployment.id,
        success=ending.status is Status.SUCCEEDED,
        artifact_urls=ending.report.artifact_urls,
        deployment_url=deployment.deployment_url,
        preview_urls=deployment.preview_urls,
        metrics=ending.report.metrics,
        errors=[ending.failure] if ending.failure else [],
        warnings=ending.report.warnings,
        summary=DeploymentSummary(
            status=ending.status,
            duration=deployment.duration,
            commit_sha=deployment.commit_sha,
            framework=ending.report.framework,
            log_lines=int(counted["lines"]) if counted else 0,
        ),
    )
    await execute(
        connection,
        "insert into results (deployment_id, document) values (%(id)s, %(document)s) on conflict do nothing",
        {"id": deployment.id, "document": Jsonb(result.model_dump(mode="json", by_alias=True))},
    )
