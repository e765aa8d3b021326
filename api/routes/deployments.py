"""Deployments: trigger, read, list, cancel, retry, result.

Rule: what is accepted is committed before it is answered; telling Temporal comes after, and may fail.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from api import reach
from api.answers import json_answer, page_answer, tagged_answer
from api.auth import Approver, Deployer, Reader, check_scope
from api.bodies import Received, body_of
from api.describe import BODY, CREATING, GUARDED, LISTED, described, takes
from api.idempotency import idempotent, mark
from api.limits import tell
from api.queries import PageQuery, Text, Truth
from api.requests import RetryBody, TriggerBody
from api.services import Services, Wired
from domain.deployment import (
    Deployment,
    ListDeploymentsOptions,
    RetryRequest,
    RollbackPreview,
    RollbackRequest,
    SortBy,
    SortOrder,
    TriggerDeploymentRequest,
)
from domain.errors import ErrorCode
from domain.page import Page
from domain.protection import DecisionRequest
from domain.result import DeploymentMetrics, DeploymentResult
from domain.states import Status
from domain.token import Scope, Token
from store.gate import Decision
from store.idempotency import Outcome

router = APIRouter(prefix="/v1", tags=["deployments"])

_EXAMPLE: dict[str, Any] = {"projectId": "site", "sourceRef": "main", "message": "the new front page"}
_LISTED_LINES = 20
"""Of each deployment's log in a list with `includeLogs`: its end, which says how it went."""

_ACCEPTED = ("ETag", "Location", "Idempotency-Replayed")
_REFUSED = (
    GUARDED,
    CREATING,
    ErrorCode.ALREADY_RUNNING,
    ErrorCode.ENVIRONMENT_NOT_FOUND,
    ErrorCode.INVALID_SOURCE_REF,
    ErrorCode.RATE_LIMITED,
)


@router.post(
    "/deployments",
    operation_id="triggerDeployment",
    summary="Trigger a deployment; it is durable before the answer",
    openapi_extra=takes("TriggerDeploymentRequest", _EXAMPLE),
    **described(202, Deployment, *_REFUSED, ErrorCode.PROJECT_NOT_FOUND, headers=_ACCEPTED, limited=True),
)
async def trigger_deployment(
    request: Request,
    services: Wired,
    caller: Deployer,
    body: Annotated[Received[TriggerBody], Depends(body_of(TriggerBody))],
) -> Response:
    project_id = (await reach.project(services, caller, body.model.project_id)).id
    _check_break_glass(caller, body.model, project_id)
    tell(request, project_id)
    made = await services.deployments.trigger(body.model, caller.subject, idempotent(request, body, project_id))
    return _accepted(request, services, made)


@router.post(
    "/deployments/{deployment_id}/retry",
    operation_id="retryDeployment",
    summary="Deploy once more what did not succeed, with its snapshot; the body overrides parts of it",
    openapi_extra=takes("RetryRequest", {}, required=False),
    **described(202, Deployment, *_REFUSED, ErrorCode.NOT_FOUND, headers=_ACCEPTED, limited=True),
)
async def retry_deployment(
    request: Request,
    services: Wired,
    caller: Deployer,
    deployment_id: str,
    body: Annotated[Received[RetryBody], Depends(body_of(RetryBody, optional=True))],
) -> Response:
    project_id = (await reach.deployment(services, caller, deployment_id)).project_id
    _check_break_glass(caller, body.model, project_id)
    tell(request, project_id)
    key = idempotent(request, body, project_id)
    made = await services.deployments.retry(deployment_id, body.model, caller.subject, key)
    return _accepted(request, services, made)


