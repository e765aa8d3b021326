"""Changes of status as streams: each is the whole deployment."""

from fastapi import APIRouter, Request, Response

from api import reach
from api.auth import Credentials, Reader
from api.describe import GUARDED, LISTED, described
from api.services import Wired
from api.streams import After, Event, LastEventId, StreamAnswer, content, follow, form_of, position
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
    deployment_id = (await reach.deployment(services, caller, deployment_id)).id

    async def read(cursor: int) -> tuple[list[Event], bool]:
        status = (await services.deployments.get(deployment_id)).status
        return _events(await services.events.of_deployment(deployment_id, cursor)), status in TERMINAL

    start = position(after, last_event_id)
    form = form_of(request)
    entries = follow(form, services.listener.watch(deployment_id), read, start, services.passes.of(credentials))
    return StreamAnswer(entries, form.media_type, counted=services.metrics.open_stream("deployment"))


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
    await reach.project(services, caller, project_id)

    async def read(cursor: int) -> tuple[list[Event], bool]:
        return _events(await services.events.of_project(project_id, cursor)), False

    start = position(after, last_event_id, otherwise=await services.events.head(project_id))
    form = form_of(request)
    entries = follow(form, services.listener.watch(project_id), read, start, services.passes.of(credentials))
    return StreamAnswer(entries, form.media_type, counted=services.metrics.open_stream("project"))


def _events(changes: list[StatusChange]) -> list[Event]:
    return [Event.of("deployment", change.cursor, change.deployment) for change in changes]
