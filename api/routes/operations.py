"""What operators and their tools ask: does it live, is it ready, how is it doing; and which providers are there."""

from collections.abc import Awaitable
from typing import Literal

import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.answers import json_answer, page_answer
from api.auth import Reader
from api.describe import GUARDED, LISTED, described
from api.queries import ShortPageQuery
from api.services import ProviderEntry, Wired
from domain.errors import DeploymentError
from domain.page import Page
from domain.wire import Wire

router = APIRouter(tags=["operations"])

_log = structlog.get_logger()


class Health(Wire):
    status: Literal["ok"] = "ok"


class Readiness(Wire):
    """`dependencies` says `ok`, or why not."""

    status: Literal["ready", "unavailable"]
    dependencies: dict[str, str]


@router.get("/healthz", operation_id="getHealth", summary="The process lives", **described(200, Health))
async def get_health() -> Response:
    return json_answer(Health())


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Each dependency by name",
    **described(200, Readiness, otherwise=(503, Readiness, "one of them is not there")),
)
async def get_readiness(services: Wired) -> Response:
    dependencies = {
        "database": await _state(services.database.ping()),
        "temporal": await _state(services.workflows.ping()),
    }
    ready = all(state == "ok" for state in dependencies.values())
    readiness = Readiness(status="ready" if ready else "unavailable", dependencies=dependencies)
    return json_answer(readiness, 200 if ready else 503, {} if ready else {"Retry-After": "2"})


async def _state(question: Awaitable[None]) -> str:
    try:
        await question
    except DeploymentError as error:
        _log.warning("not ready", reason=error.message)
        # Everybody may ask: addresses and the like, which stand in brackets, are for our log.
        return error.message.partition(" (")[0]
    return "ok"


@router.get(
    "/metrics",
    operation_id="getPrometheusMetrics",
    summary="For Prometheus",
    **described(200, {"text/plain": {"schema": {"type": "string"}}}),
)
async def get_prometheus_metrics(services: Wired) -> Response:
    try:
        page = services.metrics.page(await services.deployments.count_by_status(), await services.reconciliation.last())
    except DeploymentError:
        page = services.metrics.page(None, None)
    return Response(page, headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get(
    "/v1/providers",
    operation_id="listProviders",
    summary="Providers that projects may name, with what each can do",
    **described(200, Page[ProviderEntry], GUARDED, LISTED),
)
async def list_providers(request: Request, services: Wired, caller: Reader, page: ShortPageQuery) -> Response:
    del caller
    found = services.providers[page.offset : page.offset + page.limit]
    whole = Page[ProviderEntry](
        items=list(found), total=len(services.providers), limit=page.limit, offset=page.offset, next_cursor=None
    )
    return page_answer(request, whole)
