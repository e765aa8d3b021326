"""Webhooks: each stored once, in the transaction that its sender is answered after, and matched to its deployment.

Rules: the body is read and dropped; it may hold tokens of others, and nobody reads it again. A delivery that names a
project reaches that project alone. Who stores a delivery and who writes down a build's id hold the lock of that id, so
that one of the two sees the other.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import select

from domain.ids import uuid7
from domain.page import Page, PageRequest
from domain.states import ACTIVE
from domain.webhook import Delivery, Push, PushOutcome, Receipt, Webhook
from store.database import Connection, Database, Row, execute, notify
from store.paging import fetch_page
from store.projects import opened_secrets
from store.pushes import store_push
from store.seal import Sealer
from store.webhook_tables import WebhookRow

WAKE = "webhook:{}"
"""What a follower of a deployment's build listens to, by the deployment's id."""

_KEPT, _PUSHES_KEPT = "7 days", "400 days"
"""Pushes for longer: what would be forgotten could be sent once more, and deploy an old commit."""

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


class WebhookStore:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def secrets_of(self, project_id: str) -> dict[str, str] | None:
        """A project's own; None where there is no such project."""
        row = await self._database.fetch_one("select id, secrets from projects where id = %(id)s", {"id": project_id})
        return opened_secrets(row, self._sealer, f"project {project_id}") if row else None

    async def receive(self, origin: Origin, delivery: Delivery) -> Receipt:
        """Stores it, once, and matches it; whoever waits for such news is woken with the commit."""
        async with self._database.transaction() as connection:
            if delivery.push is not None:
                return await self._receive_push(connection, origin, delivery, delivery.push)
            await _lock(connection, delivery.build_ids)
            found = await _deployments(connection, origin, delivery)
            columns = {"deployment_id": found[0]["id"] if found else None, **_state(origin, delivery, found)}
            receipt = await _insert(connection, origin, delivery, columns)
            if receipt.state == "pending" and not receipt.duplicate:
                for row in found:
                    await notify(connection, WAKE.format(row["id"]))
            return receipt

    async def list_webhooks(self, page: PageRequest, *, sender: str | None, state: str | None) -> Page[Webhook]:
        """Newest first."""
        columns = WebhookRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
        chosen = select(WebhookRow.__table__)  # type: ignore[attr-defined]  # as above
        if sender is not None:
            chosen = chosen.where(columns.sender == sender)
        if state is not None:
            chosen = chosen.where(columns.state == state)
        async with self._database.transaction() as connection:
            found = await fetch_page(connection, chosen, (columns.received_at, columns.id), page, _webhook)
            outcomes = await _outcomes(connection, [UUID(webhook.id) for webhook in found.items])
        items = [webhook.model_copy(update={"triggers": outcomes.get(webhook.id, [])}) for webhook in found.items]
        return found.model_copy(update={"items": items})

    async def forget(self) -> None:
        """Removes what is old."""
        async with self._database.transaction() as connection:
            await execute(
                connection,
                f"delete from webhooks where received_at < now() - interval '{_KEPT}' and (push is null"
                f" or state <> 'pending' and received_at < now() - interval '{_PUSHES_KEPT}')",
            )
            await execute(connection, f"delete from webhook_signals where signalled_at < now() - interval '{_KEPT}'")

    async def _receive_push(self, connection: Connection, origin: Origin, delivery: Delivery, push: Push) -> Receipt:
        receipt = await _insert(connection, origin, delivery, {"state": "pending", "push": Jsonb(_shown(push))})
        if receipt.duplicate:
            return receipt
        actor = f"{origin.sender}:{push.sender}"
        state, reason = await store_push(connection, UUID(receipt.id), origin.project_id, push, actor)
        return receipt.model_copy(update={"state": state, "reason": reason})


async def match_parked(connection: Connection, deployment: Row) -> None:
    """The deployment's build has got its id: webhooks that came before that are its own now."""
    await _lock(connection, [deployment["build_id"]])
    cursor = await execute(
        connection,
        "update webhooks set state = 'pending', deployment_id = %(id)s where state = 'parked'"
        " and build_ids @> array[%(build_id)s] and (project_id is null or project_id = %(project_id)s)"
        " and provider = %(provider)s returning id",
        {name: deployment[name] for name in ("id", "build_id", "project_id", "provider")},
    )
    if await cursor.fetchone():
        await notify(connection, WAKE.format(deployment["id"]))


