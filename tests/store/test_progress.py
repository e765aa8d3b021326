"""What running deployments write down: once, in order, however often the news comes."""

import asyncio

import pytest

from domain.build import Build
from domain.deployment import Deployment, Repository, TriggerDeploymentRequest
from domain.ending import Ending
from domain.errors import ErrorCode
from domain.project import Project
from domain.result import BuildReport, DeploymentMetrics, Failure
from domain.states import Status
from store.database import Database
from store.deployments import DeploymentStore
from store.events import EventStore
from store.progress import ProgressStore


async def accepted(deployments: DeploymentStore) -> Deployment:
    request = TriggerDeploymentRequest(project_id="shop", source_ref="main")
    return (await deployments.trigger(request, "ada")).answer


async def test_a_skipped_stage_is_made_up_for_and_late_news_moves_nothing(
    deployments: DeploymentStore, progress: ProgressStore, database: Database, shop: Project
) -> None:
    deployment = await accepted(deployments)
    await progress.reach(deployment.id, Status.BUILDING)
    late = await progress.reach(deployment.id, Status.INITIALIZING)
    assert late.status is Status.BUILDING
    changes = await EventStore(database).of_deployment(deployment.id, after=0)
    assert [change.deployment.status for change in changes] == ["created", "queued", "initializing", "building"]
    assert [change.cursor for change in changes] == sorted({change.cursor for change in changes})


async def test_a_deployment_ends_once(deployments: DeploymentStore, progress: ProgressStore, shop: Project) -> None:
    deployment = await accepted(deployments)
    endings = [
        Ending(status=status) for status in (Status.SUCCEEDED, Status.CANCELED, Status.FAILED, Status.TIMEOUT)
    ] * 3
    answers = await asyncio.gather(*(progress.finish(deployment.id, ending) for ending in endings))
    assert len({answer.status for answer in answers}) == 1
    assert len({answer.finished_at for answer in answers}) == 1


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMEOUT])
async def test_a_cancel_that_was_acknowledged_counts_before_what_goes_wrong_then(
    deployments: DeploymentStore, progress: ProgressStore, shop: Project, status: Status
) -> None:
    deployment = await accepted(deployments)
    await progress.reach(deployment.id, Status.BUILDING)
    await deployments.request_cancel(deployment.id, "ada")
    failure = Failure(code=ErrorCode.BUILD_FAILED, message="the builder was ended from outside")
    done = await progress.finish(deployment.id, Ending(status=status, failure=failure))
    assert done.status is Status.CANCELED
    assert done.error is not None
    assert (done.error.code, done.error.message) == (
        ErrorCode.CANCELED,
        "canceled on request; before it was: the builder was ended from outside",
    )


async def test_a_cancel_that_was_acknowledged_counts_before_a_success_that_published_nothing(
    deployments: DeploymentStore, progress: ProgressStore, shop: Project
) -> None:
    deployment = await accepted(deployments)
    await progress.reach(deployment.id, Status.BUILDING)
    await deployments.request_cancel(deployment.id, "ada")
    done = await progress.finish(deployment.id, Ending(status=Status.SUCCEEDED))
    assert (done.status, done.error and done.error.code) == (Status.CANCELED, ErrorCode.CANCELED)


async def test_an_ending_brings_result_error_and_duration_together(
    deployments: DeploymentStore, progress: ProgressStore, shop: Project
) -> None:
    deployment = await accepted(deployments)
    assert await deployments.result(deployment.id) is None
    failure = Failure(code=ErrorCode.BUILD_FAILED, message="step build ended with exit code 7", exit_code=7)
    report = BuildReport(metrics=DeploymentMetrics(tests_failed=2), artifact_id="sha256:1")
    ending = Ending(status=Status.FAILED, failure=failure, report=report)
    done = await progress.finish(deployment.id, ending)
    result = await deployments.result(deployment.id)
    assert (done.error, done.artifact_id) == (failure, "sha256:1")
    assert done.duration is not None
    assert result is not None
    assert (result.success, result.errors, result.metrics.tests_failed) == (False, [failure], 2)


async def test_what_is_learnt_is_on_the_deployment(
    deployments: DeploymentStore, progress: ProgressStore, shop: Project
) -> None:
    deployment = await accepted(deployments)
    build = Build(
        deployment_id=deployment.id, project_id="shop", environment="production", build_id="b1", task_queue="q"
    )
    repository = Repository(url="https://x/y", branch="main", commit="f" * 40, author="ada", message="first")
    for _ in range(2):  # activities are tried again
        await progress.note_build(build)
        await progress.note_repository(deployment.id, repository)
    known = await deployments.get(deployment.id)
    assert (known.build_id, known.commit_sha, known.metadata.repository) == ("b1", "f" * 40, repository)


async def test_events_of_a_project_are_numbered_without_gaps_under_load(
    deployments: DeploymentStore, progress: ProgressStore, database: Database, shop: Project
) -> None:
    forced = [TriggerDeploymentRequest(project_id="shop", source_ref="main", force=True) for _ in range(8)]
    made = await asyncio.gather(*(deployments.trigger(request, "ada") for request in forced))
    await asyncio.gather(*(progress.finish(one.answer.id, Ending(status=Status.SUCCEEDED)) for one in made))
    events = EventStore(database)
    cursors = [change.cursor for change in await events.of_project("shop", after=0)]
    assert cursors == list(range(1, 8 * 6 + 1))
    assert await events.head("shop") == 48


async def test_a_wait_for_the_provider_says_why_and_since_when_until_it_goes_on(
    deployments: DeploymentStore, progress: ProgressStore, shop: Project
) -> None:
    deployment = await accepted(deployments)
    await progress.reach(deployment.id, Status.BUILDING)
    await progress.wait_for_provider(deployment.id, "vercel answers 503")
    first = await deployments.get(deployment.id)
    await progress.wait_for_provider(deployment.id, "vercel cannot be connected to")
    later = await deployments.get(deployment.id)
    assert (later.status, later.waiting_on) == (Status.BUILDING, "provider")
    assert later.waiting_reason == "vercel cannot be connected to"
    assert later.waiting_since == first.waiting_since is not None
    went_on = await progress.reach(deployment.id, Status.BUILDING)
    assert (went_on.waiting_on, went_on.waiting_reason, went_on.waiting_since) == (None, None, None)
    await progress.wait_for_provider(deployment.id, "vercel answers 503")
    ended = await progress.finish(deployment.id, Ending(status=Status.CANCELED))
    await progress.wait_for_provider(deployment.id, "late news")
    assert ended == await deployments.get(deployment.id)
    assert ended.waiting_on is None
