"""Who did what: written in the transaction of the deed."""

from typing import Any

from psycopg.types.json import Jsonb

from store.database import Connection, execute


async def record(
    connection: Connection, actor: str, action: str, project_id: str | None, target: str, **details: Any
) -> None:
    """One entry. `details` hold names and digests, never values of secrets."""
    await execute(
        connection,
        "insert into audit (actor, action, project_id, target, details)"
        " values (%(actor)s, %(action)s, %(project_id)s, %(target)s, %(details)s)",
        {"actor": actor, "action": action, "project_id": project_id, "target": target, "details": Jsonb(details)},
    )
