"""A trigger is one transaction, whatever comes at the same moment."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from domain.configuration import ConfigurationChange
from domain.deployment import (
    Deployment,
    ListDeploymentsOptions,
    RetryRequest,
    SortBy,
    SortOrder,
    TriggerDeploymentRequest,
)
from domain.ending import Ending
from domain.errors import DeploymentError, ErrorCode
from domain.page import PageRequest
from domain.project import CreateEnvironmentRequest, Project, UpdateEnvironmentRequest
from domain.states import Status
from store.database import Database
from store.deployments import DeploymentStore
from store.idempotency import IdempotentRequest
from store.progress import ProgressStore
from store.projects import ProjectStore, environment_row


def request(**fields: object) -> TriggerDeploymentRequest:
    return TriggerDeploymentRequest.model_validate({"projectId": "shop", "sourceRef": "main", **fields})


def keyed(key: str, fingerprint: bytes = b"body") -> IdempotentRequest:
    return IdempotentRequest("shop", "/v1/deployments", key, fingerprint)


async def outcome(deployments: DeploymentStore, **fields: object) -> str:
    try:
        return (await deployments.trigger(request(**fields), "ada")).answer.status
    except DeploymentError as error:
        return error.code


async def ended(deployments: DeploymentStore, progress: ProgressStore, status: Status = Status.FAILED) -> Deployment:
    accepted = (await deployments.trigger(request(), "ada")).answer
    return await progress.finish(accepted.id, Ending(status=status))


async def test_a_trigger_freezes_the_merged_configuration(
    deployments: DeploymentStore, projects: ProjectStore, shop: Project
) -> None:
    change = ConfigurationChange(environment_variables={"B": "2"}, build_command="make")
    environment = (await projects.list_environments("shop", PageRequest())).items[0]
    accepted = (await deployments.trigger(request(configuration=change), "ada")).answer
    assert accepted.configuration.environment_variables == {"A": "1", "B": "2"}
    assert accepted.configuration.secrets == {"NPM_TOKEN": "***"}
    assert accepted.configuration.build_command == "make"
    assert (accepted.environment_id, accepted.configuration.environment) == (environment.id, "production")
    assert (accepted.status, accepted.sequence, accepted.version) == (Status.CREATED, 1, 1)


async def test_secrets_reach_the_builder_alone(
    deployments: DeploymentStore, progress: ProgressStore, database: Database, shop: Project
) -> None:
    accepted = (await deployments.trigger(request(), "ada")).answer
    built = await progress.build_request(accepted.id, timedelta(minutes=1))
    assert built.secrets == {"NPM_TOKEN": "npm-secret"}
    assert "npm-secret" not in repr(built) + accepted.model_dump_json()
    for table in ("projects", "deployments", "events", "audit"):
        rows = await database.fetch_all(f"select t::text as row from {table} t")
        assert not any("npm-secret" in row["row"] for row in rows), table


async def test_a_hundred_triggers_at_once_leave_one_running(deployments: DeploymentStore, shop: Project) -> None:
    answers = Counter(await asyncio.gather(*(outcome(deployments) for _ in range(100))))
    assert answers == {Status.CREATED: 1, ErrorCode.ALREADY_RUNNING: 99}


async def test_fifty_triggers_with_one_key_are_one_deployment(deployments: DeploymentStore, shop: Project) -> None:
    outcomes = await asyncio.gather(*(deployments.trigger(request(), "ada", keyed("k")) for _ in range(50)))
    assert len({made.answer.id for made in outcomes}) == 1
    assert [made.replayed for made in outcomes].count(False) == 1


async def test_a_key_with_another_body_is_refused(deployments: DeploymentStore, shop: Project) -> None:
    await deployments.trigger(request(), "ada", keyed("k"))
    with pytest.raises(DeploymentError) as refused:
        await deployments.trigger(request(), "ada", keyed("k", b"other"))
    assert refused.value.code is ErrorCode.IDEMPOTENCY_MISMATCH


async def test_a_refused_trigger_leaves_nothing_behind(
    deployments: DeploymentStore, database: Database, shop: Project
) -> None:
    for wrong in ({"sourceRef": "--upload-pack=x"}, {"environmentId": "nowhere"}):
        with pytest.raises(DeploymentError):
            await deployments.trigger(request(**wrong), "ada", keyed("k"))
    for table in ("deployments", "events", "idempotency"):
        assert await database.fetch_all(f"select 1 from {table}") == [], table
    assert (await outcome(deployments)) == Status.CREATED


async def test_force_starts_beside_what_runs(deployments: DeploymentStore, shop: Project) -> None:
    assert await outcome(deployments) == Status.CREATED
    assert await outcome(deployments, force=True) == Status.CREATED
    assert await outcome(deployments) == ErrorCode.ALREADY_RUNNING


async def test_a_parallel_environment_has_no_lane(
    deployments: DeploymentStore, projects: ProjectStore, shop: Project
) -> None:
    preview = CreateEnvironmentRequest(name="preview", concurrency="parallel")
    environment = (await projects.create_environment("shop", preview, "ada")).answer
    answers = [await outcome(deployments, environmentId=environment.id) for _ in range(3)]
    assert answers == [Status.CREATED] * 3


async def test_environments_are_lanes_of_their_own(
    deployments: DeploymentStore, projects: ProjectStore, shop: Project
) -> None:
    await projects.create_environment("shop", CreateEnvironmentRequest(name="staging"), "ada")
    assert await outcome(deployments) == Status.CREATED
    assert await outcome(deployments, configuration={"environment": "staging"}) == Status.CREATED
    assert await outcome(deployments, configuration={"environment": "nowhere"}) == ErrorCode.ENVIRONMENT_NOT_FOUND


async def test_the_lane_is_free_once_its_deployment_has_ended(
    deployments: DeploymentStore, progress: ProgressStore, shop: Project
) -> None:
    first = await ended(deployments, progress)
    second = await ended(deployments, progress)
    assert (first.sequence, second.sequence) == (1, 2)


async def test_the_eleventh_trigger_of_a_minute_is_told_to_wait(
    deployments: DeploymentStore, progress: ProgressStore, shop: Project
) -> None:
    for _ in range(10):
        await ended(deployments, progress)
    with pytest.raises(DeploymentError) as refused:
        await deployments.trigger(request(), "ada")
    assert refused.value.code is ErrorCode.RATE_LIMITED
    assert 0 < (refused.value.retry_after_seconds or 0) <= 60


async def test_a_retry_runs_with_the_snapshot_of_its_parent(
    deployments: DeploymentStore, progress: ProgressStore, projects: ProjectStore, shop: Project
) -> None:
    parent = await ended(deployments, progress)
    again = (await deployments.retry(parent.id, RetryRequest(), "bob")).answer
    assert (again.metadata.retry_count, again.metadata.parent_deployment_id) == (1, parent.id)
    assert (again.configuration, again.configuration_digest) == (parent.configuration, parent.configuration_digest)
    assert again.triggered_by == "bob"


async def test_what_succeeded_or_runs_is_not_retried(
    deployments: DeploymentStore, progress: ProgressStore, shop: Project
) -> None:
    done = await ended(deployments, progress, Status.SUCCEEDED)
    running = (await deployments.trigger(request(), "ada")).answer
    for deployment in (done, running):
        with pytest.raises(DeploymentError, match="accepted: failed, canceled, timeout"):
            await deployments.retry(deployment.id, RetryRequest(), "ada")


async def test_canceling_twice_changes_nothing_and_canceling_late_is_refused(
    deployments: DeploymentStore, progress: ProgressStore, shop: Project
) -> None:
    accepted = (await deployments.trigger(request(), "ada")).answer
    first = await deployments.request_cancel(accepted.id, "ada")
    assert first.cancel_requested_at is not None
    assert await deployments.request_cancel(accepted.id, "bob") == first
    await progress.finish(accepted.id, Ending(status=Status.CANCELED))
    with pytest.raises(DeploymentError) as refused:
        await deployments.request_cancel(accepted.id, "ada")
    assert refused.value.code is ErrorCode.CONFLICT


@pytest.mark.parametrize("identity", ["nonsense", "", "0" * 36, "01a207a6-cbca-7ba7-ae61-e8db2969c147"])
async def test_an_id_that_is_none_is_not_found(deployments: DeploymentStore, identity: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        await deployments.get(identity)
    assert refused.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("sort_by", ["createdAt", "startedAt", "finishedAt"])
@pytest.mark.parametrize("sort_order", ["asc", "desc"])
async def test_pages_by_cursor_hold_every_deployment_once(
    deployments: DeploymentStore, progress: ProgressStore, shop: Project, sort_by: SortBy, sort_order: SortOrder
) -> None:
    for _ in range(4):
        await ended(deployments, progress)
    await deployments.trigger(request(), "ada")  # has neither started nor finished
    options = ListDeploymentsOptions(sort_by=sort_by, sort_order=sort_order)
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = await deployments.list_of_project("shop", options, PageRequest(limit=2, cursor=cursor))
        seen += [deployment.sequence for deployment in page.items]
        assert page.total == 5
        if (cursor := page.next_cursor) is None:
            break
    assert sorted(seen) == [1, 2, 3, 4, 5]


async def test_filters_work_together(deployments: DeploymentStore, progress: ProgressStore, shop: Project) -> None:
    failed = await ended(deployments, progress)
    await ended(deployments, progress, Status.SUCCEEDED)
    options = ListDeploymentsOptions(status=[Status.FAILED, Status.TIMEOUT], triggered_by="ada", source_ref="main")
    page = await deployments.list_of_project("shop", options, PageRequest())
    assert [deployment.id for deployment in page.items] == [failed.id]


async def test_triggers_and_changes_of_environments_do_not_wait_for_each_other(
    deployments: DeploymentStore, projects: ProjectStore, shop: Project
) -> None:
    """Both lock an environment and write to its project; in two orders they would be a deadlock."""
    environment = (await projects.list_environments("shop", PageRequest())).items[0]
    change = UpdateEnvironmentRequest(configuration=ConfigurationChange(build_command="make"))

    async def trigger() -> str:
        # The limit ends what would be accepted after the tenth; that is no matter here.
        return await outcome(deployments, force=True)

    async def update() -> str:
        return (await projects.update_environment(environment.id, change, "ada")).id

    answers = Counter(await asyncio.gather(*(step() for _ in range(20) for step in (trigger, update))))
    assert answers == {Status.CREATED: 10, ErrorCode.RATE_LIMITED: 10, environment.id: 20}


async def test_a_deployment_moves_on_while_its_environment_is_locked(
    database: Database, deployments: DeploymentStore, progress: ProgressStore, shop: Project
) -> None:
    """Two moves in one transaction make PostgreSQL look at what the row refers to, while it holds the project's row: a
    trigger, which locks the environment first and the project then, must not be waited for."""
    request = TriggerDeploymentRequest(project_id="shop", source_ref="main")
    deployment = (await deployments.trigger(request, "ada")).answer
    async with database.transaction() as connection:
        await environment_row(connection, deployment.environment_id, lock=True)
        async with asyncio.timeout(20):
            moved = await progress.reach(deployment.id, Status.INITIALIZING)
    assert moved.status is Status.INITIALIZING