@router.post(
    "/deployments/{deployment_id}/rollback",
    operation_id="rollbackDeployment",
    summary="Go back to an earlier deployment, its configuration and its secrets; or see what would change",
    openapi_extra=takes("RollbackRequest", {}, required=False),
    **described(
        202,
        Deployment,
        GUARDED,
        CREATING,
        ErrorCode.NOT_FOUND,
        headers=_ACCEPTED,
        otherwise=(200, RollbackPreview, "with `dryRun=true`: what would change; nothing is done"),
    ),
)
async def rollback_deployment(
    *,
    request: Request,
    services: Wired,
    caller: Deployer,
    deployment_id: str,
    body: Annotated[Received[RollbackRequest], Depends(body_of(RollbackRequest, optional=True))],
    dry_run: Annotated[Truth, Query(alias="dryRun", description="only say what would change")] = False,
) -> Response:
    project_id = (await reach.deployment(services, caller, deployment_id)).project_id
    if dry_run:
        return json_answer(await services.deployments.preview_rollback(deployment_id, body.model))
    key = idempotent(request, body, project_id)
    made = await services.deployments.rollback(deployment_id, body.model, caller.subject, key)
    return _accepted(request, services, made)


@router.post(
    "/deployments/{deployment_id}/cancel",
    operation_id="cancelDeployment",
    summary="Ask for a deployment to be canceled; asking twice changes nothing",
    **described(202, Deployment, GUARDED, ErrorCode.NOT_FOUND, ErrorCode.CONFLICT, headers=("ETag",)),
)
async def cancel_deployment(request: Request, services: Wired, caller: Deployer, deployment_id: str) -> Response:
    await reach.deployment(services, caller, deployment_id)
    deployment = await services.deployments.request_cancel(deployment_id, caller.subject)
    delivery = services.delivery.cancel(deployment, f"asked for by {caller.subject}")
    services.background.start(delivery, f"cancel of {deployment.id}")
    return tagged_answer(request, deployment, 202)


async def _decide(
    request: Request, services: Services, caller: Token, deployment_id: str, *, decision: Decision, comment: str | None
) -> Response:
    await reach.deployment(services, caller, deployment_id)
    deployment = await services.gate.decide(deployment_id, caller.subject, decision, comment)
    services.background.start(services.delivery.wake(deployment), f"{decision} of {deployment.id}")
    return tagged_answer(request, deployment)


_DECIDED = described(200, Deployment, GUARDED, BODY, ErrorCode.NOT_FOUND, ErrorCode.CONFLICT, headers=("ETag",))


@router.post(
    "/deployments/{deployment_id}/approve",
    operation_id="approveDeployment",
    summary="Approve a deployment that waits for it: this ref, commit, configuration and target, and nothing else",
    openapi_extra=takes("DecisionRequest", {"comment": "seen on staging"}, required=False),
    **_DECIDED,
)
async def approve_deployment(
    request: Request,
    services: Wired,
    caller: Approver,
    deployment_id: str,
    body: Annotated[Received[DecisionRequest], Depends(body_of(DecisionRequest, optional=True))],
) -> Response:
    return await _decide(request, services, caller, deployment_id, decision="approve", comment=body.model.comment)


@router.post(
    "/deployments/{deployment_id}/reject",
    operation_id="rejectDeployment",
    summary="Reject a deployment that waits for approval: it is canceled",
    openapi_extra=takes("DecisionRequest", {"comment": "not on a Friday"}, required=False),
    **_DECIDED,
)
async def reject_deployment(
    request: Request,
    services: Wired,
    caller: Approver,
    deployment_id: str,
    body: Annotated[Received[DecisionRequest], Depends(body_of(DecisionRequest, optional=True))],
) -> Response:
    return await _decide(request, services, caller, deployment_id, decision="reject", comment=body.model.comment)


@router.get(
    "/deployments/{deployment_id}",
    operation_id="getDeployment",
    summary="One deployment",
    **described(200, Deployment, GUARDED, ErrorCode.NOT_FOUND, headers=("ETag",), unmodified=True),
)
async def get_deployment(request: Request, services: Wired, caller: Reader, deployment_id: str) -> Response:
    return tagged_answer(request, await reach.deployment(services, caller, deployment_id))


