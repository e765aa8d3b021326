"""The client: one intent is one deployment, streams have neither gap nor double, refusals are errors with a code."""

import asyncio
from contextlib import aclosing

import pytest

from client.client import DeploymentsClient
from domain.configuration import ConfigurationChange
from domain.deployment import Deployment, ListDeploymentsOptions, RetryRequest, TriggerDeploymentRequest
from domain.errors import DeploymentError, ErrorCode
from domain.log import LogFilter, LogLevel
from domain.page import PageRequest
from domain.project import CreateEnvironmentRequest, Project, UpdateEnvironmentRequest, UpdateProjectRequest
from domain.states import Status
from tests.client.conftest import Service
from tests.client.network import CutsStreams, LosesAnswers
from tests.servers import eventually, free_port

MAIN = TriggerDeploymentRequest(project_id="site", source_ref="main")


async def test_a_trigger_whose_answer_is_lost_stays_one_deployment(
    service: Service, client: DeploymentsClient, site: Project
) -> None:
    async with DeploymentsClient(service.url, service.token, transport=LosesAnswers(2)) as unlucky:
        made = await unlucky.trigger_deployment(MAIN)
    assert [one.id for one in (await client.list_deployments("site")).items] == [made.id]


async def test_what_has_no_key_is_sent_once(service: Service, deployment: Deployment) -> None:
    async with DeploymentsClient(service.url, service.token, transport=LosesAnswers(1)) as unlucky:
        with pytest.raises(DeploymentError) as refused:
            await unlucky.cancel_deployment(deployment.id)
    assert refused.value.code is ErrorCode.UNAVAILABLE


@pytest.mark.parametrize("quietly", [False, True])
async def test_a_log_that_is_cut_again_and_again_comes_whole(
    service: Service, deployment: Deployment, quietly: bool
) -> None:
    said = [f"line {number} {'x' * 30_000}" for number in range(1, 41)]
    await service.say(deployment, *said)
    await service.end(deployment, Status.SUCCEEDED)
    cuts = CutsStreams(3, cuts=4, quietly=quietly)
    async with DeploymentsClient(service.url, service.token, transport=cuts) as unlucky:
        lines = [line async for line in unlucky.stream_logs(deployment.id)]
    assert [line.message for line in lines] == said
    assert [int(line.id) for line in lines] == list(range(1, 41))
    assert cuts.left == 0


async def test_a_followed_log_has_history_and_what_comes(
    service: Service, client: DeploymentsClient, deployment: Deployment
) -> None:
    await service.say(deployment, "before")
    seen = []
    async with aclosing(client.stream_logs(deployment.id)) as lines:
        async for line in lines:
            seen.append(line.message)
            if line.message == "before":
                await service.say(deployment, "after")
            else:
                await service.end(deployment, Status.SUCCEEDED)
    assert seen == ["before", "after"]


async def test_a_log_is_read_by_level_and_from_its_end(
    service: Service, client: DeploymentsClient, deployment: Deployment
) -> None:
    await service.say(deployment, "one", "two", "three")
    assert [line.message for line in await client.get_logs(deployment.id, tail=2)] == ["two", "three"]
    assert [line.message for line in await client.get_logs(deployment.id, LogFilter(query="w"))] == ["two"]
    assert await client.get_logs(deployment.id, LogFilter(level=LogLevel.ERROR)) == []
    now = [line.message async for line in client.stream_logs(deployment.id, follow=False, after=2)]
    assert now == ["three"]


async def test_each_change_of_a_deployment_is_told_until_its_end(
    service: Service, client: DeploymentsClient, deployment: Deployment
) -> None:
    await service.end(deployment, Status.SUCCEEDED)
    told = [change.status async for change in client.follow_deployment(deployment.id)]
    assert told == ["created", "queued", "initializing", "building", "deploying", "succeeded"]
    assert (await client.wait_for_end(deployment.id)).duration is not None


async def test_a_subscriber_hears_of_changes_until_it_leaves(
    service: Service, client: DeploymentsClient, deployment: Deployment
) -> None:
    heard: list[Status] = []
    ended = asyncio.Event()

    def hear(change: Deployment) -> None:
        heard.append(change.status)
        if change.ended:
            ended.set()

    left = client.subscribe_to_deployment_status(deployment.id, lambda _: pytest.fail("it had left"))
    left()
    client.subscribe_to_deployment_status(deployment.id, hear)
    await service.end(deployment, Status.FAILED)
    await asyncio.wait_for(ended.wait(), 10)
    assert heard == ["created", "failed"]


