"""The app over the real store, reached in process; live streams go through a real server on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from api.app import create_app
from api.services import Services
from settings import Settings
from tests.conftest import SECRET_KEYS
from tests.servers import free_port

FIRST_TOKEN = "hw_the-first-token-of-this-test"
PROJECT: dict[str, Any] = {
    "id": "site",
    "provider": "internal",
    "repositoryUrl": "https://git.example.org/site.git",
    "configuration": {"buildCommand": "make", "outputDirectory": "out"},
}


def settings_for(database_url: str, **changes: Any) -> Settings:
    """Temporal is away, unless a test says where it is: what is accepted does not depend on it."""
    given: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "secret_keys": SecretStr(SECRET_KEYS),
        "first_token": SecretStr(FIRST_TOKEN),
        "temporal_address": "127.0.0.1:1",
        "trigger_limit": 10,
        **changes,
    }
    return Settings(**given)


@dataclass(frozen=True)
class Api:
    """A client of one running app, with the first token unless told otherwise."""

    client: httpx.AsyncClient
    app: FastAPI

    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    async def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, token: str | None = None
    ) -> httpx.Response:
        carried = {"Authorization": f"Bearer {token or FIRST_TOKEN}", **(headers or {})}
        return await self.client.request(method, path, json=body, headers=carried)

    async def make(self, path: str, body: Any, **options: Any) -> Any:
        """What a creating request has made."""
        answer = await self("POST", path, body, **options)
        assert answer.is_success, answer.text
        return answer.json()

    async def token(self, *scopes: str, projects: list[str] | None = None, subject: str = "someone") -> str:
        made = await self.make(
            "/v1/tokens", {"subject": subject, "scopes": list(scopes), "projects": projects or ["*"]}
        )
        text: str = made["token"]
        return text


Start = Callable[..., Awaitable[Api]]


@contextlib.asynccontextmanager
async def running_app(database_url: str, **changes: Any) -> AsyncIterator[Api]:
    app = create_app(settings_for(database_url, **changes))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api") as client,
    ):
        yield Api(client, app)


@pytest.fixture
async def start(database_url: str) -> AsyncIterator[Start]:
    """Starts further apps on the test's database."""
    async with contextlib.AsyncExitStack() as running:

        async def one(**changes: Any) -> Api:
            return await running.enter_async_context(running_app(database_url, **changes))

        yield one


@pytest.fixture
async def api(start: Start) -> Api:
    return await start()


@pytest.fixture
async def site(api: Api) -> dict[str, Any]:
    """A project."""
    made: dict[str, Any] = await api.make("/v1/projects", PROJECT)
    return made


@contextlib.asynccontextmanager
async def serving(app: FastAPI, patience: int = 1) -> AsyncIterator[Api]:
    """The app behind a real server, since the in-process transport hands an answer over only when it is complete.

    When it stops, answers that are open have `patience` seconds to end.
    """
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=patience))
    running = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Api(client, app)
    finally:
        server.should_exit = True
        await running


@contextlib.asynccontextmanager
async def served(database_url: str, **changes: Any) -> AsyncIterator[Api]:
    async with serving(create_app(settings_for(database_url, **changes))) as api:
        yield api


@pytest.fixture
async def live(database_url: str) -> AsyncIterator[Api]:
    async with served(database_url) as api:
        yield api
