"""Stores on a database of the test's own, and a project to deploy."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.log import LogLine
from domain.project import CreateProjectRequest, Project
from store.database import Database
from store.deployments import DeploymentStore
from store.limits import TriggerLimiter
from store.logs import LogStore
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.seal import Sealer
from tests.s3_server import S3Server, s3_server


@pytest.fixture(scope="session")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[S3Server]:
    async with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def limiter(database: Database) -> TriggerLimiter:
    return TriggerLimiter(database, 10)


@pytest.fixture
def projects(database: Database, sealer: Sealer) -> ProjectStore:
    return ProjectStore(database, sealer)


@pytest.fixture
def deployments(database: Database, sealer: Sealer, limiter: TriggerLimiter) -> DeploymentStore:
    return DeploymentStore(database, sealer, limiter)


@pytest.fixture
def progress(database: Database, sealer: Sealer) -> ProgressStore:
    return ProgressStore(database, sealer)


@pytest.fixture
def logs(database: Database, sealer: Sealer) -> LogStore:
    """With time to look at everything, however slow the machine is."""
    return LogStore(database, sealer, scan_seconds=60)


@pytest.fixture
async def shop(projects: ProjectStore) -> Project:
    return await make_shop(projects)


async def make_shop(projects: ProjectStore) -> Project:
    request = CreateProjectRequest.model_validate(
        {
            "id": "shop",
            "provider": "internal",
            "repositoryUrl": "https://git.example.org/shop.git",
            "configuration": {"environmentVariables": {"A": "1", "NPM_TOKEN": "npm-secret"}},
        }
    )
    return (await projects.create_project(request, "ada")).answer


def line(message: str, **fields: Any) -> LogLine:
    return LogLine(**{"timestamp": datetime.now(UTC), "message": message, **fields})
