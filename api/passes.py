"""Whether the token of an open stream is still valid: asked once a second for all streams of a token together."""

import time
from collections.abc import Awaitable, Callable

from fastapi.security import HTTPAuthorizationCredentials

from api.callers import Callers
from domain.errors import DeploymentError

_FRESH_SECONDS = 0.5


class Passes:
    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._known: dict[str, tuple[float, bool]] = {}

    def of(self, credentials: HTTPAuthorizationCredentials | None) -> Callable[[], Awaitable[bool]]:
        """The question for one stream."""
        return lambda: self.valid(credentials.credentials if credentials else "")

    async def valid(self, text: str) -> bool:
        """A database or an issuer that is out of reach revokes nothing: then the last answer holds."""
        asked, answer = self._known.get(text, (0.0, True))
        if time.monotonic() - asked < _FRESH_SECONDS:
            return answer
        try:
            answer = await self._callers.find(text) is not None
        except DeploymentError as error:
            if error.retryable:
                return answer
            answer = False
        self._forget_old()
        self._known[text] = (time.monotonic(), answer)
        return answer

    def _forget_old(self) -> None:
        now = time.monotonic()
        self._known = {text: entry for text, entry in self._known.items() if now - entry[0] < 2 * _FRESH_SECONDS}
