"""What every provider must keep of `providers.base`, as tests. For pytest with pytest-asyncio; nothing else imports it.

A provider's test file inherits this and gives it four fixtures: `provider`, and three requests. `well` is built,
`failing` is not, `endless` goes on until it is canceled. Each request is a deployment of its own.

    class TestAcme(ProviderConformance):
        @pytest.fixture
        def provider(self) -> Acme: ...

        @pytest.fixture
        def well(self) -> BuildRequest: ...
"""

import itertools
import time

import pytest

from domain.errors import DeploymentError, ErrorCode
from domain.ids import uuid7
from providers.base import FINAL_STAGES, MOST_LINES, Build, BuildNews, BuildRequest, Capability, Provider


@pytest.mark.asyncio
class ProviderConformance:
    async def test_a_deployment_has_one_build_however_often_it_is_started(
        self, provider: Provider, well: BuildRequest
    ) -> None:
        first = await provider.start_build(well)
        again = await provider.start_build(well)
        await told(provider, well, first)
        once_more = await provider.start_build(well)

        assert first == again == once_more
        assert first.deployment_id == well.deployment_id

    async def test_a_build_is_found_without_being_started(self, provider: Provider, well: BuildRequest) -> None:
        before = await provider.find_build(well)
        build = await provider.start_build(well)

        assert before is None
        assert await provider.find_build(well) in (build, None)

    async def test_news_end_with_a_final_stage_and_nothing_follows(
        self, provider: Provider, well: BuildRequest
    ) -> None:
        news = await told(provider, well, await provider.start_build(well))

        assert [n.stage in FINAL_STAGES for n in news] == [False] * (len(news) - 1) + [True]
        assert news[-1].stage == "built"
        assert news[-1].failure is None

    async def test_whoever_resumes_gets_each_line_once_from_any_cursor(
        self, provider: Provider, well: BuildRequest
    ) -> None:
        build = await provider.start_build(well)
        news = await told(provider, well, build)
        all_lines = messages(news)
        before: list[str] = []

        for part in news[:-1]:
            before += [line.message for line in part.lines]
            assert before + messages(await told(provider, well, build, part.cursor)) == all_lines

    async def test_no_more_lines_are_told_at_once_than_there_is_room_for(
        self, provider: Provider, well: BuildRequest
    ) -> None:
        news = await told(provider, well, await provider.start_build(well))

        assert all(len(part.lines) <= MOST_LINES for part in news)

    async def test_news_come_every_second_also_when_nothing_happens(
        self, provider: Provider, endless: BuildRequest
    ) -> None:
        build = await provider.start_build(endless)
        came = []
        async for _ in provider.follow_build(endless, build, ""):
            came.append(time.monotonic())
            if len(came) > 2 and came[-1] - came[0] > 1.5:
                break
        if can(provider, endless, Capability.CANCEL):
            await provider.cancel_build(endless, build)

        assert max(later - earlier for earlier, later in itertools.pairwise(came)) < 1.5

    async def test_a_failing_build_says_why(self, provider: Provider, failing: BuildRequest) -> None:
        last = (await told(provider, failing, await provider.start_build(failing)))[-1]

        assert last.stage == "failed"
        assert last.failure is not None
        assert last.failure.message

    async def test_a_canceled_build_no_longer_runs_and_may_be_canceled_again_or_that_is_refused(
        self, provider: Provider, endless: BuildRequest
    ) -> None:
        build = await provider.start_build(endless)

        if can(provider, endless, Capability.CANCEL):
            await provider.cancel_build(endless, build)
            await provider.cancel_build(endless, build)
            assert (await told(provider, endless, build))[-1].stage == "canceled"
        else:
            with pytest.raises(DeploymentError):
                await provider.cancel_build(endless, build)

    async def test_canceling_what_has_ended_changes_nothing(self, provider: Provider, well: BuildRequest) -> None:
        build = await provider.start_build(well)
        await told(provider, well, build)

        await provider.cancel_build(well, build)

        assert (await told(provider, well, build))[-1].stage == "built"

    async def test_publishing_twice_gives_the_same_address(self, provider: Provider, well: BuildRequest) -> None:
        build = await provider.start_build(well)
        await told(provider, well, build)

        first = await provider.publish_build(well, build)
        again = await provider.publish_build(well, build)

        assert first.deployment_url
        assert (first.deployment_url, first.preview_urls) == (again.deployment_url, again.preview_urls)

    async def test_an_earlier_build_is_made_live_again_or_that_is_refused(
        self, provider: Provider, well: BuildRequest
    ) -> None:
        build = await provider.start_build(well)
        await told(provider, well, build)
        published = await provider.publish_build(well, build)

        if can(provider, well, Capability.REPOINT):
            assert (await provider.repoint(well, build)).deployment_url == published.deployment_url
        else:
            with pytest.raises(DeploymentError):
                await provider.repoint(well, build)

    async def test_a_report_reads_only(self, provider: Provider, well: BuildRequest) -> None:
        build = await provider.start_build(well)
        await told(provider, well, build)

        assert await provider.collect_report(well, build) == await provider.collect_report(well, build)

    async def test_a_failed_build_has_a_report_too(self, provider: Provider, failing: BuildRequest) -> None:
        build = await provider.start_build(failing)
        await told(provider, failing, build)

        assert (await provider.collect_report(failing, build)).artifact_id is None

    async def test_a_build_that_is_gone_is_told_as_failed(self, provider: Provider, well: BuildRequest) -> None:
        never = Build(
            deployment_id=str(uuid7()),
            project_id=well.project_id,
            environment=well.environment,
            build_id="gone",
            task_queue=provider.task_queue,
        )

        last = (await told(provider, well, never))[-1]

        assert last.stage == "failed"
        assert last.failure is not None
        assert last.failure.code in set(ErrorCode)


async def told(provider: Provider, request: BuildRequest, build: Build, cursor: str = "") -> list[BuildNews]:
    return [news async for news in provider.follow_build(request, build, cursor)]


def messages(news: list[BuildNews]) -> list[str]:
    return [line.message for part in news for line in part.lines]


def can(provider: Provider, request: BuildRequest, capability: Capability) -> bool:
    """For a project of these settings."""
    can_do = provider.capabilities_of(request.provider_settings)
    assert can_do <= provider.capabilities
    return capability in can_do
