"""Who we are to GitHub: a token that somebody made, or an app whose tokens live for about an hour.

Rules:
1. A project's own GITHUB_TOKEN wins, then the operator's token, then the operator's app.
2. A token of the app is for one repository. It is renewed before it expires and once it is refused; its length says
   nothing.

Source: GitHub's pages on authenticating as an app and as an installation of one.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from domain.errors import DeploymentError, ErrorCode
from providers.github_pages.calls import CREATE_TOKEN, FIND_INSTALLATION, HEADERS, Installation, Token
from providers.http import Http

SPARE = timedelta(minutes=2)
"""A token that expires sooner is not used for a call any more."""
_CLOCKS_DIFFER = 60
_JWT_SECONDS = 540  # GitHub takes at most ten minutes


class Credential(Protocol):
    @property
    def account(self) -> str | None:
        """Whose limits count, where tokens change."""

    async def token(self) -> str: ...

    def refused(self, token: str) -> bool:
        """Says that GitHub did not take it; whether another one can be had."""


class PersonalToken:
    account = None

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self) -> str:
        return self._token

    def refused(self, token: str) -> bool:
        del token
        return False


class App:
    """A GitHub App: its id (or client id), and its private key as PEM; `\\n` may stand for line feeds."""

    def __init__(self, app_id: str, private_key: str) -> None:
        self.app_id = app_id
        self._key = _private_key(private_key)
        self._installed: dict[tuple[str, str], _InstalledApp] = {}

    def on(self, http: Http, owner: str, repo: str) -> Credential:
        key = (owner.lower(), repo.lower())
        return self._installed.setdefault(key, _InstalledApp(self, http, owner, repo))

    def signed(self) -> str:
        """What the app itself is known by, for some minutes."""
        now = int(time.time())
        claims = {"iat": now - _CLOCKS_DIFFER, "exp": now + _JWT_SECONDS, "iss": self.app_id}
        return jwt.encode(claims, self._key, algorithm="RS256")


class _InstalledApp:
    """The app in one repository."""

    def __init__(self, app: App, http: Http, owner: str, repo: str) -> None:
        self.account = f"app {app.app_id} of {owner}"
        self._app = app
        self._http = http
        self._owner = owner
        self._repo = repo
        self._token: Token | None = None
        self._making = asyncio.Lock()

    async def token(self) -> str:
        async with self._making:
            if self._token is None or self._token.expires_at < datetime.now(UTC) + SPARE:
                self._token = await self._make()
            return self._token.token

    def refused(self, token: str) -> bool:
        """Those who come with an old one do not take away the one that somebody else has made since."""
        if self._token is not None and self._token.token == token:
            self._token = None
        return True

    async def _make(self) -> Token:
        session = self._http.session(self._app.signed(), headers=HEADERS, account=f"app {self._app.app_id}")
        found = await session.call(FIND_INSTALLATION, owner=self._owner, repo=self._repo)
        if found.status == 404:
            raise DeploymentError(
                ErrorCode.INSUFFICIENT_PERMISSIONS,
                f"the GitHub App {self._app.app_id} is not installed on {self._owner}/{self._repo}, or there is no"
                " such repository",
            )
        installation = found.read(Installation)
        only = {"repositories": [self._repo]}
        return (await session.call(CREATE_TOKEN, json=only, id=str(installation.id))).read(Token)


def _private_key(pem: str) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.replace("\\n", "\n").encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise DeploymentError(
            ErrorCode.INVALID_REQUEST,
            "the private key of the GitHub App cannot be read: accepted is the PEM file that GitHub offered for it",
        )
    return key
