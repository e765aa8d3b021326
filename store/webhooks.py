"""Webhooks that were taken: stored before their sender is answered, listed, and forgotten.

Rules: the body is read and dropped; it may hold tokens of others, and nobody reads it again. A delivery that names a
project reaches that project alone.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select

from domain.page import Page, PageRequest
from domain.webhook import Delivery, Push, PushOutcome, Receipt, Webhook
from store import data_keys
from store.database import Connection, Database, Row, execute
from store.paging import fetch_page
from store.projects import opened_secrets
from store.pushes import store_push
from store.seal import Sealer
from store.together import Together
from store.webhook_intake import Arrival, Origin, insert, store_hints
from store.webhook_tables import WebhookRow

_KEPT, _PUSHES_KEPT = "7 days", "400 days"
"""Pushes for longer: what would be forgotten could be sent once more, and deploy an old commit."""


@dataclass(frozen=True)
class Named:
    """What a project that an address names has to say about its webhooks."""

    secrets: dict[str, str]
    provider_settings: dict[str, Any]


class WebhookStore:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._hints = Together(self._receive_hints)

    async def project(self, project_id: str) -> Named | None:
        """None where there is no such project."""
        statement = "select secrets, provider_settings from projects where id = %(id)s"
        async with self._database.connection() as connection:
            row = await (await execute(connection, statement, {"id": project_id})).fetchone()
            if row is None:
                return None
            sealer = await data_keys.opening(connection, self._sealer, project_id)
        return Named(opened_secrets(row, sealer, f"project {project_id}"), row["provider_settings"])

    async def receive(self, origin: Origin, delivery: Delivery) -> Receipt:
        """Stores it, once; of a push also what it is to trigger. Returns after the commit."""
        if delivery.push is None:
            return await self._hints((origin, delivery))
        async with self._database.transaction() as connection:
            return await self._receive_push(connection, origin, delivery, delivery.push)

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

    async def _receive_hints(self, arrivals: list[Arrival]) -> list[Receipt]:
        async with self._database.transaction() as connection:
            return await store_hints(connection, arrivals)

    async def _receive_push(self, connection: Connection, origin: Origin, delivery: Delivery, push: Push) -> Receipt:
        [receipt] = await insert(connection, [(origin, delivery)], [{"push": _shown(push)}])
        if receipt.duplicate:
            return receipt
        actor = f"{origin.sender}:{push.sender}"
        state, reason = await store_push(connection, UUID(receipt.id), origin.project_id, push, actor)
        return receipt.model_copy(update={"state": state, "reason": reason})


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
