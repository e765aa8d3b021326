"""Netlify for one request: the credential that counts, the site, and what is read of it."""

from typing import Any

from domain.build import BuildRequest
from domain.errors import DeploymentError, ErrorCode
from providers.http import Answer, Call, Http, Trouble
from providers.netlify.calls import READ, READ_SITE, Deploy, Site
from providers.netlify.settings import Settings

TOKEN = "NETLIFY_TOKEN"  # noqa: S105 - the name of a secret
"""A project's own secret of this name wins over the operator's token."""

PRODUCTION = "production"


class Api:
    def __init__(self, http: Http, token: str | None, request: BuildRequest) -> None:
        token = request.secrets.get(TOKEN) or token
        if not token:
            message = f"there is no token for netlify: accepted is the project's secret {TOKEN}, or the operator's"
            raise DeploymentError(ErrorCode.INSUFFICIENT_PERMISSIONS, message)
        self.settings = Settings.read(request.provider_settings)
        self.production = request.environment == PRODUCTION
        self.check_turn = request.check_turn
        self._session = http.session(token, hide=request.secrets.values())

    @property
    def trouble(self) -> Trouble | None:
        return self._session.trouble

    async def call(self, call: Call, **sent: Any) -> Answer:
        """What the path of a call has beside the site and the account is named like what is sent."""
        known: dict[str, Any] = {"site": self.settings.site_id, "account": self.settings.account_id}
        filled = {name: value for name, value in known.items() if f"{{{name}}}" in call.path}
        return await self._session.call(call, **filled, **sent)

    async def deploy(self, build_id: str) -> Deploy | None:
        """None where Netlify has none of that id (any more)."""
        answer = await self.call(READ, id=build_id)
        return answer.read(Deploy) if answer.status == 200 else None

    async def site(self) -> Site:
        return (await self.call(READ_SITE)).read(Site)
