"""Tokens: made, listed and revoked by admins of all projects."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api.answers import json_answer, page_answer
from api.auth import Operator
from api.bodies import Received, body_of
from api.describe import CREATING, GUARDED, LISTED, described, takes
from api.idempotency import idempotent, mark
from api.queries import PageQuery
from api.requests import CreateTokenBody
from api.services import Wired
from domain.errors import DeploymentError, ErrorCode
from domain.page import Page
from domain.token import CreatedToken, Token

router = APIRouter(prefix="/v1", tags=["tokens"])

_EXAMPLE: dict[str, Any] = {"subject": "ci", "scopes": ["read", "deploy"], "projects": ["site"]}


@router.post(
    "/tokens",
    operation_id="createToken",
    summary="Create a token; its text is shown this once",
    openapi_extra=takes("CreateTokenRequest", _EXAMPLE),
    **described(201, CreatedToken, GUARDED, CREATING, headers=("Idempotency-Replayed",)),
)
async def create_token(
    request: Request,
    services: Wired,
    caller: Operator,
    body: Annotated[Received[CreateTokenBody], Depends(body_of(CreateTokenBody))],
) -> Response:
    made = await services.tokens.create(body.model, caller.subject, idempotent(request, body, ""))
    return mark(json_answer(made.answer, 201), replayed=made.replayed)


@router.get(
    "/tokens",
    operation_id="listTokens",
    summary="Tokens that are not revoked, newest first, without their texts",
    **described(200, Page[Token], GUARDED, LISTED, headers=("Link",)),
)
async def list_tokens(request: Request, services: Wired, caller: Operator, page: PageQuery) -> Response:
    del caller
    return page_answer(request, await services.tokens.list_tokens(page))


@router.delete(
    "/tokens/{token_id}",
    operation_id="revokeToken",
    summary="Revoke a token at once, its open streams included; not the one that asks",
    **described(204, None, GUARDED, ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
async def revoke_token(services: Wired, caller: Operator, token_id: str) -> Response:
    if token_id.lower() == caller.id:
        raise DeploymentError(ErrorCode.CONFLICT, "a token cannot revoke itself; use another one")
    await services.tokens.revoke(token_id, caller.subject)
    return Response(None, 204)
