"""The main job on a real stack: a repository becomes a site, whatever dies on the way; what fails says why."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from uuid import uuid4

import httpx
import pytest

from client.client import DeploymentsClient
from domain.configuration import ConfigurationChange
from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.errors import DeploymentError, ErrorCode
from domain.log import DeploymentLog
from domain.states import Status
from tests.end_to_end.conftest import MakeProject, processes_with
from tests.servers import eventually
from tests.test_stack import Up

SITE = {"src/index.html": "<h1>first</h1>", "build.sh": "mkdir -p out && cp src/* out/ && echo built"}
BUILD = {"buildCommand": "sh build.sh", "outputDirectory": "out"}
END_SECONDS = 90

Ask = Callable[..., httpx.Response]


def slow(ticks: int, mark: str = "tick") -> dict[str, str]:
    build = f"for i in $(seq 1 {ticks}); do echo {mark} $i; sleep 0.1; done; mkdir -p out; cp index.html out/"
    return {"index.html": "slow", "build.sh": build}


async def deploy(client: DeploymentsClient, project: str, ref: str = "main", **change: object) -> Deployment:
    configuration = ConfigurationChange.model_validate(change)
    request = TriggerDeploymentRequest(project_id=project, source_ref=ref, configuration=configuration)
    return await client.trigger_deployment(request)


async def end_of(client: DeploymentsClient, deployment: Deployment) -> Deployment:
    return await asyncio.wait_for(client.wait_for_end(deployment.id), END_SECONDS)


async def is_building(client: DeploymentsClient, deployment: Deployment, lines: int = 1) -> None:
    async def building() -> bool:
        now = await client.get_deployment(deployment.id)
        return now is not None and now.status is Status.BUILDING and len(await all_logs(client, deployment)) > lines

    await eventually(building)


async def all_logs(client: DeploymentsClient, deployment: Deployment) -> list[DeploymentLog]:
    return [line async for line in client.stream_logs(deployment.id, follow=False)]


async def test_a_repository_becomes_a_site_at_its_address_and_at_a_preview(
    client: DeploymentsClient, make_project: MakeProject, ask: Ask
) -> None:
    project = await make_project(SITE, **BUILD)
    done = await end_of(client, await deploy(client, project))
    assert (done.status, done.error) == (Status.SUCCEEDED, None)
    assert ask(f"production.{project}.localhost").text == "<h1>first</h1>"
    assert ask(f"{done.id}.localhost").text == "<h1>first</h1>"
    repository = done.metadata.repository
    assert repository is not None
    assert (repository.commit, repository.message) == (done.commit_sha, "first")
    result = await client.get_results(done.id)
    assert result is not None
    assert (result.success, result.metrics.file_count, result.metrics.build_size) == (True, 1, len("<h1>first</h1>"))
    assert [line.id for line in await all_logs(client, done)] == [
        str(n) for n in range(1, result.summary.log_lines + 1)
    ]
    assert {line.step for line in await all_logs(client, done)} >= {"clone", "install", "build", "publish"}


async def test_a_build_outlives_every_part_of_the_service(
    client: DeploymentsClient, local: Up, make_project: MakeProject
) -> None:
    """One build, during which worker, Temporal, PostgreSQL and API are killed, one after the other."""
    ticks = 250
    project = await make_project(slow(ticks), **BUILD)
    deployment = await deploy(client, project)
    await is_building(client, deployment, lines=5)
    for part in ("worker", "temporal", "postgres", "api", "edge"):
        before = local.said["pids"][part]
        os.kill(before, signal.SIGKILL)

        async def restarted(part: str = part, before: int = before) -> bool:
            return bool(local.said["pids"][part] != before)

        await eventually(restarted)
        await asyncio.sleep(1)  # lets it do some work before the next one goes

    async def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{local.said['apiUrl']}/readyz").is_success
        return False

    await eventually(answers)  # longer than a client would be patient, on a crowded machine
    done = await end_of(client, deployment)
    assert (done.status, done.error) == (Status.SUCCEEDED, None)
    lines = await all_logs(client, done)
    assert [int(line.id) for line in lines] == list(range(1, len(lines) + 1))
    said = [line.message for line in lines if line.message.startswith("tick ")]
    assert said == [f"tick {number}" for number in range(1, ticks + 1)]


async def test_a_live_log_has_every_line_once_as_it_comes(client: DeploymentsClient, make_project: MakeProject) -> None:
    project = await make_project(slow(20), **BUILD)
    deployment = await deploy(client, project)
    live = [line async for line in client.stream_logs(deployment.id)]
    assert [int(line.id) for line in live] == list(range(1, len(live) + 1))
    assert len([line for line in live if line.message.startswith("tick ")]) == 20
    assert live == await all_logs(client, deployment)


async def test_a_cancel_while_building_ends_it_long_before_its_time_and_leaves_no_process(
    client: DeploymentsClient, make_project: MakeProject
) -> None:
    mark = f"mark-{uuid4().hex}"
    build = f"(setsid sh -c 'sleep 300; echo {mark}' &) ; (sh -c 'sleep 300; echo {mark}') ; sleep 300"
    project = await make_project({"index.html": "x", "build.sh": build}, **BUILD)
    deployment = await deploy(client, project)
    await is_building(client, deployment)
    await eventually(_has_processes(mark))
    await client.cancel_deployment(deployment.id)
    done = await end_of(client, deployment)  # after about a second; the build itself would take five minutes
    assert done.status is Status.CANCELED
    assert done.error is not None
    assert done.error.code == ErrorCode.CANCELED
    assert processes_with(mark) == []
    with pytest.raises(DeploymentError) as refused:
        await client.cancel_deployment(deployment.id)
    assert refused.value.code is ErrorCode.CONFLICT


def _has_processes(mark: str) -> Callable[[], Awaitable[bool]]:
    async def has() -> bool:
        return len(processes_with(mark)) >= 2

    return has


async def test_a_build_that_runs_out_of_time_ends_as_timeout_and_leaves_no_process(
    client: DeploymentsClient, make_project: MakeProject
) -> None:
    mark = f"mark-{uuid4().hex}"
    project = await make_project({"build.sh": f"sh -c 'sleep 300; echo {mark}'"}, **BUILD, timeoutSeconds=3)
    done = await end_of(client, await deploy(client, project))
    assert done.status is Status.TIMEOUT
    assert done.error is not None
    assert done.error.code == ErrorCode.TIMEOUT
    assert processes_with(mark) == []


async def test_a_failing_build_says_which_step_failed_and_how(
    client: DeploymentsClient, make_project: MakeProject
) -> None:
    build = "for i in $(seq 1 30); do echo line $i; done; echo 'error: boom' >&2; exit 7"
    project = await make_project({"build.sh": build}, **BUILD)
    failed = await end_of(client, await deploy(client, project))
    assert failed.status is Status.FAILED
    assert failed.error is not None
    assert (failed.error.code, failed.error.phase, failed.error.exit_code) == (ErrorCode.BUILD_FAILED, "build", 7)
    assert len(failed.error.log_excerpt) == 20
    assert failed.error.log_excerpt[-1] == "error: boom"
    again = await end_of(client, await client.retry_deployment(failed.id))
    assert (again.status, again.metadata.retry_count, again.metadata.parent_deployment_id) == ("failed", 1, failed.id)


async def test_a_ref_that_is_not_there_fails_with_its_own_code(
    client: DeploymentsClient, make_project: MakeProject
) -> None:
    project = await make_project(SITE, **BUILD)
    done = await end_of(client, await deploy(client, project, "no-such-branch"))
    assert done.error is not None
    assert (done.status, done.error.code) == (Status.FAILED, ErrorCode.INVALID_SOURCE_REF)


async def test_skip_deploy_builds_without_publishing(
    client: DeploymentsClient, make_project: MakeProject, ask: Ask
) -> None:
    project = await make_project(SITE, **BUILD)
    done = await end_of(client, await deploy(client, project, skipDeploy=True))
    assert (done.status, done.deployment_url) == (Status.SUCCEEDED, None)
    assert ask(f"production.{project}.localhost").status_code == 404


async def test_a_second_deployment_replaces_the_site_and_keeps_the_first_as_a_preview(
    client: DeploymentsClient, make_project: MakeProject, ask: Ask
) -> None:
    build = 'mkdir -p out && echo "$GREETING" > out/index.html'
    project = await make_project({"build.sh": build}, **BUILD)
    first = await end_of(client, await deploy(client, project, environmentVariables={"GREETING": "hello"}))
    await end_of(client, await deploy(client, project, environmentVariables={"GREETING": "hi"}))
    assert ask(f"production.{project}.localhost").text.strip() == "hi"
    assert ask(f"{first.id}.localhost").text.strip() == "hello"


async def test_a_secret_is_nowhere_to_be_read(client: DeploymentsClient, local: Up, make_project: MakeProject) -> None:
    secret = f"value-{uuid4().hex}"
    build = 'echo "token: $DEPLOY_TOKEN"; mkdir -p out && echo ok > out/index.html'
    project = await make_project({"build.sh": build}, **BUILD)
    done = await end_of(client, await deploy(client, project, secrets={"DEPLOY_TOKEN": secret}))
    assert done.status is Status.SUCCEEDED
    assert "token: ***" in [line.message for line in await all_logs(client, done)]
    for path in local.data_dir.rglob("*"):
        if path.is_file() and "temporal" not in path.name:
            assert secret.encode() not in path.read_bytes(), path
    for path in local.data_dir.glob("temporal*"):
        assert secret.encode() not in path.read_bytes(), path
