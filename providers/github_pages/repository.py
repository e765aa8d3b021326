"""One repository of GitHub, asked with the credential that counts for it.

Polls are conditional: GitHub does not count a 304 to the limit (its page on best practices for the REST API).
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from domain.errors import DeploymentError, ErrorCode
from providers.github_pages.calls import HEADERS
from providers.github_pages.credentials import Credential
from providers.http import Answer, Call, CallFailed, Http, Session

Shape = TypeVar("Shape")

PER_PAGE = 100
_MOVED = frozenset({301, 302, 307, 308})
_LONGEST_ETAG = 200


class Repository:
    def __init__(self, http: Http, credential: Credential, owner: str, repo: str, hide: Iterable[str] = ()) -> None:
        self.owner = owner
        self.repo = repo
        self._http = http
        self._credential = credential
        self._hide = tuple(hide)
        self._seen: dict[Any, tuple[str, Any]] = {}

    def __str__(self) -> str:
        return f"{self.owner}/{self.repo}"

    @property
    def is_encrypted(self) -> bool:
        return self._http.base_url.startswith("https:")

    async def ask(self, call: Call, **options: Any) -> Answer:
        """The answer. A refused token is renewed once: what was refused was not done."""
        token = await self._credential.token()
        try:
            return await self._call(token, call, options)
        except CallFailed as error:
            if error.status in _MOVED:
                raise self._moved() from None
            if error.status != 401 or not self._credential.refused(token):
                raise
        return await self._call(await self._credential.token(), call, options)

    async def look(self, call: Call, shape: type[Shape], **options: Any) -> Shape | None:
        """What is there, or None where nothing is (404); asked for only if it has changed since the last look."""
        key = (call.path, tuple(sorted(options.pop("params", {}).items())), tuple(sorted(options.items())))
        known: Shape | None
        etag, known = self._seen.get(key, ("", None))
        headers = {"If-None-Match": etag} if etag else {}
        answer = await self.ask(call, params=dict(key[1]), headers=headers, **options)
        if answer.status == 404:
            return None
        if answer.status != 304:
            known = answer.read(shape)
            etag = answer.headers.get("etag", "")
            self._seen[key] = (etag if len(etag) <= _LONGEST_ETAG else "", known)
        elif known is None:
            raise answer.unusable("nothing has changed since nothing was known")
        return known

    def elsewhere(self, link: str, host: str) -> Session:
        """Without credentials: a link to storage, whose host has limits and troubles of its own."""
        return self._http.session(None, base_url=link, account=host)

    async def _call(self, token: str, call: Call, options: dict[str, Any]) -> Answer:
        session = self._http.session(token, account=self._credential.account, hide=self._hide)
        headers = {**HEADERS, **options.get("headers", {})}
        return await session.call(call, **{**options, "headers": headers}, owner=self.owner, repo=self.repo)

    def _moved(self) -> DeploymentError:
        return DeploymentError(
            ErrorCode.INVALID_REQUEST,
            f"the repository {self} has moved: set owner and repo of providerSettings to its new place",
            fields=[("/providerSettings/repo", "has moved")],
        )
