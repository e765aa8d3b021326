"""Environments that end: who deletes one and who triggers there, one of them wins; what stays, and what does not."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from domain.deployment import (
    Deployment,
    ListDeploymentsOptions,
    RetryRequest,
    RollbackRequest,
    TriggerDeploymentRequest,
)
from domain.ending import Ending
from domain.errors import DeploymentError, ErrorCode
from domain.page import PageRequest
from domain.project import CreateEnvironmentRequest, Environment, Project, UpdateEnvironmentRequest
from domain.states import Status
from store.audit_reader import AuditReader
from store.database import Database
from store.deployments import DeploymentStore
from store.environments import EnvironmentStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.seal import Sealer

DONE = Ending(status=Status.SUCCEEDED)
FAILED = Ending(status=Status.FAILED)


class House:
    """The project `shop`, and what is done with its environments."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self.database = database
        self.projects = ProjectStore(database, sealer)
        self.deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 10_000))
        self.environments = EnvironmentStore(database)
        self.progress = ProgressStore(database, sealer)
        self.gate = GateStore(database)

    async def environment(self, name: str, **more: Any) -> Environment:
        request = CreateEnvironmentRequest.model_validate({"name": name, **more})
        return (await self.projects.create_environment("shop", request, "ada")).answer

    async def names(self) -> list[str]:
        return [one.name for one in (await self.projects.list_environments("shop", PageRequest(limit=100))).items]

    async def trigger(self, environment: Environment, **more: Any) -> Deployment:
        asked = {"project_id": "shop", "source_ref": "main", "environment_id": environment.id, **more}
        return (await self.deployments.trigger(TriggerDeploymentRequest.model_validate(asked), "ada")).answer

    async def end(self, deployment: Deployment, ending: Ending = DONE) -> None:
        await self.gate.look(deployment.id)
        await self.progress.finish(deployment.id, ending)


@pytest.fixture
async def house(database: Database, sealer: Sealer, shop: Project) -> House:
    return House(database, sealer)


async def refused(what: Awaitable[object], code: ErrorCode) -> str:
    with pytest.raises(DeploymentError) as told:
        await what
    assert told.value.code is code
    return told.value.message


async def test_a_deleted_environment_leaves_its_history_and_its_name_and_no_secret(
    house: House, database: Database
) -> None:
    staging = await house.environment("staging", configuration={"secrets": {"KEY": "a-secret-of-staging"}})
    deployment = await house.trigger(staging)
    await house.end(deployment)
    await house.environments.delete(staging.id, "bob")
    assert await house.names() == ["production"]
    assert (await house.deployments.get(deployment.id)).configuration.secrets == {"KEY": "***", "NPM_TOKEN": "***"}
    options = ListDeploymentsOptions(environment_id=staging.id)
    assert (await house.deployments.list_of_project("shop", options, PageRequest())).total == 1
    sealed = await database.fetch_all(
        "select secrets from environments where id = %(id)s union all"
        " select secrets from deployments where environment_id = %(id)s",
        {"id": staging.id},
    )
    assert [row["secrets"] for row in sealed] == [None, None]
    for what in (
        house.projects.get_environment(staging.id),
        house.trigger(staging),
        house.environments.delete(staging.id, "bob"),
        house.projects.update_environment(staging.id, UpdateEnvironmentRequest(concurrency="queue"), "bob"),
    ):
        await refused(what, ErrorCode.ENVIRONMENT_NOT_FOUND)
    again = await house.environment("staging")
    assert again.id != staging.id
    assert again.configuration == {}
    assert (await house.trigger(again)).sequence == 1


async def test_what_went_to_a_deleted_environment_is_neither_rolled_back_nor_tried_again(house: House) -> None:
    staging = await house.environment("staging")
    made = []
    for ending in (DONE, DONE, FAILED):
        made.append(await house.trigger(staging))
        await house.end(made[-1], ending)
    await house.environments.delete(staging.id, "bob")
    for what in (
        house.deployments.retry(made[2].id, RetryRequest(), "ada"),
        house.deployments.rollback(made[1].id, RollbackRequest(), "ada"),
        house.deployments.preview_rollback(made[1].id, RollbackRequest()),
    ):
        assert "staging was deleted" in await refused(what, ErrorCode.CONFLICT)


async def test_what_runs_or_waits_keeps_its_environment(house: House) -> None:
    staging = await house.environment("staging", concurrency="queue", protection={"requiredApprovals": 0})
    running, waiting = [await house.trigger(staging) for _ in range(2)]
    said = await refused(house.environments.delete(staging.id, "bob"), ErrorCode.CONFLICT)
    assert f"{running.id} is created" in said
    assert f"{waiting.id} waits (lane)" in said
    for one in (running, waiting):
        await house.end(one)
    await house.environments.delete(staging.id, "bob")


