"""The `internal` provider keeps the promise of all providers. `internal/` has what is its own."""

import pytest

from providers.base import BuildRequest
from providers.internal.provider import Internal
from tests.providers.conformance import ProviderConformance
from tests.providers.conftest import MakeInternal, MakeRepository, build_request


class TestInternal(ProviderConformance):
    @pytest.fixture
    def provider(self, make_internal: MakeInternal) -> Internal:
        return make_internal()

    @pytest.fixture
    def well(self, repository: MakeRepository) -> BuildRequest:
        url = repository({"index.html": "hello"}).url
        return build_request(url, build_command="seq 1 2500", output_directory=".")

    @pytest.fixture
    def failing(self, repository: MakeRepository) -> BuildRequest:
        return build_request(repository({"index.html": "hello"}).url, build_command="exit 7")

    @pytest.fixture
    def endless(self, repository: MakeRepository) -> BuildRequest:
        return build_request(repository({"index.html": "hello"}).url, build_command="sleep 600")


async def test_a_build_that_nobody_wants_is_found_on_the_disk_and_stopped(
    make_internal: MakeInternal, repository: MakeRepository
) -> None:
    provider = make_internal()
    request = build_request(repository({"index.html": "hello"}).url, build_command="sleep 600")
    assert (await provider.find_build(request), provider.running_builds()) == (None, [])
    (provider.root / "builds").mkdir(parents=True, exist_ok=True)
    (provider.root / "builds" / "somebody-elses-file").touch()
    build = await provider.start_build(request)
    assert (await provider.find_build(request), provider.running_builds()) == (build, [build.build_id])
    assert await provider.stop(build.build_id)
    assert provider.running_builds() == []
    assert not await provider.stop(build.build_id)
    told = [news.stage async for news in provider.follow_build(request, build, "")]
    assert told[-1] == "canceled"
