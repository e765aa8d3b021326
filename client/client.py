"""The service from Python: each method one request, answered with the domain's models.

Rule: what the service refuses is raised as `DeploymentError`. A missing deployment, result or figure is None where the
service description says so. Receiving webhooks is the service's own side (`POST /v1/webhooks/{provider}`).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from client.transport import Params, Transport
from domain.audit import AuditEntry, AuditQuery, AuditReport
from domain.deployment import (
    Deployment,
    ListDeploymentsOptions,
    RetryRequest,
    RollbackPreview,
    RollbackRequest,
    TriggerDeploymentRequest,
)
from domain.errors import DeploymentError, ErrorCode
from domain.log import DeploymentLog, LogFilter, LogMatch
from domain.page import Page, PageRequest
from domain.project import (
    CreateEnvironmentRequest,
    CreateProjectRequest,
    Environment,
    Project,
    UpdateEnvironmentRequest,
    UpdateProjectRequest,
)
from domain.protection import DecisionRequest
from domain.reconciliation import Checkup
from domain.result import DeploymentMetrics, DeploymentResult
from domain.secret import SecretKeys
from domain.token import CreatedToken, CreateTokenRequest, Token
from domain.wire import Wire

_RESULT = TypeAdapter(DeploymentResult | None)
_METRICS = TypeAdapter(DeploymentMetrics | None)
_FIRST_PAGE = PageRequest()
_EVERY_LINE = LogFilter()
_MOST = 1000
"""Lines of one page."""

Item = TypeVar("Item")
_ALL = AuditQuery()


class DeploymentsClient:
    """Used as `async with DeploymentsClient(url, token) as client`; one for a program is enough."""

    def __init__(self, url: str, token: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._service = Transport(url, token, below=transport)
        self._subscriptions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._service.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for subscription in self._subscriptions:
            subscription.cancel()
        await self._service.__aexit__(kind, error, trace)

    # --- deployments ---

    async def trigger_deployment(self, request: TriggerDeploymentRequest) -> Deployment:
        """Accepted and durable when this returns. With a key of its own, or one that is made here, it is sent again
        when its answer is lost, and stays one deployment."""
        return Deployment.model_validate_json(await self._service.create("/v1/deployments", request))

    async def get_deployment(self, deployment_id: str) -> Deployment | None:
        try:
            return Deployment.model_validate_json(await self._service.get(_deployment(deployment_id)))
        except DeploymentError as error:
            if error.code is ErrorCode.NOT_FOUND:
                return None
            raise

    async def list_deployments(
        self, project_id: str, options: ListDeploymentsOptions | None = None, page: PageRequest = _FIRST_PAGE
    ) -> Page[Deployment]:
        params = {**_params(options or ListDeploymentsOptions()), **_params(page)}
        answer = await self._service.get(f"{_project(project_id)}/deployments", params)
        return Page[Deployment].model_validate_json(answer)

    async def cancel_deployment(self, deployment_id: str) -> Deployment:
        """Asks for it; the deployment ends as `canceled` soon after."""
        return Deployment.model_validate_json(await self._service.post(f"{_deployment(deployment_id)}/cancel"))

    async def retry_deployment(self, deployment_id: str, overrides: RetryRequest | None = None) -> Deployment:
        answer = await self._service.create(f"{_deployment(deployment_id)}/retry", overrides or RetryRequest())
        return Deployment.model_validate_json(answer)

    async def rollback(self, deployment_id: str, target_deployment_id: str | None = None) -> Deployment:
        """A new deployment of what `target_deployment_id` was, or of the last that succeeded before."""
        asked = RollbackRequest(target_deployment_id=target_deployment_id)
        answer = await self._service.create(f"{_deployment(deployment_id)}/rollback", asked)
        return Deployment.model_validate_json(answer)

    async def preview_rollback(self, deployment_id: str, target_deployment_id: str | None = None) -> RollbackPreview:
        """What `rollback` would change; nothing is done."""
        asked = RollbackRequest(target_deployment_id=target_deployment_id)
        path = f"{_deployment(deployment_id)}/rollback?dryRun=true"
        return RollbackPreview.model_validate_json(await self._service.post(path, asked))

    async def approve_deployment(self, deployment_id: str, said: DecisionRequest | None = None) -> Deployment:
        return await self._decide(deployment_id, "approve", said)

    async def reject_deployment(self, deployment_id: str, said: DecisionRequest | None = None) -> Deployment:
        return await self._decide(deployment_id, "reject", said)

    async def _decide(self, deployment_id: str, decision: str, said: DecisionRequest | None) -> Deployment:
        path = f"{_deployment(deployment_id)}/{decision}"
        return Deployment.model_validate_json(await self._service.post(path, said or DecisionRequest()))

    async def check_up(self) -> Checkup:
        """What each part of the service says, and a look at records and workflows side by side, made now."""
        return Checkup.model_validate_json(await self._service.post("/v1/doctor"))

    # --- logs, results, figures ---

    async def get_logs(
        self,
        deployment_id: str,
        wanted: LogFilter = _EVERY_LINE,
        *,
        limit: int = 1000,
        offset: int = 0,
        after: int = 0,
        tail: int | None = None,
    ) -> list[DeploymentLog]:
        """What is stored: `limit` lines at most; the ones after line `after`, or the last `tail`."""
        params: dict[str, Any] = {**_log_params(wanted), "offset": offset, "after": after}
        if tail is not None:
            params["tail"] = tail
        path = f"{_deployment(deployment_id)}/logs"
        return [line async for line in self._entries(Page[DeploymentLog], path, params, limit)]

    async def search_logs(
        self, project_id: str, wanted: LogFilter, *, context: int = 0, limit: int = 1000
    ) -> AsyncGenerator[LogMatch, None]:
        """Lines of all the project's logs, the newest deployment first, each with so many lines around it."""
        params = {**_log_params(wanted), "context": context}
        path = f"{_project(project_id)}/logs/search"
        async with aclosing(self._entries(Page[LogMatch], path, params, limit)) as matches:
            async for match in matches:
                yield match

    async def _entries(
        self, kind: type[Page[Item]], path: str, params: Params, limit: int
    ) -> AsyncGenerator[Item, None]:
        """The first `limit`. Looking for lines has a time budget: pages may be short, or empty."""
        while limit > 0:
            page = kind.model_validate_json(await self._service.get(path, {**params, "limit": min(limit, _MOST)}))
            for item in page.items:
                yield item
            if page.next_cursor is None:
                return
            limit -= len(page.items)
            kept = {name: value for name, value in params.items() if name != "offset"}
            params = {**kept, "cursor": page.next_cursor}

    async def stream_logs(
        self, deployment_id: str, wanted: LogFilter = _EVERY_LINE, *, follow: bool = True, after: int = 0
    ) -> AsyncGenerator[DeploymentLog, None]:
        """Every line after line `after`, those to come included, each once, until the deployment has ended."""
        params = {**_log_params(wanted), "follow": str(follow).lower()}
        path = f"{_deployment(deployment_id)}/logs/stream"
        async with aclosing(self._service.events(path, params, after=str(after))) as events:
            async for event in events:
                yield DeploymentLog.model_validate_json(event.document)

    async def get_results(self, deployment_id: str) -> DeploymentResult | None:
        return _RESULT.validate_json(await self._service.get(f"{_deployment(deployment_id)}/result"))

    async def get_metrics(self, deployment_id: str) -> DeploymentMetrics | None:
        return _METRICS.validate_json(await self._service.get(f"{_deployment(deployment_id)}/metrics"))

    # --- status, as it changes ---

    async def follow_deployment(self, deployment_id: str) -> AsyncGenerator[Deployment, None]:
        """Each change from the first one on, until it has ended."""
        async with aclosing(self._service.events(f"{_deployment(deployment_id)}/events", {})) as events:
            async for event in events:
                yield Deployment.model_validate_json(event.document)

    async def follow_project(self, project_id: str) -> AsyncGenerator[Deployment, None]:
        """Each change of any of its deployments from now on."""
        async with aclosing(self._service.events(f"{_project(project_id)}/events", {})) as events:
            async for event in events:
                yield Deployment.model_validate_json(event.document)

    async def wait_for_end(self, deployment_id: str) -> Deployment:
        async with aclosing(self.follow_deployment(deployment_id)) as changes:
            async for deployment in changes:
                if deployment.ended:
                    return deployment
        raise DeploymentError(ErrorCode.INTERNAL, f"the events of {deployment_id} ended before it did")

    def subscribe_to_deployment_status(
        self, deployment_id: str, callback: Callable[[Deployment], None]
    ) -> Callable[[], None]:
        """Calls back until what is returned is called. Who has to know of errors uses `follow_deployment`."""
        return self._subscribe(self.follow_deployment(deployment_id), callback)

    def subscribe_to_project_deployments(
        self, project_id: str, callback: Callable[[Deployment], None]
    ) -> Callable[[], None]:
        return self._subscribe(self.follow_project(project_id), callback)

    def _subscribe(
        self, changes: AsyncGenerator[Deployment, None], callback: Callable[[Deployment], None]
    ) -> Callable[[], None]:
        async def pass_on() -> None:
            async with aclosing(changes):
                async for deployment in changes:
                    callback(deployment)

        task = asyncio.create_task(pass_on())
        self._subscriptions.add(task)
        task.add_done_callback(self._subscriptions.discard)

        def unsubscribe() -> None:
            task.cancel()

        return unsubscribe

    # --- projects and environments ---

    async def create_project(self, project: CreateProjectRequest) -> Project:
        return Project.model_validate_json(await self._service.create("/v1/projects", project))

    async def get_project(self, project_id: str) -> Project | None:
        try:
            return Project.model_validate_json(await self._service.get(_project(project_id)))
        except DeploymentError as error:
            if error.code is ErrorCode.PROJECT_NOT_FOUND:
                return None
            raise

    async def list_projects(self, page: PageRequest = _FIRST_PAGE) -> Page[Project]:
        return Page[Project].model_validate_json(await self._service.get("/v1/projects", _params(page)))

    async def update_project(self, project_id: str, changes: UpdateProjectRequest) -> Project:
        return Project.model_validate_json(await self._service.patch(_project(project_id), changes))

    async def create_environment(self, project_id: str, environment: CreateEnvironmentRequest) -> Environment:
        answer = await self._service.create(f"{_project(project_id)}/environments", environment)
        return Environment.model_validate_json(answer)

    async def list_environments(self, project_id: str) -> list[Environment]:
        """All of them, however many pages that takes."""
        found: list[Environment] = []
        page = PageRequest(limit=100)
        while True:
            answer = await self._service.get(f"{_project(project_id)}/environments", _params(page))
            part = Page[Environment].model_validate_json(answer)
            found += part.items
            if part.next_cursor is None:
                return found
            page = PageRequest(limit=100, cursor=part.next_cursor)

    async def update_environment(self, environment_id: str, changes: UpdateEnvironmentRequest) -> Environment:
        path = f"/v1/environments/{quote(environment_id, safe='')}"
        return Environment.model_validate_json(await self._service.patch(path, changes))

    async def delete_environment(self, environment_id: str) -> None:
        await self._service.delete(f"/v1/environments/{quote(environment_id, safe='')}")

    # --- the audit, and tokens ---

    async def list_audit(self, wanted: AuditQuery = _ALL, page: PageRequest = _FIRST_PAGE) -> Page[AuditEntry]:
        """Who changed what, newest first."""
        answer = await self._service.get("/v1/audit", {**_params(wanted), **_params(page)})
        return Page[AuditEntry].model_validate_json(answer)

    async def export_audit(self, wanted: AuditQuery = _ALL) -> AsyncGenerator[AuditEntry, None]:
        """All that match, oldest first. Where it breaks off, that is an error."""
        async with aclosing(self._service.lines("/v1/audit", _params(wanted))) as lines:
            async for line in lines:
                yield AuditEntry.model_validate_json(line)

    async def verify_audit(self, project_id: str | None = None, anchors: Sequence[str] = ()) -> AuditReport:
        """Whether each entry is as it was written; `anchors` are what an earlier report said of its chains."""
        params: dict[str, Any] = {"anchor": list(anchors)}
        if project_id is not None:
            params["projectId"] = project_id
        return AuditReport.model_validate_json(await self._service.get("/v1/audit/verify", params))

    async def list_secret_keys(self) -> SecretKeys:
        """The service's secret keys by their ids, and how many values each of them still seals."""
        return SecretKeys.model_validate_json(await self._service.get("/v1/secret-keys", {}))

    async def create_token(self, token: CreateTokenRequest) -> CreatedToken:
        """Its text is in the answer, and nowhere afterwards."""
        return CreatedToken.model_validate_json(await self._service.create("/v1/tokens", token))

    async def list_tokens(self, page: PageRequest = _FIRST_PAGE) -> Page[Token]:
        return Page[Token].model_validate_json(await self._service.get("/v1/tokens", _params(page)))

    async def revoke_token(self, token_id: str) -> None:
        await self._service.delete(f"/v1/tokens/{quote(token_id, safe='')}")


def _deployment(deployment_id: str) -> str:
    return f"/v1/deployments/{quote(deployment_id, safe='')}"


def _project(project_id: str) -> str:
    return f"/v1/projects/{quote(project_id, safe='')}"


def _params(said: Wire) -> Params:
    return said.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _log_params(wanted: LogFilter) -> Params:
    params = dict(_params(wanted))
    return {"q" if name == "query" else name: value for name, value in params.items()}
