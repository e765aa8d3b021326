"""The gate of an environment: which of its rules keep a deployment, and what people say to that.

Rules:
1. Everything is read and decided under the environment's lock, from the record alone: a workflow that looks, a person
   who approves and an operator who changes the environment come to the same answer.
2. An approval counts while what it is bound to (`domain.protection.subject_matter`) is what would be deployed.
3. Who waits here holds no lane.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from domain.deployment import Deployment, WaitingOn
from domain.descent import Descent
from domain.ending import Ending
from domain.errors import DeploymentError, ErrorCode
from domain.gate import LINE_TIMEOUT, Look
from domain.protection import Approval, Protection, subject_matter
from domain.result import Failure
from domain.states import Status, moves
from store import audit, lanes
from store.database import Connection, Database, Row, execute
from store.projects import NOT_HELD, environment_row, update, wake_gated
from store.rows import change, deployment_of, deployment_row

Decision = Literal["approve", "reject"]
_LIMITED = {"approval": "it was not approved in time", "lane": "its turn in the line did not come in time"}


@dataclass(frozen=True)
class Wait:
    """What keeps a deployment. `until` is when that is over by itself, where it is."""

    on: WaitingOn
    reason: str
    until: datetime | None = None


class GateStore:
    def __init__(self, database: Database, temporal_page: str | None = None) -> None:
        self._database = database
        self._temporal_page = temporal_page

    async def look(self, deployment_id: str) -> Look:
        """Lets the deployment in where nothing keeps it; one that waits is `queued` from here on."""
        async with self._database.transaction() as connection:
            await lanes.lock(connection, deployment_id)
            row = await deployment_row(connection, deployment_id, lock=True)
            ending = _over(row)
            if ending is not None:
                return Look(ending=ending)
            until: datetime | None = None
            environment = await environment_row(connection, str(row["environment_id"]))
            if row["lane"] == "gated":
                row, wait = await _pass(connection, row, environment)
                until = wait.until if wait else None
            if row["lane"] == "waiting":
                until = row["waiting_since"] + LINE_TIMEOUT
            if until is not None and until <= datetime.now(UTC) and row["waiting_on"] in _LIMITED:
                return Look(ending=_ending(Status.TIMEOUT, ErrorCode.TIMEOUT, _LIMITED[row["waiting_on"]]))
            for status in moves(Status(row["status"]), Status.QUEUED):
                row = await change(connection, row, status=str(status))
            seconds = until and max(1.0, (until - datetime.now(UTC)).total_seconds())
            pin = row["lane"] == "gated" and row["commit_sha"] is None
            ask = _to_ask(environment, row) if row["lane"] == "gated" else None
            return Look(may_go=row["lane"] in {"held", "none"}, pin=pin, ask=ask, look_again_seconds=seconds)

    async def decide(self, deployment_id: str, subject: str, decision: Decision, comment: str | None) -> Deployment:
        """One person's word. Saying it twice is saying it once; a rejection is final.

        Raises:
            DeploymentError: not-found, conflict (it does not wait for approval), insufficient-permissions.
        """
        async with self._database.transaction() as connection:
            await lanes.lock(connection, deployment_id)
            row = await deployment_row(connection, deployment_id, lock=True)
            if row["waiting_on"] != "approval":
                raise DeploymentError(
                    ErrorCode.CONFLICT,
                    f"a deployment that is {row['status']} and waits for no approval has none to get",
                )
            if row["cancel_requested_at"] is not None:  # else it would take the lane from whoever is there instead
                newer = row["superseded_by"]
                why = f"superseded by deployment {newer}" if newer else "being canceled"
                raise DeploymentError(ErrorCode.CONFLICT, f"this deployment is {why}: there is nothing to approve")
            environment = await environment_row(connection, str(row["environment_id"]))
            protection = Protection.model_validate(environment["protection"])
            _check_approver(row, protection, subject)
            word = Approval(
                subject=subject, decision=decision, comment=comment, at=datetime.now(UTC), digest=_matter(row)
            )
            others = [said for said in _approvals(row) if (said.subject, said.digest) != (subject, word.digest)]
            said = [one.model_dump(mode="json", by_alias=True) for one in (*others, word)]
            before, row = row, await change(connection, row, approvals=said, **lanes.asking_to_wake())
            wait = None
            if decision == "approve":
                row, wait = await _pass(connection, row, environment)
            lifts = decision == "approve" and (wait is None or wait.on != "approval") and _held(environment, row)
            if lifts:
                await wake_gated(connection, environment["id"])
            # After all that locks others which wait.
            await audit.deployment(connection, subject, decision, before, row, reason=comment, digest=word.digest)
            if lifts:
                await _lift_hold(connection, environment, subject)
            return deployment_of(row, self._temporal_page)


async def keeps(connection: Connection, environment: Row, deployment: Mapping[str, Any]) -> Wait | None:
    """What keeps the deployment now; None: nothing. A rule that people meet comes before one that time meets."""
    if deployment["break_glass"] is not None or deployment["rollback_of"] is not None:
        return None
    now = datetime.now(UTC)
    protection = Protection.model_validate(environment["protection"])
    return (
        _lacks_approval(environment, protection, deployment)
        or _frozen(protection, now)
        or await _unproven(connection, protection, deployment, now)
    )


def check_ref(environment: Row, ref: str) -> None:
    """Raises DeploymentError (invalid-source-ref) for a ref that the environment does not admit."""
    protection = Protection.model_validate(environment["protection"])
    if not protection.admits(ref):
        raise DeploymentError(
            ErrorCode.INVALID_SOURCE_REF,
            f"{environment['name']} does not admit {ref[:100]!r}; accepted: {', '.join(protection.allowed_refs)}",
            fields=[("/sourceRef", "is not among the environment's allowedRefs")],
        )


def waiting_columns(wait: Wait) -> dict[str, Any]:
    return {"waiting_on": wait.on, "waiting_reason": wait.reason, "waiting_since": datetime.now(UTC)}


async def _pass(connection: Connection, row: Row, environment: Row) -> tuple[Row, Wait | None]:
    """Opens the gate where nothing keeps the deployment; else the row says what does."""
    wait = await keeps(connection, environment, row)
    if wait is None:
        return await lanes.enter_late(connection, row), None
    if (row["waiting_on"], row["waiting_reason"]) != (wait.on, wait.reason):
        row = await change(connection, row, **waiting_columns(wait))
    return row, wait


def _over(row: Row) -> Ending | None:
    """How it ends, when it will never go."""
    if row["superseded_by"] is not None and row["lane"] == "released":
        return _ending(Status.CANCELED, ErrorCode.CANCELED, f"superseded by deployment {row['superseded_by']}")
    for word in _approvals(row):
        if word.decision == "reject":  # whatever came of it since: nobody wants it
            said = f": {word.comment}" if word.comment else ""
            return _ending(Status.CANCELED, ErrorCode.CANCELED, f"rejected by {word.subject}{said}")
    if row["lane"] == "released":
        return _ending(Status.CANCELED, ErrorCode.CANCELED, "its place in the line was given up")
    return None


def _ending(status: Status, code: ErrorCode, message: str) -> Ending:
    return Ending(status=status, failure=Failure(code=code, message=message, phase=Status.QUEUED, retryable=True))


def _lacks_approval(environment: Row, protection: Protection, deployment: Mapping[str, Any]) -> Wait | None:
    held = _held(environment, deployment)
    needed = max(protection.required_approvals, 1 if held else 0)
    matter = _matter(deployment)
    given = sum(word.decision == "approve" and word.digest == matter for word in _approvals(deployment))
    if given >= needed:
        return None
    until = (deployment.get("created_at") or datetime.now(UTC)) + timedelta(seconds=protection.approval_timeout)
    who = f" by one of {', '.join(protection.approvers)}" if protection.approvers else ""
    why = f"{held}; " if held else ""
    return Wait("approval", f"{why}{given} of {needed} approvals{who}", until)


def _held(environment: Row, deployment: Mapping[str, Any]) -> str | None:
    """Why what was rolled back keeps it: the same ref, the same commit, or one that has that commit in its history."""
    ref, commit = environment["held_ref"], environment["held_commit"]
    if ref is not None and deployment["source_ref"] == ref:
        return f"{ref} was rolled back here and is held"
    if ref is None or commit is None:
        return None
    if deployment["commit_sha"] == commit:
        return f"its commit was rolled back here, as {ref}, and is held"
    descent = _descent(environment, deployment)
    if descent is None or descent.descends is None:
        why = f" ({descent.why})" if descent else ""
        return f"{ref} was rolled back here; whether its history has that commit is not known yet{why}"
    return f"its history has {commit[:12]}, which was rolled back here, as {ref}" if descent.descends else None


def _descent(environment: Row, deployment: Mapping[str, Any]) -> Descent | None:
    """What is known, where it is about the commit that is held and the one that would be deployed."""
    told = deployment.get("descent")
    descent = Descent.model_validate(told) if told else None
    asked = (environment["held_commit"], deployment["commit_sha"])
    return descent if descent is not None and (descent.held, descent.commit) == asked else None


def _to_ask(environment: Row, deployment: Row) -> str | None:
    """The held commit, while that is what is to be found out."""
    ref, commit = environment["held_ref"], environment["held_commit"]
    settled = ref is None or deployment["source_ref"] == ref or deployment["commit_sha"] == commit
    found: str | None = None if settled or _descent(environment, deployment) is not None else commit
    return found


def _frozen(protection: Protection, now: datetime) -> Wait | None:
    frozen = protection.frozen(now)
    if frozen is None:
        return None
    until, reason = frozen
    return Wait("schedule", f"frozen until {until:%Y-%m-%d %H:%M} UTC{f': {reason}' if reason else ''}", until)


async def _unproven(
    connection: Connection, protection: Protection, deployment: Mapping[str, Any], now: datetime
) -> Wait | None:
    if not protection.minimum_soak:
        return None
    cursor = await execute(
        connection,
        "select min(finished_at) as since from deployments where project_id = %(project)s and status = 'succeeded'"
        " and environment_id <> %(environment)s and commit_sha = %(commit)s",
        {
            "project": deployment["project_id"],
            "environment": deployment["environment_id"],
            "commit": deployment["commit_sha"],
        },
    )
    found = await cursor.fetchone()
    since: datetime | None = found["since"] if found else None
    if since is None:
        return Wait("schedule", "its commit has not run in another environment yet", now + timedelta(minutes=5))
    until = since + timedelta(seconds=protection.minimum_soak)
    if until <= now:
        return None
    return Wait("schedule", f"its commit has to run elsewhere until {until:%Y-%m-%d %H:%M} UTC", until)


def _check_approver(row: Row, protection: Protection, subject: str) -> None:
    if protection.approvers and subject not in protection.approvers:
        reason = f"{subject} is not among the approvers: {', '.join(protection.approvers)}"
    elif subject == row["triggered_by"] and protection.required_approvals and not protection.allow_self_approval:
        reason = f"{subject} triggered this deployment: somebody else has to approve it"
    else:
        return
    raise DeploymentError(ErrorCode.INSUFFICIENT_PERMISSIONS, reason)


async def _lift_hold(connection: Connection, environment: Row, subject: str) -> None:
    lifted = await update(connection, "environments", environment["id"], NOT_HELD)
    await audit.environment(connection, subject, "release", environment, lifted, ref=environment["held_ref"])


def _matter(deployment: Mapping[str, Any]) -> str:
    target = {name: str(deployment[name]) for name in ("environment_id", "provider", "repository_url")}
    settings = deployment["provider_settings"]
    return subject_matter(
        deployment["source_ref"],
        deployment["commit_sha"],
        deployment["configuration_digest"],
        {**target, "settings": getattr(settings, "obj", settings)},
    )


def _approvals(deployment: Mapping[str, Any]) -> list[Approval]:
    return [Approval.model_validate(said) for said in deployment.get("approvals") or []]