async def test_a_subscriber_to_a_project_hears_of_all_its_deployments(
    service: Service, client: DeploymentsClient, site: Project
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    client.subscribe_to_project_deployments("site", lambda change: heard.put_nowait(change.source_ref))
    refs: list[str] = []

    async def is_heard() -> bool:
        """A subscription tells what comes after it stands: there is no moment at which a caller could know that."""
        ref = f"try-{len(refs)}"
        refs.append(ref)
        await client.trigger_deployment(TriggerDeploymentRequest(project_id="site", source_ref=ref, force=True))
        return not heard.empty()

    await eventually(is_heard)
    assert heard.get_nowait() in refs


async def test_results_and_figures_are_none_until_the_end(
    service: Service, client: DeploymentsClient, deployment: Deployment
) -> None:
    assert await client.get_results(deployment.id) is None
    assert await client.get_metrics(deployment.id) is None
    await service.end(deployment, Status.SUCCEEDED)
    result = await client.get_results(deployment.id)
    assert result is not None
    assert result.success
    assert await client.get_metrics(deployment.id) == result.metrics


async def test_what_is_missing_is_none_and_what_is_refused_an_error(client: DeploymentsClient, site: Project) -> None:
    assert await client.get_deployment("01900000-0000-7000-8000-000000000000") is None
    assert await client.get_project("nobody") is None
    with pytest.raises(DeploymentError) as refused:
        await client.trigger_deployment(TriggerDeploymentRequest(project_id="site", source_ref="--upload-pack=x"))
    assert refused.value.code is ErrorCode.INVALID_SOURCE_REF
    assert [pointer for pointer, _ in refused.value.fields] == ["/sourceRef"]


async def test_a_wrong_token_and_a_wrong_address_are_told_apart(service: Service) -> None:
    async with DeploymentsClient(service.url, "hw_nonsense") as stranger:
        with pytest.raises(DeploymentError) as refused:
            await stranger.list_projects()
    assert refused.value.code is ErrorCode.UNAUTHENTICATED
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with DeploymentsClient(nowhere, "hw_nonsense") as lost:
        with pytest.raises(DeploymentError, match=nowhere) as refused:
            await lost.cancel_deployment("x")
    assert refused.value.code is ErrorCode.UNAVAILABLE


async def test_a_cancel_and_a_retry(service: Service, client: DeploymentsClient, deployment: Deployment) -> None:
    assert (await client.cancel_deployment(deployment.id)).cancel_requested_at is not None
    await service.end(deployment, Status.CANCELED)
    again = await client.retry_deployment(deployment.id, RetryRequest(source_ref="other"))
    assert again.metadata.parent_deployment_id == deployment.id
    assert again.source_ref == "other"


async def test_deployments_are_listed_by_page_and_status(
    service: Service, client: DeploymentsClient, deployment: Deployment
) -> None:
    await service.say(deployment, "the last line")
    await service.end(deployment, Status.FAILED)
    second = await client.trigger_deployment(MAIN)
    first_page = await client.list_deployments("site", page=PageRequest(limit=1))
    rest = await client.list_deployments("site", page=PageRequest(limit=1, cursor=first_page.next_cursor))
    assert [one.id for one in first_page.items + rest.items] == [second.id, deployment.id]
    failed = await client.list_deployments("site", ListDeploymentsOptions(status=[Status.FAILED], include_logs=True))
    assert [one.logs for one in failed.items] == [["the last line"]]


async def test_projects_and_environments_are_changed(client: DeploymentsClient, site: Project) -> None:
    changes = UpdateProjectRequest(configuration=ConfigurationChange(output_directory="public"))
    assert (await client.update_project("site", changes)).configuration["outputDirectory"] == "public"
    staging = await client.create_environment("site", CreateEnvironmentRequest(name="staging"))
    await client.update_environment(staging.id, UpdateEnvironmentRequest(is_default=True))
    found = await client.list_environments("site")
    assert {one.name: one.is_default for one in found} == {"production": False, "staging": True}
    assert [one.id for one in (await client.list_projects()).items] == ["site"]
