"""One intent, one effect: the answer of a creating request is kept with its key and given again.

Rule: the record is written in the transaction of what it stands for, so that both are there or neither is.
Source: draft-ietf-httpapi-idempotency-key-header.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from psycopg.errors import LockNotAvailable

from domain.errors import DeploymentError, ErrorCode
from domain.wire import Wire
from store.database import Connection, execute
from store.seal import Sealer

Answer = TypeVar("Answer", bound=Wire)

_KEPT = "24 hours"
_PATIENCE = "5s"
"""How long a second request waits for the first one of its key before it is told that it is still running."""


@dataclass(frozen=True)
class IdempotentRequest:
    """`scope` is the project (or '' for what has none), `fingerprint` a digest of the body."""

    scope: str
    route: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True)
class Outcome(Generic[Answer]):
    answer: Answer
    replayed: bool = False


async def once(
    connection: Connection,
    request: IdempotentRequest | None,
    model: type[Answer],
    sealer: Sealer,
    make: Callable[[], Awaitable[Answer]],
) -> Outcome[Answer]:
    """What `make` makes, or what it made for the same key before.

    Raises:
        DeploymentError: idempotency-mismatch (same key, other body), conflict (the first is still running).
    """
    if request is None:
        return Outcome(await make())
    purpose = f"answer {request.scope} {request.route} {request.key}"
    kept = await _claim(connection, request)
    if kept is not None:
        return Outcome(model.model_validate_json(sealer.open(kept, purpose)), replayed=True)
    answer = await make()
    sealed = sealer.seal(answer.model_dump_json(by_alias=True).encode(), purpose)
    await execute(
        connection,
        "update idempotency set answer = %(answer)s where scope = %(scope)s and route = %(route)s and key = %(key)s",
        {**_names(request), "answer": sealed},
    )
    return Outcome(answer)


async def _claim(connection: Connection, request: IdempotentRequest) -> bytes | None:
    """None when the key is ours now; else the sealed answer that was given for it."""
    await execute(connection, f"set local lock_timeout = '{_PATIENCE}'")
    try:
        cursor = await execute(
            connection,
            "insert into idempotency (scope, route, key, fingerprint)"
            " values (%(scope)s, %(route)s, %(key)s, %(fingerprint)s)"
            " on conflict (scope, route, key) do update"
            " set fingerprint = excluded.fingerprint, answer = null, created_at = now()"
            f" where idempotency.created_at < now() - interval '{_KEPT}' returning key",
            {**_names(request), "fingerprint": request.fingerprint},
        )
    except LockNotAvailable:
        raise DeploymentError(
            ErrorCode.CONFLICT, "the first request with this Idempotency-Key is still running"
        ) from None
    await execute(connection, "set local lock_timeout = default")
    if await cursor.fetchone():
        return None
    cursor = await execute(
        connection,
        "select fingerprint, answer from idempotency where scope = %(scope)s and route = %(route)s and key = %(key)s",
        _names(request),
    )
    row = await cursor.fetchone()
    if row is None or bytes(row["fingerprint"]) != request.fingerprint:
        raise DeploymentError(
            ErrorCode.IDEMPOTENCY_MISMATCH,
            "this Idempotency-Key was used with another body; send the same body or a new key",
        )
    return bytes(row["answer"])


def _names(request: IdempotentRequest) -> dict[str, object]:
    return {"scope": request.scope, "route": request.route, "key": request.key}
