"""The trigger limit: a sliding log of accepted triggers in one row per project, exact over all API processes."""

import math
from dataclasses import dataclass

from domain.errors import DeploymentError, ErrorCode
from store.database import Connection, Database, execute

WINDOW_SECONDS = 60


@dataclass(frozen=True)
class Quota:
    """`remaining` more are accepted now; in `reset_seconds` there is room for at least one more than that."""

    limit: int
    remaining: int
    reset_seconds: int


_RECENT = (
    f"array(select hit from unnest(hits) as hit where hit > now() - interval '{WINDOW_SECONDS} seconds' order by hit)"
)


class TriggerLimiter:
    def __init__(self, database: Database, limit: int) -> None:
        self._database = database
        self.limit = limit

    async def quota(self, project_id: str) -> Quota:
        """What is left now."""
        async with self._database.transaction() as connection:
            return await self._quota(connection, project_id)

    async def take(self, connection: Connection, project_id: str) -> None:
        """Counts one trigger, if the transaction commits.

        Raises:
            DeploymentError: rate-limited, with the seconds to wait.
        """
        await execute(
            connection,
            "insert into rate_limits (key) values (%(key)s) on conflict (key) do nothing",
            {"key": _key(project_id)},
        )
        await execute(connection, "select 1 from rate_limits where key = %(key)s for update", {"key": _key(project_id)})
        quota = await self._quota(connection, project_id)
        if quota.remaining < 1:
            raise DeploymentError(
                ErrorCode.RATE_LIMITED,
                f"project {project_id} has had {quota.limit} deployments in {WINDOW_SECONDS} s;"
                f" the next is accepted in {quota.reset_seconds} s",
                retry_after_seconds=quota.reset_seconds,
            )
        await execute(
            connection,
            f"update rate_limits set hits = {_RECENT} || clock_timestamp() where key = %(key)s",
            {"key": _key(project_id)},
        )

    async def _quota(self, connection: Connection, project_id: str) -> Quota:
        # statement_timestamp(): after waiting for the row's lock, now() would still be the transaction's beginning.
        cursor = await execute(
            connection,
            "select count(*) as hits, extract(epoch from min(hit) - statement_timestamp())::float as age"
            " from rate_limits, unnest(hits) as hit"
            f" where key = %(key)s and hit > statement_timestamp() - interval '{WINDOW_SECONDS} seconds'",
            {"key": _key(project_id)},
        )
        row = await cursor.fetchone() or {"hits": 0, "age": None}
        reset = 0 if row["age"] is None else max(1, math.ceil(WINDOW_SECONDS + row["age"]))
        return Quota(limit=self.limit, remaining=max(0, self.limit - row["hits"]), reset_seconds=reset)


def _key(project_id: str) -> str:
    return f"trigger:{project_id}"
