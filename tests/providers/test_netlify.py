"""The `netlify` provider keeps the promise of all providers, and gets along with Netlify's oddities, on a stand-in."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from domain.configuration import DeploymentConfiguration
from domain.errors import DeploymentError, ErrorCode
from domain.ids import uuid7
from domain.log import LogLevel
from providers.base import Build, BuildNews, BuildRequest
from providers.http import Options
from providers.netlify.pace import Pace
from providers.netlify.provider import Netlify
from tests.providers.conformance import ProviderConformance, messages, told
from tests.providers.netlify_stand_in import ACCOUNT, COMMIT, LINES, SITE, TOKEN, Made, NetlifyStandIn
from tests.providers.stand_in import Fault

QUICK = Pace(
    look=0.02,
    find=(0.01, 0.01, 0.01),
    publish=0.1,
    read_back=0.02,
    patience=5,
    log=(0.01, 0.01),
    uploads=(0.01, 0.01, 0.01, 0.01),
)
SETTINGS = {"siteId": SITE, "mode": "git"}
FILES = {"siteId": SITE, "mode": "files"}
BUILT = ["netlify builds it", "netlify takes over what was built"]
Answer = TypeVar("Answer")


def asked_for(
    ref: str, *, environment: str = "staging", secrets: dict[str, str] | None = None, **more: Any
) -> BuildRequest:
    settings = more.pop("settings", SETTINGS)
    commit = more.pop("commit", None)
    return BuildRequest(
        deployment_id=str(uuid7()),
        project_id="shop",
        environment=environment,
        source_ref=ref,
        commit_sha=commit,
        repository_url="https://github.com/acme/shop.git",
        configuration=DeploymentConfiguration(environment=environment, **more),
        provider_settings=settings,
        secrets=secrets or {},
        deadline=datetime.now(UTC) + timedelta(seconds=60),
    )


def production(ref: str = "well", **more: Any) -> BuildRequest:
    return asked_for(ref, environment="production", **more)


@pytest.fixture
async def server() -> AsyncIterator[NetlifyStandIn]:
    async with NetlifyStandIn().running() as server:
        yield server


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """What was built of a small site."""
    return write(tmp_path / "release", {"index.html": "hello", "css/site.css": "a {}", "again.html": "hello"})


@pytest.fixture
async def netlify(server: NetlifyStandIn, tmp_path: Path) -> AsyncIterator[Netlify]:
    """Built is what a test has put into a directory of the deployment's id, or of `release`."""

    def releases(deployment_id: str) -> Path | None:
        places = (tmp_path / deployment_id, tmp_path / "release")
        return next((place for place in places if place.exists()), None)

    netlify = made(server, releases=releases)
    yield netlify
    await netlify.close()


def made(server: NetlifyStandIn, pace: Pace = QUICK, **more: Any) -> Netlify:
    return Netlify(TOKEN, server.url, Options(allow_private_addresses=True), pace=pace, **more)


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


class TestGit(ProviderConformance):
    @pytest.fixture
    def provider(self, netlify: Netlify) -> Netlify:
        return netlify

    @pytest.fixture
    def well(self) -> BuildRequest:
        return production()

    @pytest.fixture
    def failing(self) -> BuildRequest:
        return asked_for("failing")

    @pytest.fixture
    def endless(self) -> BuildRequest:
        return asked_for("endless")


class TestFiles(ProviderConformance):
    @pytest.fixture
    def provider(self, netlify: Netlify) -> Netlify:
        return netlify

    @pytest.fixture
    def well(self, tmp_path: Path) -> BuildRequest:
        return self._release(tmp_path, "index.html", environment="production")

    @pytest.fixture
    def failing(self, tmp_path: Path) -> BuildRequest:
        return self._release(tmp_path, "failing.html")

    @pytest.fixture
    def endless(self, tmp_path: Path) -> BuildRequest:
        return self._release(tmp_path, "endless.html")

    @staticmethod
    def _release(tmp_path: Path, name: str, **more: Any) -> BuildRequest:
        request = asked_for("main", settings=FILES, **more)
        write(tmp_path / request.deployment_id, {name: "hello", "css/site.css": "a {}"})
        return request
