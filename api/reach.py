"""Objects by their id, as far as the caller's token reaches.

Rule: what is out of reach raises what is raised for what does not exist, word for word. An id that could not be one of
ours does not exist either, and is not carried into a query.
"""

import re

from api.services import Services
from domain.deployment import Deployment
from domain.errors import DeploymentError, ErrorCode
from domain.project import Environment, Project
from domain.token import Token

PROJECT_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def check_project(caller: Token, project_id: str) -> str:
    """`project_id`, when it could be one and the caller reaches it."""
    if not PROJECT_ID.fullmatch(project_id) or not caller.reaches(project_id):
        raise _missing(ErrorCode.PROJECT_NOT_FOUND, "project", project_id)
    return project_id


async def project(services: Services, caller: Token, project_id: str) -> Project:
    return await services.projects.get_project(check_project(caller, project_id))


async def environment(services: Services, caller: Token, environment_id: str) -> Environment:
    found = await services.projects.get_environment(environment_id)
    if not caller.reaches(found.project_id):
        raise _missing(ErrorCode.ENVIRONMENT_NOT_FOUND, "environment", environment_id)
    return found


async def deployment(services: Services, caller: Token, deployment_id: str) -> Deployment:
    found = await services.deployments.get(deployment_id)
    if not caller.reaches(found.project_id):
        raise _missing(ErrorCode.NOT_FOUND, "deployment", deployment_id)
    return found


def _missing(code: ErrorCode, kind: str, identity: str) -> DeploymentError:
    return DeploymentError(code, f"there is no {kind} {identity[:64]}")
