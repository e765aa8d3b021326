"""What was accepted and has not reached Temporal yet: workflows to start, cancels to deliver."""

from domain.deployment import Deployment
from store.database import Database
from store.rows import deployment_of

_SETTLED = "interval '1 second'"
"""The API delivers at once after its commit; what is older than this it could not deliver."""


class Outbox:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def not_started(self, limit: int = 100) -> list[Deployment]:
        """Deployments whose workflow was not started, oldest first."""
        rows = await self._database.fetch_all(
            "select * from deployments where status = 'created' and workflow_started_at is null"
            f" and created_at < now() - {_SETTLED} order by created_at limit %(limit)s",
            {"limit": limit},
        )
        return [deployment_of(row, None) for row in rows]

    async def not_canceled(self, limit: int = 100) -> list[str]:
        """Ids of deployments that are to be canceled and whose workflow was not told."""
        rows = await self._database.fetch_all(
            "select id from deployments where cancel_requested_at is not null and cancel_delivered_at is null"
            " and (status <> 'created' or workflow_started_at is not null)"
            f" and cancel_requested_at < now() - {_SETTLED}"
            " order by created_at limit %(limit)s",
            {"limit": limit},
        )
        return [str(row["id"]) for row in rows]

    async def not_told(self, limit: int = 100) -> list[str]:
        """Ids of deployments whose turn it is and whose workflow waits to hear it."""
        rows = await self._database.fetch_all(
            "select id from deployments where lane_granted_at is not null and lane_delivered_at is null"
            " and workflow_started_at is not null order by lane_granted_at limit %(limit)s",
            {"limit": limit},
        )
        return [str(row["id"]) for row in rows]

    async def mark_told(self, deployment_id: str) -> None:
        await self._database.fetch_all(
            "update deployments set lane_delivered_at = now() where id = %(id)s returning id", {"id": deployment_id}
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
