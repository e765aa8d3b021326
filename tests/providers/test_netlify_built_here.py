"""Mode `files` of `netlify`, from a repository to a published deploy: built by `internal`, served by Netlify."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.errors import DeploymentError, ErrorCode
from domain.fence import Overtaken
from domain.ids import uuid7
from providers.base import BuildRequest
from providers.netlify.built_here import BuiltHere
from tests.providers.conformance import messages, told
from tests.providers.conftest import MakeInternal, MakeRepository, build_request, overtaken
from tests.providers.netlify_stand_in import SITE, NetlifyStandIn
from tests.providers.test_netlify import made


@pytest.fixture
async def server() -> AsyncIterator[NetlifyStandIn]:
    async with NetlifyStandIn().running() as server:
        yield server


@pytest.fixture
async def provider(server: NetlifyStandIn, make_internal: MakeInternal) -> AsyncIterator[BuiltHere]:
    internal = make_internal()
    provider = BuiltHere(made(server, releases=internal.release_of), internal)
    yield provider
    await provider.close()


def from_files(repository: MakeRepository, files: dict[str, str], **configuration: Any) -> BuildRequest:
    settings = {"siteId": SITE, "mode": "files"}
    return build_request(repository(files).url, **configuration).model_copy(update={"provider_settings": settings})


async def test_what_is_built_here_is_published_there_once(
    provider: BuiltHere, server: NetlifyStandIn, repository: MakeRepository
) -> None:
    request = from_files(repository, {"index.html": "hello", "about.html": "us"}, output_directory=".")
    build = await provider.start_build(request)
    news = await told(provider, request, build)
    assert (news[-1].stage, server.asked("PUT", "/files/")) == ("built", [])
    with pytest.raises(Overtaken):
        await provider.publish_build(overtaken(request), build)
    assert not server.made
    first = await provider.publish_build(request, build)
    again = await provider.publish_build(request, build)
    assert first.deployment_url == again.deployment_url is not None
    assert len(server.asked("PUT", "/files/")) == 2
    assert (await provider.collect_report(request, build)).metrics.file_count == 2
    later = request.model_copy(update={"deployment_id": str(uuid7())})
    assert (await provider.repoint(later, build)).deployment_url == first.deployment_url


async def test_what_does_not_build_is_not_published(
    provider: BuiltHere, server: NetlifyStandIn, repository: MakeRepository
) -> None:
    request = from_files(repository, {"index.html": "hello"}, build_command="echo no; exit 3")
    build = await provider.start_build(request)
    news = await told(provider, request, build)
    assert news[-1].stage == "failed"
    assert "no" in messages(news)
    with pytest.raises(DeploymentError) as refused:
        await provider.publish_build(request, build)
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    assert server.asked("PUT", "/files/") == []
