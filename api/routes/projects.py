"""Projects and their environments."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api import reach
from api.answers import check_unchanged, page_answer, tagged_answer
from api.auth import Admin, Reader
from api.bodies import Received, body_of
from api.describe import BODY, CREATING, GUARDED, LISTED, described, takes
from api.idempotency import idempotent, mark
from api.queries import PageQuery, ProjectPageQuery
from api.requests import CreateEnvironmentBody, CreateProjectBody, UpdateEnvironmentBody, UpdateProjectBody
from api.services import Services, Wired
from domain.errors import DeploymentError, ErrorCode
from domain.page import Page
from domain.project import Environment, Project
from providers.registry import provider_classes

router = APIRouter(prefix="/v1")

_CHANGING = (*GUARDED, *BODY, ErrorCode.PRECONDITION_FAILED)
_PROJECT_EXAMPLE: dict[str, Any] = {
    "id": "site",
    "provider": "internal",
    "repositoryUrl": "https://git.example.org/site.git",
    "configuration": {"buildCommand": "npm run build", "outputDirectory": "dist"},
}


@router.post(
    "/projects",
    operation_id="createProject",
    tags=["projects"],
    summary="Create a project, with its default environment `production`",
    openapi_extra=takes("CreateProjectRequest", _PROJECT_EXAMPLE),
    **described(201, Project, GUARDED, CREATING, headers=("ETag", "Location", "Idempotency-Replayed")),
)
async def create_project(
    request: Request,
    services: Wired,
    caller: Admin,
    body: Annotated[Received[CreateProjectBody], Depends(body_of(CreateProjectBody))],
) -> Response:
    project = body.model
    if not caller.reaches(project.id):
        raise DeploymentError(
            ErrorCode.INSUFFICIENT_PERMISSIONS, f"this token is bound to other projects than {project.id}"
        )
    _check_provider(services, project.provider)
    provider_classes()[project.provider].check_settings(project.provider_settings, project.repository_url)
    made = await services.projects.create_project(project, caller.subject, idempotent(request, body, ""))
    answer = tagged_answer(request, made.answer, 201, {"Location": f"/v1/projects/{made.answer.id}"})
    return mark(answer, replayed=made.replayed)


@router.get(
    "/projects",
    operation_id="listProjects",
    tags=["projects"],
    summary="Projects that the token reaches, newest first",
    **described(200, Page[Project], GUARDED, LISTED, headers=("Link",)),
)
async def list_projects(request: Request, services: Wired, caller: Reader, page: ProjectPageQuery) -> Response:
    return page_answer(request, await services.projects.list_projects(caller.projects, page))


@router.get(
    "/projects/{project_id}",
    operation_id="getProject",
    tags=["projects"],
    summary="One project",
    **described(200, Project, GUARDED, ErrorCode.PROJECT_NOT_FOUND, headers=("ETag",), unmodified=True),
)
async def get_project(request: Request, services: Wired, caller: Reader, project_id: str) -> Response:
    return tagged_answer(request, await reach.project(services, caller, project_id))


@router.patch(
    "/projects/{project_id}",
    operation_id="updateProject",
    tags=["projects"],
    summary="Change what is sent, leave the rest; `null` takes a value of the configuration away",
    openapi_extra=takes("UpdateProjectRequest", {"configuration": {"outputDirectory": "public"}}),
    **described(200, Project, _CHANGING, ErrorCode.PROJECT_NOT_FOUND, headers=("ETag",)),
)
async def update_project(
    request: Request,
    services: Wired,
    caller: Admin,
    project_id: str,
    body: Annotated[Received[UpdateProjectBody], Depends(body_of(UpdateProjectBody))],
) -> Response:
    project = await reach.project(services, caller, project_id)
    seen = check_unchanged(request, project)
    _check_settings(project, body.model)
    return tagged_answer(
        request, await services.projects.update_project(project_id, body.model, caller.subject, version=seen)
    )


@router.post(
    "/projects/{project_id}/environments",
    operation_id="createEnvironment",
    tags=["environments"],
    summary="Create an environment",
    openapi_extra=takes("CreateEnvironmentRequest", {"name": "staging", "type": "staging"}),
    **described(
        201,
        Environment,
        GUARDED,
        CREATING,
        ErrorCode.PROJECT_NOT_FOUND,
        headers=("ETag", "Location", "Idempotency-Replayed"),
    ),
)
async def create_environment(
    request: Request,
    services: Wired,
    caller: Admin,
    project_id: str,
    body: Annotated[Received[CreateEnvironmentBody], Depends(body_of(CreateEnvironmentBody))],
) -> Response:
    reach.check_project(caller, project_id)
    made = await services.projects.create_environment(
        project_id, body.model, caller.subject, idempotent(request, body, project_id)
    )
    answer = tagged_answer(request, made.answer, 201, {"Location": f"/v1/environments/{made.answer.id}"})
    return mark(answer, replayed=made.replayed)


@router.get(
    "/projects/{project_id}/environments",
    operation_id="listEnvironments",
    tags=["environments"],
    summary="Environments of a project, oldest first",
    **described(200, Page[Environment], GUARDED, LISTED, ErrorCode.PROJECT_NOT_FOUND, headers=("Link",)),
)
async def list_environments(
    request: Request, services: Wired, caller: Reader, project_id: str, page: PageQuery
) -> Response:
    reach.check_project(caller, project_id)
    return page_answer(request, await services.projects.list_environments(project_id, page))


@router.get(
    "/environments/{environment_id}",
    operation_id="getEnvironment",
    tags=["environments"],
    summary="One environment",
    **described(200, Environment, GUARDED, ErrorCode.ENVIRONMENT_NOT_FOUND, headers=("ETag",), unmodified=True),
)
async def get_environment(request: Request, services: Wired, caller: Reader, environment_id: str) -> Response:
    return tagged_answer(request, await reach.environment(services, caller, environment_id))


@router.patch(
    "/environments/{environment_id}",
    operation_id="updateEnvironment",
    tags=["environments"],
    summary="Change what is sent, leave the rest; `null` takes a value of the configuration away",
    openapi_extra=takes("UpdateEnvironmentRequest", {"concurrency": "parallel"}),
    **described(200, Environment, _CHANGING, ErrorCode.ENVIRONMENT_NOT_FOUND, headers=("ETag",)),
)
async def update_environment(
    request: Request,
    services: Wired,
    caller: Admin,
    environment_id: str,
    body: Annotated[Received[UpdateEnvironmentBody], Depends(body_of(UpdateEnvironmentBody))],
) -> Response:
    seen = check_unchanged(request, await reach.environment(services, caller, environment_id))
    return tagged_answer(
        request, await services.projects.update_environment(environment_id, body.model, caller.subject, version=seen)
    )


@router.delete(
    "/environments/{environment_id}",
    operation_id="deleteEnvironment",
    tags=["environments"],
    summary="Delete an idle environment, its secrets and its site; the history of its deployments stays",
    **described(204, None, GUARDED, ErrorCode.ENVIRONMENT_NOT_FOUND, ErrorCode.CONFLICT, ErrorCode.PRECONDITION_FAILED),
)
async def delete_environment(request: Request, services: Wired, caller: Admin, environment_id: str) -> Response:
    seen = check_unchanged(request, await reach.environment(services, caller, environment_id))
    await services.environments.delete(environment_id, caller.subject, version=seen)
    return Response(None, 204)


def _check_settings(project: Project, change: UpdateProjectBody) -> None:
    """As they will be. A change of other things passes also where the provider is not there any more."""
    if not change.model_fields_set & {"provider_settings", "repository_url"}:
        return
    settings = project.provider_settings if change.provider_settings is None else change.provider_settings
    said = "repository_url" in change.model_fields_set
    url = change.repository_url if said else project.repository_url
    if project.provider in provider_classes():
        provider_classes()[project.provider].check_settings(settings, url)


def _check_provider(services: Services, name: str) -> None:
    known = [provider.name for provider in services.providers]
    if name not in known:
        wrong = f"there is no provider {name[:64]!r} here; accepted: {', '.join(known)}"
        raise DeploymentError(ErrorCode.INVALID_REQUEST, f"/provider: {wrong}", fields=[("/provider", wrong)])
