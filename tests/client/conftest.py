"""The client against the real app behind a real server; what a worker would write down, the tests do."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from client.client import DeploymentsClient
from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.ending import Ending
from domain.log import LogBatch, LogLine
from domain.project import CreateProjectRequest, Project
from domain.states import Status
from store.database import Database
from store.logs import LogStore
from store.progress import ProgressStore
from store.seal import Sealer
from tests.api.conftest import FIRST_TOKEN, served
from tests.client.commands import Ended, Headway, called


@dataclass(frozen=True)
class Service:
    """A running API, and the side of it that builds."""

    url: str
    token: str
    logs: LogStore
    progress: ProgressStore

    @property
    def known(self) -> dict[str, str]:
        """What tells a command of it."""
        return {"HEADWAY_API_URL": self.url, "HEADWAY_TOKEN": self.token}

    async def say(self, deployment: Deployment, *messages: str) -> None:
        """The next lines of its build."""
        after = (await self.logs.position(deployment.id, "build")).cursor
        now = datetime.now(UTC)
        lines = [LogLine(timestamp=now, message=message, step="build") for message in messages]
        cursor = f"{after}{len(messages)}."
        await self.logs.append(deployment.id, LogBatch(stream="build", after=after, cursor=cursor, lines=lines))

    async def end(self, deployment: Deployment, status: Status) -> None:
        await self.progress.finish(deployment.id, Ending(status=status))


@pytest.fixture
async def service(database_url: str, database: Database, sealer: Sealer) -> AsyncIterator[Service]:
    async with served(database_url, trigger_limit=1000) as api:
        yield Service(
            str(api.client.base_url).rstrip("/"),
            FIRST_TOKEN,
            LogStore(database, sealer),
            ProgressStore(database, sealer),
        )


@pytest.fixture
def headway(service: Service) -> Headway:
    """A command, in this process."""

    async def call(*arguments: str, **environment: str) -> Ended:
        with capture_logs():  # the service's, which is in this process, too
            return await asyncio.to_thread(called, *arguments, **service.known, **environment)

    return call


@pytest.fixture
async def client(service: Service) -> AsyncIterator[DeploymentsClient]:
    async with DeploymentsClient(service.url, service.token) as one:
        yield one


@pytest.fixture
async def site(client: DeploymentsClient) -> Project:
    return await client.create_project(
        CreateProjectRequest(id="site", provider="internal", repository_url="https://git.example.org/site.git")
    )


@pytest.fixture
async def deployment(client: DeploymentsClient, site: Project) -> Deployment:
    return await client.trigger_deployment(TriggerDeploymentRequest(project_id=site.id, source_ref="main"))