def _options(
    *,
    environment_id: Annotated[Text | None, Query(alias="environmentId")] = None,
    status: Annotated[list[Status], Query(description="any of these")] = [],  # noqa: B006  # FastAPI copies it
    triggered_by: Annotated[Text | None, Query(alias="triggeredBy", description="a token's subject")] = None,
    source_ref: Annotated[Text | None, Query(alias="sourceRef")] = None,
    sort_by: Annotated[SortBy, Query(alias="sortBy")] = "createdAt",
    sort_order: Annotated[SortOrder, Query(alias="sortOrder")] = "desc",
    include_logs: Annotated[Truth, Query(alias="includeLogs", description="with the end of each one's log")] = False,
) -> ListDeploymentsOptions:
    return ListDeploymentsOptions(
        environment_id=environment_id,
        status=status,
        triggered_by=triggered_by,
        source_ref=source_ref,
        sort_by=sort_by,
        sort_order=sort_order,
        include_logs=include_logs,
    )


@router.get(
    "/projects/{project_id}/deployments",
    operation_id="listDeployments",
    summary="Deployments of a project",
    **described(200, Page[Deployment], GUARDED, LISTED, ErrorCode.PROJECT_NOT_FOUND, headers=("Link",)),
)
async def list_deployments(
    *,
    request: Request,
    services: Wired,
    caller: Reader,
    project_id: str,
    options: Annotated[ListDeploymentsOptions, Depends(_options)],
    page: PageQuery,
) -> Response:
    reach.check_project(caller, project_id)
    found = await services.deployments.list_of_project(project_id, options, page)
    return page_answer(request, await _with_logs(services, found) if options.include_logs else found)


@router.get(
    "/deployments/{deployment_id}/result",
    operation_id="getResult",
    summary="What a deployment has to show; null until it has ended",
    **described(200, DeploymentResult | None, GUARDED, ErrorCode.NOT_FOUND),  # type: ignore[arg-type]  # FastAPI takes a union
)
async def get_result(services: Wired, caller: Reader, deployment_id: str) -> Response:
    await reach.deployment(services, caller, deployment_id)
    return json_answer(await services.deployments.result(deployment_id))


@router.get(
    "/deployments/{deployment_id}/metrics",
    operation_id="getMetrics",
    summary="The figures of a deployment's result; null until it has ended",
    **described(200, DeploymentMetrics | None, GUARDED, ErrorCode.NOT_FOUND),  # type: ignore[arg-type]  # FastAPI takes a union
)
async def get_metrics(services: Wired, caller: Reader, deployment_id: str) -> Response:
    await reach.deployment(services, caller, deployment_id)
    result = await services.deployments.result(deployment_id)
    return json_answer(result and result.metrics)


def _check_break_glass(caller: Token, asked: TriggerDeploymentRequest | RetryRequest, project_id: str) -> None:
    if asked.break_glass is not None:
        check_scope(caller, Scope.ADMIN, project_id)


def _accepted(request: Request, services: Services, made: Outcome[Deployment]) -> Response:
    deployment = made.answer
    services.metrics.triggers.labels(str(made.replayed).lower()).inc()
    if not made.replayed:
        services.background.start(services.delivery.start(deployment), f"start of {deployment.id}")
    answer = tagged_answer(request, deployment, 202, {"Location": f"/v1/deployments/{deployment.id}"})
    return mark(answer, replayed=made.replayed)


async def _with_logs(services: Services, page: Page[Deployment]) -> Page[Deployment]:
    ends = await services.logs.tails([deployment.id for deployment in page.items], _LISTED_LINES)
    items = [
        deployment.model_copy(update={"logs": [line.message for line in ends[deployment.id]]})
        for deployment in page.items
    ]
    return page.model_copy(update={"items": items})
