"""Who did what: written in the transaction of the deed, chained to the entry before.

Rule: `record` takes the project's row (or the head of the one chain that belongs to no project) until the commit. So it
comes after every lock of environments and deployments: who holds the project's row waits for neither.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Json

from domain.audit import canonical, digest, entry_hash
from domain.ids import uuid7
from store.database import Connection, Row, execute

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BOOKKEEPING = frozenset(
    {
        *("event_sequence", "audit_sequence", "audit_hash", "last_sequence", "queue_position"),
        *("expires_at", "take_down_asked_at", "taken_down_at"),
    }
)
"""Columns that follow what happens around an object: no part of what somebody changes about it."""


@dataclass(frozen=True)
class _Origin:
    token_id: str | None = None
    request_id: str | None = None


_NOBODY = _Origin()
_origin: ContextVar[_Origin] = ContextVar("audit_origin", default=_NOBODY)


@contextmanager
def asked_for(request_id: str | None) -> Iterator[None]:
    """What is recorded inside comes of that request; None: of no request, whatever is around."""
    before = _origin.set(_Origin(request_id=request_id))
    try:
        yield
    finally:
        _origin.reset(before)


def note_token(token_id: str) -> None:
    """The rest of the request is done with that token."""
    _origin.set(replace(_origin.get(), token_id=token_id))


async def record(
    connection: Connection,
    actor: str,
    action: str,
    project_id: str | None,
    target: str,
    *,
    reason: str | None = None,
    before: Row | None = None,
    after: Row | None = None,
    **details: Any,
) -> None:
    """One entry. `before` and `after` are rows of the target. `details` hold names, never values of secrets."""
    head, one = ("audit_head", "only_one") if project_id is None else ("projects", "id = %(project_id)s")
    cursor = await execute(
        connection,
        f"select audit_sequence, audit_hash, clock_timestamp() as at from {head} where {one} for no key update",
        {"project_id": project_id},
    )
    last = await cursor.fetchone()
    if last is None:
        raise LookupError(f"the audit has no chain for {project_id}")
    origin = _origin.get()
    columns = {
        "id": uuid7(),
        "project_id": project_id,
        "sequence": last["audit_sequence"] + 1,
        "at": last["at"],
        "actor": actor,
        "token_id": origin.token_id,
        "request_id": origin.request_id,
        "action": action,
        "target": target,
        "reason": reason,
        "before": _digest(before),
        "after": _digest(after),
        "details": details,
        "previous_hash": bytes(last["audit_hash"]),
    }
    columns["hash"] = entry_hash(hashed(columns, micros(last["at"])))
    columns["details"] = Json(details, dumps=canonical)
    names, places = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
    await execute(
        connection,
        f"with entry as (insert into audit ({names}) values ({places}))"
        f" update {head} set audit_sequence = %(sequence)s, audit_hash = %(hash)s where {one}",
        columns,
    )


async def deployment(
    connection: Connection, actor: str, deed: str, before: Row | None, after: Row, **told: Any
) -> None:
    """An entry about a deployment."""
    target = str(after["id"])
    await record(
        connection, actor, f"deployment.{deed}", after["project_id"], target, before=before, after=after, **told
    )


async def environment(
    connection: Connection, actor: str, deed: str, before: Row | None, after: Row, **told: Any
) -> None:
    """An entry about an environment."""
    target = str(after["id"])
    await record(
        connection, actor, f"environment.{deed}", after["project_id"], target, before=before, after=after, **told
    )


def hashed(row: Row, at_micros: int | str) -> dict[str, Any]:
    """What the hash of an entry is taken of, by its names on the wire."""
    return {
        "id": str(row["id"]),
        "projectId": row["project_id"],
        "sequence": row["sequence"],
        "atMicros": at_micros,
        "actor": row["actor"],
        "tokenId": row["token_id"],
        "requestId": row["request_id"],
        "action": row["action"],
        "target": row["target"],
        "reason": row["reason"],
        "before": row["before"],
        "after": row["after"],
        "details": row["details"],
        "previousHash": bytes(row["previous_hash"]).hex(),
    }


def micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _digest(row: Row | None) -> str | None:
    if row is None:
        return None
    return digest({name: value for name, value in row.items() if name not in _BOOKKEEPING})