async def _lock(connection: Connection, build_ids: list[str]) -> None:
    if build_ids:
        await execute(
            connection,
            "select pg_advisory_xact_lock(hashtextextended(id, 5)) from unnest(%(ids)s::text[]) as id",
            {"ids": sorted(build_ids)},
        )


async def _deployments(connection: Connection, origin: Origin, delivery: Delivery) -> list[Row]:
    """Those that it is about, the one that runs and is newest first."""
    mine = "(%(project_id)s::text is null or project_id = %(project_id)s)"
    if origin.provider is None:
        named = "status = any(%(active)s)"
    else:
        named = "provider = %(provider)s and (build_id = any(%(build_ids)s) or id = any(%(deployment_ids)s::uuid[]))"
    cursor = await execute(
        connection,
        f"select id, status from deployments where {named} and {mine}"
        " order by status = any(%(active)s) desc, created_at desc limit 20",
        {
            "project_id": origin.project_id,
            "provider": origin.provider,
            "build_ids": delivery.build_ids,
            "deployment_ids": delivery.deployment_ids,
            "active": sorted(ACTIVE),
        },
    )
    return await cursor.fetchall()


def _state(origin: Origin, delivery: Delivery, found: list[Row]) -> dict[str, Any]:
    if found and found[0]["status"] in ACTIVE:
        return {"state": "pending"}
    if not found and origin.provider is not None and delivery.build_ids:
        return {"state": "parked"}
    if found:
        return {"state": "applied", "reason": _ENDED, "settled_at": datetime.now(UTC)}
    reason = _NOTHING_RUNS if origin.provider is None else _NO_BUILD
    return {"state": "ignored", "reason": reason, "settled_at": datetime.now(UTC)}


async def _insert(connection: Connection, origin: Origin, delivery: Delivery, columns: dict[str, Any]) -> Receipt:
    columns = {
        "id": uuid7(),
        "sender": origin.sender,
        "provider": origin.provider,
        "project_id": origin.project_id,
        "identity": delivery.identity,
        "delivery_id": delivery.delivery_id,
        "kind": delivery.kind,
        "build_ids": delivery.build_ids,
        **columns,
    }
    names, places = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
    cursor = await execute(
        connection,
        f"insert into webhooks ({names}) values ({places}) on conflict do nothing returning id, state, reason",
        columns,
    )
    stored = await cursor.fetchone()
    if stored is not None:
        return Receipt.model_validate({**stored, "id": str(stored["id"])})
    cursor = await execute(
        connection,
        "select id, state, reason from webhooks where sender = %(sender)s and identity = %(identity)s"
        " and coalesce(project_id, '') = coalesce(%(project_id)s, '')",
        {name: columns[name] for name in ("sender", "identity", "project_id")},
    )
    known = await cursor.fetchone()
    if known is None:
        raise LookupError(f"the webhook {delivery.identity} is there and is not")
    return Receipt.model_validate({**known, "id": str(known["id"]), "duplicate": True})


def _shown(push: Push) -> dict[str, Any]:
    return {
        "repository": next(iter(push.repositories), None),
        "ref": push.ref,
        "before": push.before,
        "commit": push.after,
        "sender": push.sender,
    }


def _webhook(row: Row) -> Webhook:
    deployment_id = row["deployment_id"] and str(row["deployment_id"])
    return Webhook.model_validate(
        {**row, "id": str(row["id"]), "provider": row["sender"], "deployment_id": deployment_id}
    )


async def _outcomes(connection: Connection, webhook_ids: list[UUID]) -> dict[str, list[PushOutcome]]:
    cursor = await execute(
        connection,
        "select webhook_id, project_id, environment, state, reason, deployment_id::text from pushes"
        " where webhook_id = any(%(ids)s) order by id",
        {"ids": webhook_ids},
    )
    outcomes: dict[str, list[PushOutcome]] = {}
    for row in await cursor.fetchall():
        outcomes.setdefault(str(row["webhook_id"]), []).append(PushOutcome.model_validate(row))
    return outcomes
