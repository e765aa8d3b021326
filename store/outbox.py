"""What was accepted and has not reached Temporal yet: workflows to start, cancels to deliver, news of webhooks."""

from collections.abc import Collection

import structlog
from pydantic import ValidationError

from domain.audit import SYSTEM
from domain.deployment import Deployment
from domain.states import ACTIVE
from domain.webhook import News
from store.database import Database, Row
from store.rows import deployment_of

_SETTLED = "interval '1 second'"
"""The API delivers at once after its commit; what is older than this it could not deliver. What the service has made
itself nobody else delivers."""

_TOLD = "interval '1 minute'"
"""A cancel that is told again moves nothing: Temporal keeps the first."""

_PAUSE = "make_interval(secs => 5 + signals / 20)"
"""Between two signals to one workflow. In a day it gets some 1,800, which is 7,000 events: a history takes 51,200."""


_log = structlog.get_logger()


class Outbox:
    """`without` are deployments whose turn is not now."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def not_started(self, without: Collection[str] = (), limit: int = 100) -> list[Deployment]:
        """Deployments whose workflow was not started, oldest first."""
        rows = await self._database.fetch_all(
            "select * from deployments where status = 'created' and workflow_started_at is null"
            f" and (created_at < now() - {_SETTLED} or triggered_by = %(system)s)"
            " and id <> all(%(without)s::uuid[]) order by created_at limit %(limit)s",
            {"limit": limit, "system": SYSTEM, "without": list(without)},
        )
        return [deployment for row in rows if (deployment := _readable(row)) is not None]

    async def not_canceled(self, without: Collection[str] = (), limit: int = 100) -> list[str]:
        """Ids of deployments that are to be canceled and whose workflow was not told, or not lately: what Temporal was
        told right before its host lost power it may have forgotten."""
        rows = await self._database.fetch_all(
            "select id from deployments where cancel_requested_at is not null and status = any(%(active)s)"
            f" and (cancel_delivered_at is null or cancel_delivered_at < now() - {_TOLD})"
            " and (status <> 'created' or workflow_started_at is not null)"
            f" and cancel_requested_at < now() - {_SETTLED} and id <> all(%(without)s::uuid[])"
            " order by created_at limit %(limit)s",
            {"limit": limit, "without": list(without), "active": sorted(ACTIVE)},
        )
        return [str(row["id"]) for row in rows]

    async def not_woken(self, without: Collection[str] = (), limit: int = 100) -> list[str]:
        """Ids of deployments whose workflow is to look at its record again."""
        rows = await self._database.fetch_all(
            "select id from deployments where wake_asked_at is not null and wake_delivered_at is null"
            " and workflow_started_at is not null and id <> all(%(without)s::uuid[])"
            " order by wake_asked_at limit %(limit)s",
            {"limit": limit, "without": list(without)},
        )
        return [str(row["id"]) for row in rows]

    async def mark_woken(self, deployment_id: str) -> None:
        await self._database.fetch_all(
            "update deployments set wake_delivered_at = now() where id = %(id)s returning id", {"id": deployment_id}
        )

    async def mark_started(self, deployment_id: str) -> None:
        await self._database.fetch_all(
            "update deployments set workflow_started_at = now()"
            " where id = %(id)s and workflow_started_at is null returning id",
            {"id": deployment_id},
        )

    async def mark_canceled(self, deployment_id: str) -> None:
        await self._database.fetch_all(
            "update deployments set cancel_delivered_at = now() where id = %(id)s returning id", {"id": deployment_id}
        )

    async def claim_news(self, limit: int = 50) -> list[News]:
        """What webhooks have brought for workflows that may be signalled now; nobody else is given the same."""
        rows = await self._database.fetch_all(
            "with waiting as (select deployment_id, array_agg(id::text) as webhook_ids,"
            " (array_agg(kind order by received_at desc))[1] as kind"
            " from webhooks left join webhook_signals using (deployment_id)"
            " where state = 'pending' and deployment_id is not null"
            f" and (signalled_at is null or signalled_at < now() - {_PAUSE})"
            " group by deployment_id order by min(received_at) limit %(limit)s),"
            " claimed as (insert into webhook_signals (deployment_id, signals, signalled_at)"
            " select deployment_id, 1, now() from waiting order by deployment_id"
            " on conflict (deployment_id) do update set signals = webhook_signals.signals + 1, signalled_at = now()"
            f" where webhook_signals.signalled_at < now() - {_PAUSE.replace('signals', 'webhook_signals.signals')}"
            " returning deployment_id)"
            " select deployment_id::text, webhook_ids, kind from waiting join claimed using (deployment_id)",
            {"limit": limit},
        )
        return [News.model_validate(row) for row in rows]

    async def mark_told_news(self, news: list[News]) -> None:
        ids = [webhook_id for one in news for webhook_id in one.webhook_ids]
        await self._database.fetch_all(
            "update webhooks set state = 'applied', settled_at = now()"
            " where id = any(%(ids)s::uuid[]) and state = 'pending' returning id",
            {"ids": ids},
        )


def _readable(row: Row) -> Deployment | None:
    """None for one that this version cannot read, which keeps no other from being started."""
    try:
        return deployment_of(row, None)
    except ValidationError as error:
        _log.error("a deployment cannot be read", deployment=str(row["id"]), fields=error.error_count())
        return None
