"""Pushes: which environments a project's rules bring them to, in which order, and the deployments they trigger.

Rules: of a branch and an environment the newest push alone waits, and what it waits for changes nothing about that. A
push and its deployment commit together, so that it triggers once. Pushes of a project are stored one after the other.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from domain.configuration import ConfigurationChange
from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.errors import RETRYABLE, DeploymentError, ErrorCode
from domain.previews import preview_names
from domain.project import PushRule
from domain.pushes import Move, newest
from domain.source import branch_matches
from domain.webhook import NO_COMMIT, Push
from store import audit
from store.database import Connection, Database, Row, execute
from store.deployments import DeploymentStore
from store.previews import branch_is_gone
from store.seal import CannotOpen

GRACE = timedelta(seconds=5)
"""How long a push is held when another one, between it and those that are known, may still be on its way."""
_AGAIN_SECONDS = 2
_KEY_AGAIN_SECONDS = 60
_REMEMBERED = 50
"""Pushes of a branch that are put in order."""

_WAITED_FOR = RETRYABLE | {ErrorCode.ALREADY_RUNNING, ErrorCode.CONFLICT}
_NEWER = "a newer push of the branch takes its place"
_SAME = "the same push came with another webhook"
_DELETED = "the branch was deleted"


class PushStore:
    def __init__(self, database: Database, deployments: DeploymentStore) -> None:
        self._database = database
        self._deployments = deployments

    async def trigger_due(self, limit: int = 20) -> list[Deployment]:
        """Triggers what may be triggered now, `limit` pushes at most; whose workflows are then to be started."""
        made = []
        for _ in range(limit):
            async with self._database.transaction() as connection:
                push = await _next_due(connection)
                if push is None:
                    break
                deployment = await self._trigger(connection, push)
                await _settle(connection, [push["webhook_id"]])
            if deployment is not None:
                made.append(deployment)
        return made

    async def _trigger(self, connection: Connection, push: Row) -> Deployment | None:
        request = TriggerDeploymentRequest(
            project_id=push["project_id"],
            source_ref=push["branch"],
            preview=push["preview"],
            configuration=None if push["preview"] else ConfigurationChange(environment=push["environment"]),
            message=push["message"],
        )
        try:
            # It came with another request than the one that may be under way here.
            with audit.asked_for(None):
                async with connection.transaction():
                    deployment = await self._deployments.accept(
                        connection, request, push["actor"], trigger="webhook", commit=push["after_sha"]
                    )
        except DeploymentError as error:
            if error.code is ErrorCode.UNAVAILABLE:
                raise
            if isinstance(error, CannotOpen):  # a key is missing: the pushes of other projects do not wait for that
                error.retry_after_seconds = _KEY_AGAIN_SECONDS
            await _put_off(connection, push, error)
            return None
        await _change(connection, [push], state="applied", reason=None, deployment_id=UUID(deployment.id))
        return deployment


async def store_push(
    connection: Connection, webhook_id: UUID, project_id: str | None, push: Push, actor: str
) -> tuple[str, str | None]:
    """Stores a push in each environment that rules bring it to; says what its webhook is then, and why."""
    branch = push.branch
    if branch is None:
        return await _close(connection, webhook_id, "ignored", f"{push.ref} is no branch; rules are about branches")
    goals = [
        _Goal(project["id"], environment, branch, preview)
        for project in await _projects(connection, project_id, push)
        for environment, preview in _environments(project, branch)
    ]
    if not goals:
        where = f"project {project_id}" if project_id else " and ".join(push.repositories[:1]) or "the repository"
        reason = f"no rule is about the branch {branch} of {where}"
        return await _close(connection, webhook_id, "ignored", reason)
    entered = {goal: await _enter(connection, goal, webhook_id, push, actor) for goal in goals}
    touched = {webhook for webhooks in entered.values() for webhook in webhooks}
    if push.deleted:
        for goal in goals:
            if goal.preview and await _is_deleted(connection, goal):
                await branch_is_gone(connection, goal.project_id, branch, actor)
    # Before `_settle`: whoever has triggered a push waits for its webhook's row while he holds the project's.
    for goal, webhooks in entered.items():
        if webhooks:
            told: dict[str, Any] = {"environment": goal.environment, "branch": branch, "commit": push.after}
            await audit.record(connection, actor, "push.accept", goal.project_id, str(webhook_id), **told)
    if webhook_id not in touched:
        return await _close(connection, webhook_id, "replaced", _SAME)
    return (await _settle(connection, touched))[webhook_id]


@dataclass(frozen=True)
class _Goal:
    project_id: str
    environment: str
    branch: str
    preview: bool


async def _projects(connection: Connection, project_id: str | None, push: Push) -> list[Row]:
    """Those that deploy pushes: the one that was named, else all of the repository; locked against further pushes."""
    chosen = "id = %(id)s" if project_id else "repository_key = any(%(keys)s)"
    cursor = await execute(
        connection,
        f"select id, push_rules, previews from projects where {chosen}"
        " and (push_rules <> '[]' or previews is not null) order by id",
        {"id": project_id, "keys": push.repositories},
    )
    projects = await cursor.fetchall()
    await execute(
        connection,
        "select pg_advisory_xact_lock(hashtextextended(id, 6)) from unnest(%(ids)s::text[]) as id",
        {"ids": [project["id"] for project in projects]},
    )
    return projects


def _environments(project: Row, branch: str) -> list[tuple[str, bool]]:
    """Names, and whether it is the branch's preview: where no rule is about the branch, and previews are."""
    rules = [PushRule.model_validate(rule) for rule in project["push_rules"]]
    named = dict.fromkeys(rule.environment for rule in rules if branch_matches(branch, rule.branches))
    if not named and project["previews"] and branch_matches(branch, project["previews"]["refs"]):
        return [(preview_names(branch)[0], True)]
    return [(name, False) for name in named]


