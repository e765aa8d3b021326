"""Tokens: hashed at rest, bound to projects, expiring, revoked at once."""

import secrets

from sqlalchemy import select

from domain.audit import SYSTEM
from domain.errors import DeploymentError, ErrorCode
from domain.ids import uuid7
from domain.page import Page, PageRequest
from domain.token import EVERY_PROJECT, CreatedToken, CreateTokenRequest, Scope, Token, fingerprint
from store import audit
from store.database import Connection, Database, Row, execute
from store.idempotency import IdempotentRequest, Outcome, once
from store.paging import fetch_page
from store.projects import as_uuid
from store.seal import Sealer
from store.tables import TokenRow

PREFIX = "hw_"
"""So that scanners of leaked secrets can tell what it is."""

_VALID = "revoked_at is null and (expires_at is null or expires_at > now())"
FIRST_SUBJECT = "operator"


class TokenStore:
    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def create(
        self, request: CreateTokenRequest, actor: str, idempotent: IdempotentRequest | None = None
    ) -> Outcome[CreatedToken]:
        async def make() -> CreatedToken:
            text = PREFIX + secrets.token_urlsafe(32)
            cursor = await execute(
                connection,
                "insert into tokens (id, subject, fingerprint, scopes, projects, expires_at) values"
                " (%(id)s, %(subject)s, %(fingerprint)s, %(scopes)s, %(projects)s, %(expires_at)s) returning *",
                {
                    "id": uuid7(),
                    "subject": request.subject,
                    "fingerprint": fingerprint(text),
                    "scopes": sorted({str(scope) for scope in request.scopes}),
                    "projects": sorted(set(request.projects)),
                    "expires_at": request.expires_at,
                },
            )
            row = await cursor.fetchone()
            if row is None:
                raise LookupError("insert into tokens returned nothing")
            await _record(connection, actor, "token.create", None, row)
            return CreatedToken(**_read(row).model_dump(), token=text)

        async with self._database.transaction() as connection:
            return await once(connection, idempotent, CreatedToken, self._sealer, make)

    async def list_tokens(self, page: PageRequest) -> Page[Token]:
        """Those that are not revoked, newest first."""
        columns = TokenRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
        chosen = select(TokenRow.__table__).where(columns.revoked_at.is_(None))  # type: ignore[attr-defined]  # as above
        async with self._database.transaction() as connection:
            return await fetch_page(connection, chosen, (columns.created_at, columns.id), page, _read)

    async def revoke(self, token_id: str, actor: str) -> None:
        """Raises DeploymentError (not-found)."""
        async with self._database.transaction() as connection:
            cursor = await execute(
                connection,
                "update tokens set revoked_at = now() where id = %(id)s and revoked_at is null returning *",
                {"id": as_uuid(token_id)},
            )
            row = await cursor.fetchone()
            if row is None:
                raise DeploymentError(ErrorCode.NOT_FOUND, f"there is no token {token_id[:64]}")
            await _record(connection, actor, "token.revoke", {**row, "revoked_at": None}, row)

    async def find(self, text: str) -> Token | None:
        """None for one that is unknown, expired or revoked."""
        row = await self._database.fetch_one(
            f"select * from tokens where fingerprint = %(fingerprint)s and {_VALID}", {"fingerprint": fingerprint(text)}
        )
        return _read(row) if row else None

    async def ensure_first(self, text: str) -> None:
        """A token with every scope, as the operator's settings name it."""
        async with self._database.transaction() as connection:
            cursor = await execute(
                connection,
                "insert into tokens (id, subject, fingerprint, scopes, projects)"
                " values (%(id)s, %(subject)s, %(fingerprint)s, %(scopes)s, %(projects)s)"
                " on conflict do nothing returning *",
                {
                    "id": uuid7(),
                    "subject": FIRST_SUBJECT,
                    "fingerprint": fingerprint(text),
                    "scopes": [str(scope) for scope in Scope],
                    "projects": [EVERY_PROJECT],
                },
            )
            row = await cursor.fetchone()
            if row is not None:
                await _record(connection, SYSTEM, "token.create", None, row)


async def _record(connection: Connection, actor: str, action: str, before: Row | None, row: Row) -> None:
    told = {name: row[name] for name in ("subject", "scopes", "projects")}
    await audit.record(connection, actor, action, None, str(row["id"]), before=before, after=row, **told)


def _read(row: Row) -> Token:
    return Token.model_validate({**row, "id": str(row["id"])})
