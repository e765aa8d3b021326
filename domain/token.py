"""Who may do what: a token's scopes and the projects that it is bound to."""

import hashlib
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from domain.wire import Request, Timestamp, Wire

EVERY_PROJECT = "*"


class Scope(StrEnum):
    READ = "read"
    DEPLOY = "deploy"
    APPROVE = "approve"
    ADMIN = "admin"


ProjectName = Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9-]{0,62}|\*)$")]


class Token(Wire):
    """A token without its text, which is shown once."""

    id: str
    subject: str
    scopes: list[Scope]
    projects: list[str]
    expires_at: Timestamp | None = None
    created_at: Timestamp

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes

    def reaches(self, project_id: str) -> bool:
        return EVERY_PROJECT in self.projects or project_id in self.projects

    def within(self, scope: Scope) -> "Token":
        """The token as far as it has that scope: here everywhere alike."""
        del scope
        return self


class Grant(Wire):
    """Scopes, and the projects that they hold in."""

    scopes: list[Scope]
    projects: list[str]


class GrantedToken(Token):
    """A token of several grants: each scope reaches the projects of the grants that give it, and no others."""

    grants: list[Grant]

    def within(self, scope: Scope) -> Token:
        reached = {project for grant in self.grants if scope in grant.scopes for project in grant.projects}
        return self.model_copy(update={"projects": sorted(reached)})


class CreatedToken(Token):
    token: str = Field(description="shown this once")


class CreateTokenRequest(Request):
    subject: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
    scopes: list[Scope] = Field(min_length=1)
    projects: list[ProjectName] = Field(min_length=1)
    expires_at: Timestamp | None = None


def fingerprint(token: str) -> bytes:
    """What is kept of a token. It has 256 random bits, so a plain SHA-256 cannot be searched."""
    return hashlib.sha256(token.encode()).digest()
