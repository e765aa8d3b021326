"""Whose OpenID Connect tokens are trusted, and what their claims allow: the operator's setting, and how it is read.

Rules:
1. A rule fits a token when each of its claims matches, as the very value or as a glob. Of a list, one entry is enough.
2. All rules that fit add up; each scope holds in the projects of its own rules alone.
3. Messages name claims, never what is in them.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator

from domain.errors import DeploymentError, ErrorCode
from domain.token import Grant, GrantedToken, ProjectName, Scope
from domain.wire import Request

ACCEPTED = (
    '[{"issuer": "https://…", "audience": "…", "rules":'
    ' [{"claims": {"NAME": "VALUE or GLOB"}, "scopes": ["deploy"], "projects": ["site"]}]}]'
)
SUBJECT = "oidc:{sub}"
"""Who it is, where no rule says so."""

_LONGEST_SUBJECT = 200
_SHOWN_CLAIMS = 40
_CLAIM_IN_SUBJECT = re.compile(r"\{([^{}]+)\}")

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class ClaimRule(Request):
    claims: dict[Name, Pattern]
    scopes: list[Scope] = Field(min_length=1)
    projects: list[ProjectName] = Field(min_length=1)
    subject: str | None = Field(default=None, min_length=1, max_length=_LONGEST_SUBJECT)

    @field_validator("claims")
    @classmethod
    def _not_everybody(cls, claims: dict[str, str]) -> dict[str, str]:
        if not claims:
            raise ValueError('name at least one claim; {"sub": "*"} is every token of this issuer')
        return claims

    @field_validator("subject")
    @classmethod
    def _template(cls, subject: str | None) -> str | None:
        if subject is not None and re.search(r"[{}\x00-\x1f]", _CLAIM_IN_SUBJECT.sub("", subject)):
            raise ValueError("accepted is text with names of claims in braces, such as github:{repository}")
        return subject

    def fits(self, claims: Mapping[str, Any]) -> bool:
        """Also that the claims are there which `subject` is made of."""
        needed = _CLAIM_IN_SUBJECT.findall(self.subject or "")
        return all(_matches(claims.get(name), pattern) for name, pattern in self.claims.items()) and all(
            _text(claims.get(name)) for name in needed
        )


class TrustedIssuer(Request):
    issuer: Annotated[str, StringConstraints(max_length=1000)]
    audience: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    rules: list[ClaimRule] = Field(min_length=1)

    @field_validator("issuer")
    @classmethod
    def _address(cls, url: str) -> str:
        if not _is_address(url):
            raise ValueError(
                "accepted is https://HOST/PATH as the issuer itself writes it, without query and credentials;"
                " http:// on loopback alone"
            )
        return url

    def admit(self, claims: Mapping[str, Any]) -> GrantedToken:
        """Who that is and what they may, of claims that are verified.

        Raises:
            DeploymentError: insufficient-permissions.
        """
        rules = [rule for rule in self.rules if rule.fits(claims)]
        if not rules:
            names = sorted(name[:80] for name in claims if name.isprintable())
            raise DeploymentError(
                ErrorCode.INSUFFICIENT_PERMISSIONS,
                "this token is valid, but no rule of this service fits its claims;"
                f" it has: {', '.join(names[:_SHOWN_CLAIMS])}",
            )
        template = next((rule.subject for rule in rules if rule.subject), SUBJECT)
        return GrantedToken(
            id=_fingerprint(claims),
            subject=_filled(template, claims),
            scopes=sorted({scope for rule in rules for scope in rule.scopes}),
            projects=sorted({project for rule in rules for project in rule.projects}),
            grants=[Grant(scopes=rule.scopes, projects=rule.projects) for rule in rules],
            created_at=datetime.now(UTC),
        )


def check_together(issuers: Sequence[TrustedIssuer]) -> None:
    """Raises ValueError where issuers cannot be told apart: each is there once, and no two have a `sub` in common."""
    names = [trusted.issuer for trusted in issuers]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the issuer {name} is there twice; accepted: once, with all its rules")
    for trusted in issuers:
        if len(issuers) > 1 and any(rule.subject is None for rule in trusted.rules):
            raise ValueError(
                f"a rule of {trusted.issuer} has no subject; with several issuers each rule needs one,"
                " such as github:{sub}, since two issuers may give the same sub to different people"
            )


def _matches(claim: Any, pattern: str) -> bool:
    entries = claim if isinstance(claim, list) else [claim]
    return any(text == pattern or fnmatchcase(text, pattern) for text in map(_text, entries) if text is not None)


def _text(claim: Any) -> str | None:
    """A claim's value as patterns see it. None for what has no one text."""
    match claim:
        case bool():
            return str(claim).lower()
        case str():
            return claim
        case int() if abs(claim) < 2**63:
            return str(claim)
        case _:
            return None


def _filled(template: str, claims: Mapping[str, Any]) -> str:
    subject = _CLAIM_IN_SUBJECT.sub(lambda name: _text(claims[name[1]]) or "", template)
    if not subject.isprintable() or len(subject) > _LONGEST_SUBJECT:
        raise DeploymentError(
            ErrorCode.INSUFFICIENT_PERMISSIONS,
            f"the subject {template} of this token cannot be used;"
            f" accepted are up to {_LONGEST_SUBJECT} printable characters",
        )
    return subject


def _fingerprint(claims: Mapping[str, Any]) -> str:
    """Names the token in the audit: by its own id where the issuer gives one, else by whom it is about."""
    kind = "jti" if isinstance(claims.get("jti"), str) else "sub"
    told = "\0".join([claims["iss"], kind, claims[kind]])
    # JSON can have half a character (a lone surrogate), which UTF-8 has not; the library lets it by.
    return "oidc-" + hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _is_address(url: str) -> bool:
    if not url.isascii() or not url.isprintable() or any(character in url for character in " ?#@\\{}"):
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError when it is not a number
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
