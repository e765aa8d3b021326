"""What a check-up asks the database: whether its schema is this version's, and whether its secrets can be opened."""

from store.database import Database, not_migrated
from store.seal import CannotOpen, Sealer

_SEALED = " union all ".join(
    [
        "(select 'data key ' || project_id as purpose, sealed from data_keys order by created_at desc limit 100)",
        *(
            f"(select '{kind} ' || id, secrets from {kind}s where get_byte(secrets, 0) > 0 order by id desc limit 50)"
            for kind in ("project", "environment", "deployment")
        ),
    ]
)
"""What the ring itself has sealed: the newest data keys, and what is older than these."""


class CheckupStore:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def missing_migrations(self) -> list[str]:
        return await not_migrated(self._database)

    async def locked_secrets(self) -> list[str]:
        """Those among the newest that no key of the ring opens."""
        locked = []
        for row in await self._database.fetch_all(_SEALED):
            try:
                self._sealer.open(bytes(row["sealed"]), row["purpose"])
            except CannotOpen:
                locked.append(str(row["purpose"]))
        return locked

    async def build_queues(self) -> list[str]:
        """Queues of builders that have something to do now."""
        rows = await self._database.fetch_all(
            "select distinct task_queue from deployments where task_queue is not null and finished_at is null"
        )
        return sorted(row["task_queue"] for row in rows)