async def _enter(connection: Connection, goal: _Goal, webhook_id: UUID, push: Push, actor: str) -> list[UUID]:
    """Lets the newest push of the branch wait, and no other; says whose webhooks' pushes were changed by that."""
    known = await _pushes_of(connection, goal)
    if _repeats(known, push):
        return []
    columns = {
        **asdict(goal),
        "webhook_id": webhook_id,
        "before_sha": push.before,
        "after_sha": push.after,
        "pushed_at": push.pushed_at,
        "actor": actor,
        "message": push.message,
        "state": "ignored" if push.deleted else "pending",
        "reason": _DELETED if push.deleted else None,
    }
    names, places = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
    cursor = await execute(connection, f"insert into pushes ({names}) values ({places}) returning *", columns)
    rows = [*known, *await cursor.fetchall()]
    order = newest([_move(row) for row in rows])
    head = rows[order.head]
    older = [row for row in rows if row is not head and row["state"] == "pending"]
    await _change(connection, older, state="replaced", reason=_NEWER)
    if head["state"] == "ignored":
        return [webhook_id, *(row["webhook_id"] for row in older)]
    due = head["received_at"] if order.unsure_since is None else rows[order.unsure_since]["received_at"] + GRACE
    await _change(connection, [head], state="pending", reason=None, next_at=due)
    return [webhook_id, head["webhook_id"], *(row["webhook_id"] for row in older)]


async def _pushes_of(connection: Connection, goal: _Goal) -> list[Row]:
    cursor = await execute(
        connection,
        "select * from pushes where project_id = %(project_id)s and environment = %(environment)s"
        f" and branch = %(branch)s order by id desc limit {_REMEMBERED}",
        asdict(goal),
    )
    return (await cursor.fetchall())[::-1]


async def _is_deleted(connection: Connection, goal: _Goal) -> bool:
    """Whether the newest that is known of the branch is its deletion."""
    moves = [_move(row) for row in await _pushes_of(connection, goal)]
    return moves[newest(moves).head].after in NO_COMMIT


def _repeats(known: list[Row], push: Push) -> bool:
    """Whether it came before by another webhook, rather than that the branch has made the same way once more."""
    moves = [_move(row) for row in known]
    made = any((move.before, move.after) == (push.before, push.after) for move in moves)
    return made and moves[newest(moves).head].after != push.before


def _move(row: Row) -> Move:
    return Move(row["before_sha"], row["after_sha"], row["pushed_at"])


async def _next_due(connection: Connection) -> Row | None:
    cursor = await execute(
        connection,
        "select * from pushes where state = 'pending' and next_at <= now() order by next_at, id limit 1"
        " for update skip locked",
    )
    return await cursor.fetchone()


async def _put_off(connection: Connection, push: Row, error: DeploymentError) -> None:
    """A lane that is busy, or a limit, is waited for; what cannot become right by waiting is given up."""
    if error.code not in _WAITED_FOR:
        await _change(connection, [push], state="ignored", reason=error.message)
        return
    await execute(
        connection,
        "update pushes set reason = %(reason)s, next_at = now() + make_interval(secs => %(seconds)s) where id = %(id)s",
        {"id": push["id"], "reason": error.message, "seconds": error.retry_after_seconds or _AGAIN_SECONDS},
    )


async def _change(connection: Connection, pushes: list[Row], **columns: Any) -> None:
    """Of pushes that did not trigger meanwhile."""
    places = ", ".join(f"{name} = %({name})s" for name in columns)
    await execute(
        connection,
        f"update pushes set {places} where id = any(%(ids)s) and state <> 'applied'",
        {**columns, "ids": [push["id"] for push in pushes]},
    )


async def _settle(connection: Connection, webhook_ids: Collection[UUID]) -> dict[UUID, tuple[str, str | None]]:
    """Lets webhooks say what became of their pushes in all environments together."""
    ids = {"ids": sorted(webhook_ids)}
    # Locked first: the statement after it sees what those who held the lock before have changed.
    await execute(connection, "select 1 from webhooks where id = any(%(ids)s) order by id for update", ids)
    cursor = await execute(
        connection,
        "update webhooks set state = told.state, reason = told.reason,"
        " settled_at = case when told.state = 'pending' then null else now() end from"
        " (select webhook_id, case when bool_or(state = 'pending') then 'pending'"
        " when bool_or(state = 'applied') then 'applied' when bool_or(state = 'replaced') then 'replaced'"
        " else 'ignored' end as state, string_agg(distinct reason, '; ') as reason"
        " from pushes where webhook_id = any(%(ids)s) group by webhook_id) as told"
        " where webhooks.id = told.webhook_id returning webhooks.id, webhooks.state, webhooks.reason",
        ids,
    )
    return {row["id"]: (row["state"], row["reason"]) for row in await cursor.fetchall()}


async def _close(connection: Connection, webhook_id: UUID, state: str, reason: str) -> tuple[str, str]:
    await execute(
        connection,
        "update webhooks set state = %(state)s, reason = %(reason)s, settled_at = now() where id = %(id)s",
        {"id": webhook_id, "state": state, "reason": reason},
    )
    return state, reason
