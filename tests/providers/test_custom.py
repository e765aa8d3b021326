"""The `custom` provider keeps the promise of all providers on the example's server, wholly and leanly described."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from domain.errors import DeploymentError, ErrorCode
from domain.fence import Overtaken
from providers.base import BuildRequest, Capability
from providers.custom.provider import Custom
from providers.http import Options
from providers.webhooks import signatures
from tests.providers.conformance import ProviderConformance, messages, told
from tests.providers.conftest import overtaken
from tests.providers.custom_stand_in import EXAMPLE, TOKEN, asked_for, described
from tests.providers.git_server import GitServer
from tests.providers.signing import SECRETS
from tests.servers import eventually, free_port, running

SCRIPTS = {
    "well": 'mkdir site && echo "hello $NAME" >site/index.html && seq 1 1200',
    "failing": "echo the page has no title; exit 7",
    "endless": "echo begun; sleep 60",
}
LEAN: dict[str, Any] = {
    "requests": {
        "find": None,
        "cancel": None,
        "publish": None,
        "repoint": None,
        "logs": None,
        "status": {"answer": {"url": "/preview", "previewUrls": None, "live": None}},
    },
    "logs": None,
    "webhooks": None,
    "idempotentCreate": True,
}
"""No more than is needed: create and status."""


@pytest.fixture
async def custom() -> AsyncIterator[Custom]:
    custom = Custom(Options(allow_private_addresses=True))
    yield custom
    await custom.close()


@pytest.fixture(scope="session")
async def told_by_webhook() -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """An address that takes webhooks, and what came."""
    came: list[tuple[dict[str, str], bytes]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        pairs = (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        came.append((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", came
    server.close()


@pytest.fixture(scope="session")
async def server(
    tmp_path_factory: pytest.TempPathFactory, git_server: GitServer, told_by_webhook: tuple[str, list[Any]]
) -> AsyncIterator[str]:
    """The example's server, as its README starts it; its address."""
    directory = tmp_path_factory.mktemp("deploy-server")
    repository = git_server.repository("custom-shop", {"build.sh": SCRIPTS["well"]})
    for branch, script in SCRIPTS.items():
        repository.git("checkout", "--quiet", "-B", branch)
        repository.commit({"build.sh": script})
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    async def ready() -> bool:
        async with httpx.AsyncClient() as http:
            try:
                return (await http.get(f"{url}/deployments")).status_code == 401
            except httpx.HTTPError:
                return False

    argv = [sys.executable, str(EXAMPLE / "server.py"), "--build", "sh build.sh", "--output", "site"]
    where = ["--repository", f"file://{repository.path}", "--data", str(directory / "data"), "--port", str(port)]
    environment = {"DEPLOY_TOKEN": TOKEN, "WEBHOOK_SECRET": SECRETS["custom"]}
    log = directory / "server.log"
    async with running(*argv, *where, "--webhook-url", told_by_webhook[0], ready=ready, log=log, **environment):
        yield url
    assert log.read_text() == ""


class OnTheExample(ProviderConformance):
    changed: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def settings(self, server: str) -> dict[str, Any]:
        return described(server, **self.changed)

    @pytest.fixture
    def provider(self, custom: Custom) -> Custom:
        return custom

    @pytest.fixture
    def well(self, settings: dict[str, Any]) -> BuildRequest:
        return asked_for(settings)

    @pytest.fixture
    def failing(self, settings: dict[str, Any]) -> BuildRequest:
        return asked_for(settings, "failing")

    @pytest.fixture
    def endless(self, settings: dict[str, Any]) -> BuildRequest:
        return asked_for(settings, "endless")


class TestCustom(OnTheExample):
    async def test_it_can_do_all_that_is_described(self, settings: dict[str, Any]) -> None:
        assert Custom.capabilities_of(settings) == Custom.capabilities


class TestLeanCustom(OnTheExample):
    changed = LEAN

    async def test_it_can_do_nothing_that_is_not_described(self, settings: dict[str, Any]) -> None:
        assert Custom.capabilities_of(settings) == frozenset()


async def test_what_the_example_has_built_is_served_and_an_earlier_one_again(custom: Custom, server: str) -> None:
    first, second = (asked_for(described(server), environment_variables={"NAME": name}) for name in ("Ada", "Bob"))

    async def page(url: str | None) -> str:
        async with httpx.AsyncClient() as http:
            return (await http.get(url or "")).text.strip()

    builds = []
    for request in (first, second):
        builds.append(await custom.start_build(request))
        news = await told(custom, request, builds[-1])
        assert messages(news) == [str(number) for number in range(1, 1201)]
    assert news[-1].repository is not None
    assert len(news[-1].repository.commit or "") == 40
    published = [
        await custom.publish_build(request, build) for request, build in zip((first, second), builds, strict=True)
    ]

    assert published[0].deployment_url == published[1].deployment_url == f"{server}/sites/shop-production/"
    for publish in (custom.publish_build, custom.repoint):
        with pytest.raises(Overtaken):
            await publish(overtaken(first), builds[0])
    assert await page(published[1].deployment_url) == "hello Bob"
    await custom.repoint(asked_for(described(server)), builds[0])
    assert await page(published[1].deployment_url) == "hello Ada"
    assert await page(published[1].preview_urls[0]) == "hello Bob"


async def test_the_example_tells_each_change_by_a_signed_webhook(
    custom: Custom, server: str, told_by_webhook: tuple[str, list[tuple[dict[str, str], bytes]]]
) -> None:
    request = asked_for(described(server), "failing")
    await told(custom, request, await custom.start_build(request))

    def about_it() -> list[tuple[dict[str, str], bytes]]:
        return [(headers, body) for headers, body in told_by_webhook[1] if request.deployment_id.encode() in body]

    async def both_came() -> bool:
        return len(about_it()) == 2

    await eventually(both_came)
    kinds = [b"deployment.building", b"deployment.failed"]
    for (headers, body), kind in zip(about_it(), kinds, strict=True):
        assert kind in body
        now = float(headers["webhook-timestamp"])
        assert signatures.standard(headers, body, SECRETS["custom"], now)
        assert not signatures.standard(headers, body + b" ", SECRETS["custom"], now)


async def test_builds_that_cannot_be_canceled_are_said_to_go_on(custom: Custom, server: str) -> None:
    settings = described(server, requests={"cancel": None})
    request = asked_for(settings, "endless")
    build = await custom.start_build(request)

    with pytest.raises(DeploymentError, match=f"build {build.build_id} goes on.*no request cancel") as refused:
        await custom.cancel_build(request, build)

    assert refused.value.code == ErrorCode.CONFLICT
    assert Custom.capabilities_of(settings) == {Capability.LIVE_LOGS, Capability.REPOINT}
    await custom.cancel_build(request.model_copy(update={"provider_settings": described(server)}), build)


def test_the_example_has_the_settings_that_its_document_shows() -> None:
    shown = (Path(__file__).parents[2] / "docs" / "custom-provider.md").read_text()
    assert (EXAMPLE / "provider-settings.json").read_text().strip() in shown
