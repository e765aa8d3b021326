"""Data keys: secrets of a project, its environments and deployments are sealed under its key, the key under the ring.

Rules: a project's key is made once and never replaced, since processes remember it. What this transaction has made is
not remembered: it may be rolled back. Whoever may have to make one comes with the locks of environments, and without
those of deployments and of the project's row.
"""

import secrets

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from store.database import Connection, execute
from store.seal import ProjectSealer, Sealer

_BYTES = 32


async def opening(connection: Connection, ring: Sealer, project_id: str) -> ProjectSealer:
    """Opens what there is."""
    return ProjectSealer(ring, ring.remembered(project_id) or await _find(connection, ring, project_id))


async def sealing(connection: Connection, ring: Sealer, project_id: str) -> ProjectSealer:
    """Seals, too: a project that has no key yet gets one."""
    key = ring.remembered(project_id) or await _find(connection, ring, project_id)
    if key is None:
        sealed = ring.seal(secrets.token_bytes(_BYTES), purpose(project_id))
        # Another one may have been quicker: then this waits for his commit, and finds his.
        await execute(
            connection,
            "insert into data_keys (project_id, sealed) values (%(project_id)s, %(sealed)s) on conflict do nothing",
            {"project_id": project_id, "sealed": sealed},
        )
        key = await _find(connection, ring, project_id)
    return ProjectSealer(ring, key)


def purpose(project_id: str) -> str:
    return f"data key {project_id}"


async def _find(connection: Connection, ring: Sealer, project_id: str) -> AESGCM | None:
    # What this very transaction has made bears its time.
    cursor = await execute(
        connection,
        "select sealed, created_at < now() as settled from data_keys where project_id = %(project_id)s",
        {"project_id": project_id},
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    key = AESGCM(ring.open(bytes(row["sealed"]), purpose(project_id)))
    if row["settled"]:
        ring.remember(project_id, key)
    return key
