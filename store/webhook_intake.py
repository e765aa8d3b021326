"""Webhooks on their way in: each stored once, and hints matched to the deployments that they are about.

Rules: many come in one transaction, each as if it came alone. Who stores a hint and who writes down a build's id hold
the lock of that id, so that one of the two sees the other. Locks and rows are taken in one order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from domain.ids import uuid7
from domain.states import ACTIVE
from domain.webhook import Delivery, Receipt
from store.database import CHANNEL, Connection, Row, execute, notify

WAKE = "webhook:{}"
"""What a follower of a deployment's build listens to, by the deployment's id."""

_ENDED = "the deployment had ended: there was nothing to do"
_NO_BUILD = "it names no build"
_NOTHING_RUNS = "nothing of the project runs"


@dataclass(frozen=True)
class Origin:
    """Who sent it: `provider` is the one whose builds it tells of (None: all of the project's), `project_id` the
    project that its address named."""

    sender: str
    provider: str | None
    project_id: str | None


Arrival = tuple[Origin, Delivery]


async def store_hints(connection: Connection, arrivals: Sequence[Arrival]) -> list[Receipt]:
    """Whoever waits for such news is woken with the commit."""
    await _lock({build_id for _, delivery in arrivals for build_id in delivery.build_ids}, connection)
    found = await _deployments(connection, arrivals)
    rows = [
        {"deployment_id": str(about[0]["id"]) if about else None, **_state(arrival, about)}
        for arrival, about in zip(arrivals, found, strict=True)
    ]
    receipts = await insert(connection, arrivals, rows)
    told = {
        row["id"]
        for receipt, about in zip(receipts, found, strict=True)
        for row in about
        if receipt.state == "pending" and not receipt.duplicate
    }
    if told:
        await execute(
            connection,
            "select pg_notify(%(channel)s, word) from unnest(%(words)s::text[]) as word",
            {"channel": CHANNEL, "words": [WAKE.format(identity) for identity in sorted(told)]},
        )
    return receipts


async def match_parked(connection: Connection, deployment: Row) -> None:
    """The deployment's build has got its id: webhooks that came before that are its own now."""
    await _lock({deployment["build_id"]}, connection)
    cursor = await execute(
        connection,
        "update webhooks set state = 'pending', deployment_id = %(id)s where state = 'parked'"
        " and build_ids @> array[%(build_id)s] and (project_id is null or project_id = %(project_id)s)"
        " and provider = %(provider)s returning id",
        {name: deployment[name] for name in ("id", "build_id", "project_id", "provider")},
    )
    if await cursor.fetchone():
        await notify(connection, WAKE.format(deployment["id"]))


async def insert(connection: Connection, arrivals: Sequence[Arrival], rows: Sequence[dict[str, Any]]) -> list[Receipt]:
    """Stores what did not come before; what did is answered as it is stored."""
    ids = [str(uuid7()) for _ in arrivals]
    told = [
        {
            "state": "pending",
            **row,
            "id": identity,
            "sender": origin.sender,
            "provider": origin.provider,
            "project_id": origin.project_id,
            **delivery.model_dump(include={"identity", "delivery_id", "kind", "build_ids"}),
        }
        for identity, row, (origin, delivery) in zip(ids, rows, arrivals, strict=True)
    ]
    cursor = await execute(
        connection,
        f"insert into webhooks ({_NAMES}, settled_at)"
        f" select {_NAMES}, case when state in ('applied', 'ignored') then now() end"
        f" from jsonb_to_recordset(%(told)s) as told({_TYPES}) order by sender, identity, project_id"
        " on conflict do nothing returning id::text, state, reason",
        {"told": Jsonb(told)},
    )
    stored = {row["id"]: Receipt.model_validate(row) for row in await cursor.fetchall()}
    before = await _before(connection, [one for one in told if one["id"] not in stored])
    return [stored.get(one["id"]) or before[_key(one)] for one in told]


_COLUMNS = {
    "id": "uuid",
    "sender": "text",
    "provider": "text",
    "project_id": "text",
    "identity": "text",
    "delivery_id": "text",
    "kind": "text",
    "build_ids": "text[]",
    "deployment_id": "uuid",
    "push": "jsonb",
    "state": "text",
    "reason": "text",
}
_ABOUT = "id, status, project_id, created_at"
_NAMES = ", ".join(_COLUMNS)
_TYPES = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())


def _key(row: Row) -> tuple[str, str, str]:
    return row["sender"], row["project_id"] or "", row["identity"]


async def _before(connection: Connection, repeated: list[dict[str, Any]]) -> dict[tuple[str, str, str], Receipt]:
    """What came before, by what makes it the same."""
    if not repeated:
        return {}
    senders, projects, identities = map(list, zip(*map(_key, repeated), strict=True))
    cursor = await execute(
        connection,
        "select webhooks.id::text, webhooks.state, webhooks.reason, sender, project_id, identity from webhooks"
        " join unnest(%(senders)s::text[], %(projects)s::text[], %(identities)s::text[]) as asked(s, p, i)"
        " on sender = s and coalesce(project_id, '') = p and identity = i",
        {"senders": senders, "projects": projects, "identities": identities},
    )
    return {_key(row): Receipt.model_validate({**row, "duplicate": True}) for row in await cursor.fetchall()}


async def _lock(build_ids: Iterable[str], connection: Connection) -> None:
    if ids := sorted(build_ids):
        await execute(
            connection,
            "select pg_advisory_xact_lock(hashtextextended(id, 5)) from unnest(%(ids)s::text[]) as id",
            {"ids": ids},
        )


async def _deployments(connection: Connection, arrivals: Sequence[Arrival]) -> list[list[Row]]:
    """Of each, those that it is about, the one that runs and is newest first."""
    asked = [
        {
            "number": number,
            "provider": origin.provider,
            "project_id": origin.project_id,
            "build_ids": delivery.build_ids,
            "deployment_ids": delivery.deployment_ids,
        }
        for number, (origin, delivery) in enumerate(arrivals)
    ]
    cursor = await execute(
        connection,
        "select number, about.id, about.status from jsonb_to_recordset(%(asked)s) as asked"
        "(number int, provider text, project_id text, build_ids text[], deployment_ids uuid[]) cross join lateral ("
        f" select {_ABOUT} from deployments where build_id = any(asked.build_ids) and provider = asked.provider"
        f" union select {_ABOUT} from deployments where id = any(asked.deployment_ids) and provider = asked.provider"
        f" union select {_ABOUT} from deployments where asked.provider is null and project_id = asked.project_id"
        " and status = any(%(active)s)) as about"
        " where asked.project_id is null or about.project_id = asked.project_id"
        " order by about.status = any(%(active)s) desc, about.created_at desc",
        {"asked": Jsonb(asked), "active": sorted(ACTIVE)},
    )
    found: list[list[Row]] = [[] for _ in arrivals]
    for row in await cursor.fetchall():
        found[row["number"]].append(row)
    return found


def _state(arrival: Arrival, about: list[Row]) -> dict[str, Any]:
    origin, delivery = arrival
    if about:
        return {"state": "pending"} if about[0]["status"] in ACTIVE else {"state": "applied", "reason": _ENDED}
    if origin.provider is not None and delivery.build_ids:
        return {"state": "parked"}
    return {"state": "ignored", "reason": _NOTHING_RUNS if origin.provider is None else _NO_BUILD}
