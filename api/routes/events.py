"""Changes of status as streams: each is the whole deployment."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response

from api import reach
from api.auth import Credentials, Reader
from api.describe import GUARDED, LISTED, described
from api.services import Wired
from api.streams import After, Entry, Event, LastEventId, content, follow, position, stream_answer
from domain.errors import ErrorCode
from domain.states import TERMINAL
from store.events import StatusChange

router = APIRouter(prefix="/v1", tags=["events"])


@router.get(
    "/deployments/{deployment_id}/events",
    operation_id="streamDeploymentEvents",
    summary="Each change of a deployment's status, from its beginning until it has ended",
    **described(
        200,
        content("deployment", "Deployment"),
        GUARDED,
        LISTED,
        ErrorCode.NOT_FOUND,
        what="events `deployment`, each a Deployment with its version as id, then one `end`",
    ),
)
async def stream_deployment_events(
    *,
    request: Request,
    services: Wired,
    caller: Reader,
    credentials: Credentials,
    deployment_id: str,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response:
    deployment = await reach.deployment(services, caller, deployment_id)

    async def read(cursor: int) -> tuple[list[Event], bool]:
        status = (await services.deployments.get(deployment.id)).status
        return _events(await services.events.of_deployment(deployment.id, cursor)), status in TERMINAL

    async def entries() -> AsyncIterator[Entry]:
        start = position(after, last_event_id)
        async with services.listener.watch(deployment.id) as wake:
            async for entry in follow(wake, read, start, services.passes.of(credentials)):
                yield entry

    return stream_answer(request, services, "deployment", entries())


@router.get(
    "/projects/{project_id}/events",
    operation_id="streamProjectEvents",
    summary="Each change of status of a project's deployments, from now on unless told otherwise; it does not end",
    **described(
        200,
        content("deployment", "Deployment"),
        GUARDED,
        LISTED,
        ErrorCode.PROJECT_NOT_FOUND,
        what="events `deployment`, each a Deployment; ids count within the project",
    ),
)
async def stream_project_events(
    *,
    request: Request,
    services: Wired,
    caller: Reader,
    credentials: Credentials,
    project_id: str,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response:
    project = await reach.project(services, caller, project_id)
    start = position(after, last_event_id, otherwise=await services.events.head(project.id))

    async def read(cursor: int) -> tuple[list[Event], bool]:
        return _events(await services.events.of_project(project.id, cursor)), False

    async def entries() -> AsyncIterator[Entry]:
        async with services.listener.watch(project.id) as wake:
            async for entry in follow(wake, read, start, services.passes.of(credentials)):
                yield entry

    return stream_answer(request, services, "project", entries())


def _events(changes: list[StatusChange]) -> list[Event]:
    return [Event.of("deployment", change.cursor, change.deployment) for change in changes]
