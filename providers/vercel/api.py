"""Vercel for one request: the credential that counts, the project and its team, and what is read of them."""

from contextlib import AbstractAsyncContextManager
from typing import Any

from domain.build import BuildRequest
from domain.errors import DeploymentError, ErrorCode
from providers.http import Answer, Call, Http, LineReader, Params, Trouble
from providers.vercel.calls import READ, READ_PROJECT, Deployment, Project
from providers.vercel.settings import Settings

TOKEN = "VERCEL_TOKEN"  # noqa: S105 - the name of a secret
"""A project's own secret of this name wins over the operator's token."""


class Api:
    def __init__(self, http: Http, token: str | None, request: BuildRequest) -> None:
        token = request.secrets.get(TOKEN) or token
        if not token:
            message = f"there is no token for vercel: accepted is the project's secret {TOKEN}, or the operator's"
            raise DeploymentError(ErrorCode.INSUFFICIENT_PERMISSIONS, message)
        self.settings = Settings.read(request.provider_settings)
        self.target = self.settings.target_of(request)
        self.check_turn = request.check_turn
        self._session = http.session(token, hide=request.secrets.values())

    @property
    def trouble(self) -> Trouble | None:
        return self._session.trouble

    async def call(self, call: Call, *, params: Params | None = None, json: Any = None, **names: Any) -> Answer:
        return await self._session.call(call, params=self._with_team(params), json=json, **names)

    def stream(self, call: Call, params: Params, **names: Any) -> AbstractAsyncContextManager[LineReader]:
        headers = {"Accept": "application/stream+json"}
        return self._session.stream(call, params=self._with_team(params), headers=headers, **names)

    async def deployment(self, build_id: str) -> Deployment | None:
        """None where Vercel has none of that id (any more)."""
        answer = await self.call(READ, id=build_id)
        return answer.read(Deployment) if answer.status == 200 else None

    async def project(self) -> Project:
        return (await self.call(READ_PROJECT, project=self.settings.project)).read(Project)

    def _with_team(self, params: Params | None) -> Params:
        """Nearly every call needs the team; without it Vercel looks in the personal account."""
        return {"teamId": self.settings.team_id, **(params or {})}