async def test_the_default_environment_stays_until_another_one_is_it(house: House) -> None:
    [production] = (await house.projects.list_environments("shop", PageRequest())).items
    said = await refused(house.environments.delete(production.id, "bob"), ErrorCode.CONFLICT)
    assert "default" in said
    await house.environment("staging", is_default=True)
    await house.environments.delete(production.id, "bob")
    assert await house.names() == ["staging"]


async def test_while_the_default_changes_every_trigger_finds_one(house: House) -> None:
    [production] = (await house.projects.list_environments("shop", PageRequest())).items
    staging = await house.environment("staging")
    request = TriggerDeploymentRequest(project_id="shop", source_ref="main", concurrency="parallel")
    for number in range(10):
        becomes = (staging, production)[number % 2]
        told, *_ = await asyncio.gather(
            asyncio.gather(*(house.deployments.trigger(request, "ada") for _ in range(3))),
            house.projects.update_environment(becomes.id, UpdateEnvironmentRequest(is_default=True), "ada"),
        )
        assert {one.answer.environment_id for one in told} <= {staging.id, production.id}


async def test_who_has_seen_an_older_version_deletes_nothing(house: House) -> None:
    staging = await house.environment("staging")
    await house.projects.update_environment(staging.id, UpdateEnvironmentRequest(concurrency="queue"), "ada")
    await refused(house.environments.delete(staging.id, "bob", version=staging.version), ErrorCode.PRECONDITION_FAILED)
    await house.environments.delete(staging.id, "bob", version=staging.version + 1)


async def test_of_a_delete_and_a_trigger_at_once_exactly_one_wins(house: House, database: Database) -> None:
    deleted = 0
    for number in range(20):
        one = await house.environment(f"e{number}")
        both = [house.environments.delete(one.id, "bob"), house.trigger(one)]
        first = number % 2
        told = await asyncio.gather(both[first], both[1 - first], return_exceptions=True)
        gone, triggered = told[first], told[1 - first]
        if isinstance(triggered, Deployment):
            assert isinstance(gone, DeploymentError)
            assert gone.code is ErrorCode.CONFLICT
        else:
            assert gone is None
            assert isinstance(triggered, DeploymentError)
            assert triggered.code is ErrorCode.ENVIRONMENT_NOT_FOUND
            deleted += 1
    assert len(await house.names()) == 1 + 20 - deleted
    [row] = await database.fetch_all("select count(*) as number from deployments")
    assert row["number"] == 20 - deleted


async def test_a_deletion_is_in_the_audit_and_its_take_down_is_not(house: House, database: Database) -> None:
    staging = await house.environment("staging")
    await house.environments.delete(staging.id, "bob")
    await house.environments.note_taken_down(staging.id)
    reader = AuditReader(database)
    entry = (await database.fetch_all("select * from audit where project_id = 'shop' order by sequence desc limit 1"))[
        0
    ]
    assert (entry["actor"], entry["action"], entry["target"]) == ("bob", "environment.delete", staging.id)
    assert entry["details"] == {"name": "staging"}
    assert (await reader.verify(["shop"])).valid


async def test_a_take_down_is_claimed_once_a_minute_until_it_is_done(house: House, database: Database) -> None:
    staging = await house.environment("staging")
    assert await house.environments.claim_take_downs() == []
    await house.environments.delete(staging.id, "bob")
    claimed = await asyncio.gather(*(house.environments.claim_take_downs() for _ in range(5)))
    assert sorted(claimed, reverse=True) == [[staging.id], [], [], [], []]
    later = "update environments set take_down_asked_at = now() - interval '2 minutes' where deleted_at is not null"
    await database.fetch_all(f"{later} returning id")
    assert await house.environments.claim_take_downs() == [staging.id]
    await house.environments.note_taken_down(staging.id)
    await database.fetch_all(f"{later} returning id")
    assert await house.environments.claim_take_downs() == []


async def test_what_is_taken_down_is_of_the_deleted_one_alone(house: House) -> None:
    old = await house.environment("staging")
    deployment = await house.trigger(old)
    await house.progress.reach(deployment.id, Status.BUILDING, build_id="b1", task_queue="builder-1")
    await house.end(deployment)
    assert await house.environments.removed(old.id) is None
    await house.environments.delete(old.id, "bob")
    await house.trigger(await house.environment("staging"))
    removed = await house.environments.removed(old.id)
    assert removed is not None
    assert (removed.environment, removed.deployment_ids) == ("staging", [deployment.id])
    assert await house.environments.builders_of(old.id) == ["builder-1"]
