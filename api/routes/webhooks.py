"""Webhooks of providers and git hosts: verified, stored, answered; and their list, for admins.

Rule: the signature is what lets a sender in. Before it holds, nothing of a delivery is read, and nothing that is
answered tells which projects there are.
"""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from api.answers import json_answer, page_answer
from api.auth import Operator
from api.bodies import check_type, parsed
from api.describe import BODY, GUARDED, LISTED, REFERENCE, described
from api.problems import Refused
from api.queries import PageQuery
from api.reach import PROJECT_ID
from api.services import Services, Wired
from domain.errors import DeploymentError, ErrorCode
from domain.page import Page
from domain.webhook import Receipt, Webhook, WebhookSender, WebhookState
from providers.webhooks.senders import ALL, BY_NAME, Sender, as_described, secrets_of
from store.webhook_intake import Origin
from store.webhooks import Named

router = APIRouter(prefix="/v1", tags=["webhooks"])

BODY_SECONDS = 10.0
"""How long a body may take. GitHub, for one, waits no longer for the whole."""

SenderName = Annotated[str, Path(description="who sends it", json_schema_extra={"enum": sorted(BY_NAME)})]

_TAKES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "what the sender sends, signed as it signs: see docs/webhooks.md",
        "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model="JsonObject")}}},
    }
}
_RECEIVED = described(
    202,
    Receipt,
    BODY,
    GUARDED,
    408,
    ErrorCode.NOT_FOUND,
    ErrorCode.PROJECT_NOT_FOUND,
    what="stored; what came before is answered in the same way, and counts once",
)


@router.post(
    "/webhooks/{provider}",
    operation_id="receiveWebhook",
    summary="Take a webhook: open to whoever signs it with the operator's secret for the sender",
    openapi_extra=_TAKES,
    **_RECEIVED,
)
async def receive_webhook(request: Request, services: Wired, provider: SenderName) -> Response:
    return await _receive(request, services, _sender(provider), None)


@router.post(
    "/webhooks/{provider}/{project_id}",
    operation_id="receiveProjectWebhook",
    summary="Take a webhook for one project, signed with its own secret or, where it has none, the operator's",
    openapi_extra=_TAKES,
    **_RECEIVED,
)
async def receive_project_webhook(request: Request, services: Wired, provider: SenderName, project_id: str) -> Response:
    return await _receive(request, services, _sender(provider), project_id)


@router.get(
    "/webhooks",
    operation_id="listWebhooks",
    summary="Webhooks that were taken, newest first, and what became of each",
    **described(200, Page[Webhook], GUARDED, LISTED, headers=("Link",)),
)
async def list_webhooks(
    *,
    request: Request,
    services: Wired,
    caller: Operator,
    provider: Annotated[WebhookSender | None, Query(description="who sent it")] = None,
    state: Annotated[WebhookState | None, Query()] = None,
    page: PageQuery,
) -> Response:
    del caller
    return page_answer(request, await services.webhooks.list_webhooks(page, sender=provider, state=state))


async def _receive(request: Request, services: Services, sender: Sender, project_id: str | None) -> Response:
    secrets = services.webhook_secrets.get(sender.name, [])
    project = None
    if project_id is None:
        _check_configured(sender, secrets)
    elif (project := await _project(services, project_id)) is not None:
        sender = as_described(sender, project.provider_settings)
        secrets = secrets_of(project.secrets.get(sender.secret_name)) or secrets
    body = await _body(request)
    check_type(request)
    headers = {name: ", ".join(request.headers.getlist(name)) for name in request.headers}
    if not sender.verify(headers, body, secrets, time.time()):
        raise _unsigned(sender)
    if project_id is not None and project is None:
        raise DeploymentError(ErrorCode.PROJECT_NOT_FOUND, f"there is no project {project_id[:64]}")
    document = parsed(body)
    if not isinstance(document, dict):
        raise Refused(400, "the body is not a JSON object, which is what webhooks are")
    origin = Origin(sender.name, sender.provider, project_id)
    receipt = await services.webhooks.receive(origin, sender.read(headers, body, document))
    if receipt.state == "pending" and not receipt.duplicate:
        services.background.start(services.delivery.webhooks(), "what webhooks brought")
    return json_answer(receipt, 202)


def _sender(name: str) -> Sender:
    if name not in BY_NAME:
        known = ", ".join(sender.name for sender in ALL)
        raise DeploymentError(ErrorCode.NOT_FOUND, f"webhooks of {name[:64]!r} are not known; accepted: {known}")
    return BY_NAME[name]


def _check_configured(sender: Sender, secrets: list[str]) -> None:
    """Where no secret is set nobody can sign, and nothing unsigned is taken."""
    if secrets:
        return
    named = f"name a project that has the secret {sender.secret_name}: /v1/webhooks/{sender.name}/PROJECT"
    ways = named if sender.provider is None else f"set HEADWAY_{sender.secret_name}, or {named}"
    raise DeploymentError(
        ErrorCode.INSUFFICIENT_PERMISSIONS, f"webhooks of {sender.name} are not accepted here; to change that, {ways}"
    )


async def _project(services: Services, project_id: str) -> Named | None:
    return await services.webhooks.project(project_id) if PROJECT_ID.fullmatch(project_id) else None


async def _body(request: Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.body()
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_SECONDS:g} s") from None


def _unsigned(sender: Sender) -> DeploymentError:
    return DeploymentError(
        ErrorCode.UNAUTHENTICATED,
        f"no signature that holds; accepted: {sender.header} of this very body, by the secret that is set here for"
        f" {sender.name}, not older than the scheme allows",
    )
