"""Who asks, and what of it they may see. Decided here alone.

Rule: what a token does not reach answers exactly like what does not exist; a missing scope is said plainly.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.services import Services, Wired
from domain.errors import DeploymentError, ErrorCode
from domain.token import EVERY_PROJECT, Scope, Token
from store import audit

_DESCRIPTION = (
    "A token of `POST /v1/tokens`, the operator's first one, or one of an OpenID Connect issuer that is trusted."
)
_BEARER = HTTPBearer(auto_error=False, description=_DESCRIPTION)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


def _needs(scope: Scope) -> Callable[[Services, Credentials], Awaitable[Token]]:
    async def caller(services: Wired, credentials: Credentials) -> Token:
        token = await services.callers.find(credentials.credentials) if credentials else None
        if token is None:
            raise DeploymentError(
                ErrorCode.UNAUTHENTICATED, "send 'Authorization: Bearer TOKEN' with a token that is valid"
            )
        check_scope(token, scope)
        audit.note_token(token.id)
        return token.within(scope)

    return caller


def check_scope(token: Token, scope: Scope, project_id: str | None = None) -> None:
    """That it has the scope: in that project, where one is named, else in any.

    Raises:
        DeploymentError: insufficient-permissions.
    """
    if not token.may(scope):
        raise DeploymentError(
            ErrorCode.INSUFFICIENT_PERMISSIONS, f"this token lacks the scope '{scope}'; it has: {_scopes(token)}"
        )
    if project_id is not None and not token.within(scope).reaches(project_id):
        raise DeploymentError(
            ErrorCode.INSUFFICIENT_PERMISSIONS,
            f"this token has the scope '{scope}', but not in the project {project_id}",
        )


def _scopes(token: Token) -> str:
    return ", ".join(token.scopes)


Reader = Annotated[Token, Depends(_needs(Scope.READ))]
Deployer = Annotated[Token, Depends(_needs(Scope.DEPLOY))]
Approver = Annotated[Token, Depends(_needs(Scope.APPROVE))]
Admin = Annotated[Token, Depends(_needs(Scope.ADMIN))]


async def _operator(caller: Admin) -> Token:
    if EVERY_PROJECT not in caller.projects:
        raise DeploymentError(
            ErrorCode.INSUFFICIENT_PERMISSIONS, "this is for tokens of all projects; this one is bound to some"
        )
    return caller


Operator = Annotated[Token, Depends(_operator)]
"""An admin of all projects."""
