"""Rollbacks: which deployment an environment goes back to, what that changes, and what does not come back by itself."""

from dataclasses import dataclass
from typing import Any

from domain.configuration import HIDDEN
from domain.deployment import Change
from domain.ending import Ending
from domain.errors import DeploymentError, ErrorCode
from domain.states import Status
from store import audit
from store.database import Connection, Row, execute
from store.projects import as_uuid, opened_secrets, update
from store.seal import Seals

_OFFERED = 10
_NOTHING_BEFORE = "nothing succeeded here before it that could be brought back"
_PUBLISHED = (
    "status = 'succeeded' and not coalesce((configuration->>'skipDeploy')::boolean, false)"
    " and (superseded_by is null or publication is not null)"
)
"""Who was overtaken has never been live."""


async def find_target(connection: Connection, row: Row, wanted: str | None) -> Row:
    """The deployment to go back to: the one that is wanted, else the last that succeeded before `row`.

    Raises:
        DeploymentError: conflict, with those that are there to go back to.
    """
    condition = "id = %(wanted)s" if wanted is not None else "sequence < %(sequence)s"
    found = await _published(connection, row, condition, wanted=wanted and as_uuid(wanted))
    if found is None:
        raise await _nothing_there(connection, row, wanted)
    return found


@dataclass(frozen=True)
class Aftermath:
    """What comes of a deployment that went live and has failed all the same."""

    hint: str
    target: Row | None = None


async def aftermath(connection: Connection, row: Row, ending: Ending, hindered: str | None) -> Aftermath | None:
    """None: it never went live, or it is well, or something newer is live. `hindered` is why nothing can come back.

    A rollback that fails is not rolled back again: whatever is broken then, another turn does not mend it.
    """
    well = ending.status is Status.SUCCEEDED
    if well or row["deployment_url"] is None or row["superseded_by"] is not None:
        return None
    if await _published(connection, row, "sequence > %(sequence)s") is not None:
        return None
    target = await _published(connection, row, "sequence < %(sequence)s")
    if row["rollback_of"] is not None or not row["configuration"].get("rollbackOnFailure"):
        way = f"`headway rollback {row['id']}` brings back what was live before" if target else _NOTHING_BEFORE
        return Aftermath(f"it is live all the same; {way}")
    if target is None:
        return Aftermath(f"it is live all the same; {_NOTHING_BEFORE}")
    if hindered is not None:
        return Aftermath(f"it is live all the same; deployment {target['id']} does not come back by itself: {hindered}")
    return Aftermath(f"deployment {target['id']}, which was live before, comes back by itself", target)


async def hold(connection: Connection, environment: Row, row: Row, rollback: Row) -> None:
    """What was rolled back waits for approval from now on. Rolling back a rollback lifts the hold instead."""
    lifts = row["rollback_of"] is not None
    columns = {
        "held_ref": None if lifts else row["source_ref"],
        "held_commit": None if lifts else row["commit_sha"],
        "held_by": None if lifts else rollback["id"],
    }
    held = await update(connection, "environments", environment["id"], columns)
    deed, ref = ("release", environment["held_ref"]) if lifts else ("hold", row["source_ref"])
    await audit.environment(connection, rollback["triggered_by"], deed, environment, held, ref=ref)


def changes(before: Row, after: Row, sealer: Seals) -> list[Change]:
    """What differs between two deployments' snapshots."""
    one, other = _facts(before, sealer), _facts(after, sealer)
    differing = sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
    return [
        Change(path=path, before=_shown(path, one, before, after), after=_shown(path, other, after, before))
        for path in differing
    ]


def _facts(row: Row, sealer: Seals) -> dict[str, str]:
    facts = {"commitSha": row["commit_sha"], "sourceRef": row["source_ref"], "artifactId": row["artifact_id"]}
    configuration = _flat("configuration", {**row["configuration"], "secrets": {}})
    secrets = _flat("secrets", opened_secrets(row, sealer, f"deployment {row['id']}"))
    settings = _flat("providerSettings", row["provider_settings"])
    return {
        path: str(value)
        for path, value in {**facts, **configuration, **secrets, **settings}.items()
        if value is not None
    }


def _flat(prefix: str, document: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        path = f"{prefix}.{name}"
        flat |= _flat(path, value) if isinstance(value, dict) else {path: value}
    return flat


def _shown(path: str, facts: dict[str, str], row: Row, other: Row) -> str | None:
    """Of a secret its version, where it has one, and never its value."""
    area, _, name = path.partition(".")
    if area != "secrets" or path not in facts:
        return facts.get(path)
    own, others = (one["secret_versions"].get(name, {}) for one in (row, other))
    if own.get("version") is None:
        return HIDDEN
    elsewhere = others and others["scope"] != own["scope"]
    return f"v{own['version']}" + (f" ({own['scope']})" if elsewhere else "")


async def _published(connection: Connection, row: Row, condition: str, **more: Any) -> Row | None:
    """The newest other deployment of the environment that has been live, of those that fulfil the condition."""
    cursor = await execute(
        connection,
        f"select * from deployments where environment_id = %(environment)s and {_PUBLISHED} and id <> %(own)s"
        f" and {condition} order by sequence desc limit 1",
        {"environment": row["environment_id"], "own": row["id"], "sequence": row["sequence"], **more},
    )
    return await cursor.fetchone()


async def _nothing_there(connection: Connection, row: Row, wanted: str | None) -> DeploymentError:
    cursor = await execute(
        connection,
        f"select id, source_ref from deployments where environment_id = %(environment)s and {_PUBLISHED}"
        " and id <> %(own)s order by sequence desc limit %(limit)s",
        {"environment": row["environment_id"], "own": row["id"], "limit": _OFFERED},
    )
    there = [f"{one['id']} ({one['source_ref']})" for one in await cursor.fetchall()]
    what = f"{wanted[:64]} is none that succeeded in this environment" if wanted else "nothing succeeded here before it"
    return DeploymentError(
        ErrorCode.CONFLICT,
        f"cannot roll back: {what}; available: {', '.join(there) or 'none'}",
        details={"available": [entry.partition(" ")[0] for entry in there]},
    )
