"""The changes of status of a deployment or of a project's deployments, in order, from any point on."""

from dataclasses import dataclass

from domain.deployment import Deployment
from store.database import Database, Row
from store.projects import as_uuid
from store.rows import links_of


@dataclass(frozen=True)
class StatusChange:
    """`cursor` is the deployment's version in its own stream, the event's number in the project's."""

    cursor: int
    deployment: Deployment


class EventStore:
    def __init__(self, database: Database, temporal_page: str | None = None) -> None:
        self._database = database
        self._temporal_page = temporal_page

    async def of_deployment(self, deployment_id: str, after: int, limit: int = 100) -> list[StatusChange]:
        rows = await self._database.fetch_all(
            "select version as cursor, document from events where deployment_id = %(id)s and version > %(after)s"
            " order by version limit %(limit)s",
            {"id": as_uuid(deployment_id), "after": after, "limit": limit},
        )
        return [self._read(row) for row in rows]

    async def of_project(self, project_id: str, after: int, limit: int = 100) -> list[StatusChange]:
        rows = await self._database.fetch_all(
            "select sequence as cursor, document from events where project_id = %(id)s and sequence > %(after)s"
            " order by sequence limit %(limit)s",
            {"id": project_id, "after": after, "limit": limit},
        )
        return [self._read(row) for row in rows]

    async def head(self, project_id: str) -> int:
        """The number of the project's newest event; 0 where there is none."""
        row = await self._database.fetch_one(
            "select event_sequence from projects where id = %(id)s", {"id": project_id}
        )
        return int(row["event_sequence"]) if row else 0

    def _read(self, row: Row) -> StatusChange:
        deployment = Deployment.model_validate(row["document"])
        links = links_of(deployment.id, self._temporal_page)
        return StatusChange(int(row["cursor"]), deployment.model_copy(update={"links": links}))
