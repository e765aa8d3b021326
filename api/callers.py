"""Who a bearer token stands for: one of an OpenID Connect issuer, else one of ours.

Rule: what cannot be a token of either kind costs no look-up.
"""

from domain.token import Token
from providers.oidc import Issuers
from store.tokens import TokenStore

MAX_TEXT = 16 * 1024


class Callers:
    def __init__(self, tokens: TokenStore, issuers: Issuers) -> None:
        self._tokens = tokens
        self._issuers = issuers

    async def find(self, text: str) -> Token | None:
        """None for one of ours that is unknown, expired or revoked.

        Raises:
            DeploymentError: unauthenticated, insufficient-permissions or unavailable, for a token of an issuer.
        """
        if len(text) > MAX_TEXT:
            return None
        return await self._issuers.find(text) or await self._tokens.find(text)

    async def close(self) -> None:
        await self._issuers.close()
