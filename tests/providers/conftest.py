"""What tests of providers share: a git server, a Caddy, and `internal` on them."""

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.configuration import DeploymentConfiguration
from domain.fence import Overtaken
from domain.ids import uuid7
from providers.base import Build, BuildNews, BuildRequest
from providers.internal.edge import Edge, base_config
from providers.internal.provider import Internal
from tests.providers.git_server import GitServer, Repository
from tests.servers import free_port, running

CADDY = str(Path(sys.executable).with_name("caddy"))
_numbers = itertools.count(1)

MakeInternal = Callable[..., Internal]
MakeRepository = Callable[[dict[str, str]], Repository]


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with GitServer(tmp_path_factory.mktemp("repositories")).running() as server:
        yield server


@pytest.fixture
def repository(git_server: GitServer) -> MakeRepository:
    """Makes a repository with one commit of these files on `main`."""
    return lambda files: git_server.repository(f"site-{next(_numbers)}", files)


@pytest.fixture(scope="session")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """A Caddy, its admin endpoint on a socket that no build sees."""
    async with running_edge(tmp_path_factory.mktemp("edge")) as (edge, _):
        yield edge


@contextlib.asynccontextmanager
async def running_edge(directory: Path) -> AsyncIterator[tuple[Edge, asyncio.subprocess.Process]]:
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    socket = directory / "edge.sock"
    config = directory / "caddy.json"
    config.write_text(json.dumps(base_config(f"127.0.0.1:{port}", f"unix/{socket}|0600", directory / "data/releases")))
    edge = Edge(f"unix/{socket}", f"http://127.0.0.1:{port}")

    async def ready() -> bool:
        async with httpx.AsyncClient() as http:
            try:
                return (await http.get(edge.public_url)).status_code == 404
            except httpx.HTTPError:
                return False

    async with running(CADDY, "run", "--config", str(config), ready=ready, log=directory / "caddy.log") as process:
        yield edge, process
    await edge.close()


@pytest.fixture
def make_internal(tmp_path: Path, edge: Edge) -> MakeInternal:
    """Makes the provider on one data directory, as the local stack would; options as its own."""
    options: dict[str, Any] = {"task_queue": "builds-here", "allow_private_addresses": True}
    return lambda **changed: Internal(tmp_path / "data", edge, **{**options, **changed})


@pytest.fixture
def internal(make_internal: MakeInternal) -> Internal:
    return make_internal()


def build_request(
    repository_url: str,
    *,
    ref: str = "main",
    commit: str | None = None,
    secrets: dict[str, str] | None = None,
    project: str = "shop",
    environment: str = "production",
    settings: dict[str, Any] | None = None,
    seconds: float = 60,
    **configuration: Any,
) -> BuildRequest:
    return BuildRequest(
        deployment_id=str(uuid7()),
        project_id=project,
        environment=environment,
        source_ref=ref,
        commit_sha=commit,
        repository_url=repository_url,
        configuration=DeploymentConfiguration(environment=environment, **configuration),
        provider_settings=settings or {},
        secrets=secrets or {},
        deadline=datetime.now(UTC) + timedelta(seconds=seconds),
    )


def overtaken(request: BuildRequest) -> BuildRequest:
    """The request of an attempt to publish whose turn is over."""

    async def check() -> None:
        raise Overtaken("it is no longer our turn")

    return request.to_publish(1, check)


ANY_REQUEST = build_request("https://git.example.org/any.git")
"""Once a build has begun, the internal provider asks its directory and not the request."""


async def follow(provider: Internal, build: Build, cursor: str = "") -> list[BuildNews]:
    """All news until the end."""
    return [news async for news in provider.follow_build(ANY_REQUEST, build, cursor)]


async def build(provider: Internal, request: BuildRequest) -> tuple[Build, BuildNews, list[str]]:
    """Builds to the end: the build, the last news and all messages."""
    started = await provider.start_build(request)
    told = await follow(provider, started)
    return started, told[-1], [line.message for news in told for line in news.lines]
