"""One local stack for all end-to-end tests, a git server beside it, and a project per repository."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.client import DeploymentsClient
from domain.project import CreateProjectRequest
from tests.providers.git_server import GitServer
from tests.test_stack import Up, up

MakeProject = Callable[..., Awaitable[str]]

_names = itertools.count(1)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("end-to-end") / "data") as started:
        yield started
        started.stop()


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with GitServer(tmp_path_factory.mktemp("repositories")).running() as server:
        yield server


@pytest.fixture
async def client(local: Up) -> AsyncIterator[DeploymentsClient]:
    async with DeploymentsClient(local.said["apiUrl"], local.said["apiToken"]) as one:
        yield one


@pytest.fixture
def make_project(client: DeploymentsClient, git_server: GitServer) -> MakeProject:
    async def make(files: dict[str, str], **configuration: Any) -> str:
        """The id of a project whose repository has these files."""
        name = f"site-{next(_names)}"
        repository = git_server.repository(name, files)
        project = {"id": name, "provider": "internal", "repositoryUrl": repository.url, "configuration": configuration}
        await client.create_project(CreateProjectRequest.model_validate(project))
        return name

    return make


@pytest.fixture
def ask(local: Up) -> Callable[[str, str], httpx.Response]:
    """What the edge answers for a host."""

    def answer(host: str, path: str = "/") -> httpx.Response:
        port = local.said["edgeUrl"].rsplit(":", 1)[1]
        return httpx.get(f"http://127.0.0.1:{port}{path}", headers={"Host": f"{host}:{port}"})

    return answer


def processes_with(needle: str) -> list[str]:
    """Command lines that hold `needle`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended meanwhile
        if needle in line:
            found.append(line)
    return found
