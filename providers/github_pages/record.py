"""The GitHub Deployment and its statuses that are written beside, so that the repository's page shows the deployment.

Rules:
1. Looked up first, by our deployment id in its payload: however often it is tried, it is there once.
2. Best effort: what cannot be written is said by its caller, and keeps nobody from deploying.

Source: GitHub's pages on deployments; `auto_merge` and `required_contexts` are said, since their defaults may merge
branches or refuse.
"""

import json
from typing import Any

from domain.build import BuildRequest
from providers.base import BuildStage
from providers.github_pages.calls import (
    CREATE_DEPLOYMENT,
    CREATE_STATUS,
    LIST_DEPLOYMENTS,
    LIST_STATUSES,
    Deployment,
    DeploymentStatus,
)
from providers.github_pages.repository import PER_PAGE, Repository
from providers.github_pages.words import STATE_OF_STAGE

PAYLOAD_KEY = "headwayDeploymentId"
BEGUN = "in_progress"


class Record:
    def __init__(self, repository: Repository, request: BuildRequest, public_url: str | None) -> None:
        self._repository = repository
        self._request = request
        self._log_url = f"{public_url.rstrip('/')}/v1/deployments/{request.deployment_id}/logs" if public_url else None

    async def begin(self, commit: str) -> int:
        """The id of the one that is there, else of a new one; it says that the deployment is on its way."""
        deployment_id = await self._find(commit) or await self._create(commit)
        await self._say(deployment_id, BEGUN, None)
        return deployment_id

    async def end(self, deployment_id: int, stage: BuildStage, url: str | None) -> None:
        await self._say(deployment_id, STATE_OF_STAGE[stage], url)

    async def _find(self, commit: str) -> int | None:
        params = {"sha": commit, "environment": self._request.environment, "per_page": PER_PAGE}
        answer = await self._repository.ask(LIST_DEPLOYMENTS, params=params)
        ours = [entry.id for entry in answer.read(list[Deployment]) if self._is_ours(entry.payload)]
        return min(ours, default=None)

    def _is_ours(self, payload: Any) -> bool:
        """GitHub hands a payload back as it came, or as text."""
        try:
            payload = json.loads(payload) if isinstance(payload, str) else payload
        except (ValueError, RecursionError):
            return False
        return isinstance(payload, dict) and payload.get(PAYLOAD_KEY) == self._request.deployment_id

    async def _create(self, commit: str) -> int:
        deployment = {
            "ref": commit,
            "environment": self._request.environment,
            "description": "Deployed by Headway",
            "payload": {PAYLOAD_KEY: self._request.deployment_id},
            "auto_merge": False,
            "required_contexts": [],
        }
        answer = await self._repository.ask(CREATE_DEPLOYMENT, json=deployment)
        return answer.read(Deployment).id

    async def _say(self, deployment_id: int, state: str, url: str | None) -> None:
        """Once: also when an earlier try was not answered."""
        deployment = str(deployment_id)
        answer = await self._repository.ask(LIST_STATUSES, params={"per_page": PER_PAGE}, id=deployment)
        if state in {status.state for status in answer.read(list[DeploymentStatus])}:
            return
        status = {"state": state, "log_url": self._log_url, "environment_url": url}
        said = {name: value for name, value in status.items() if value is not None}
        await self._repository.ask(CREATE_STATUS, json=said, id=deployment)
