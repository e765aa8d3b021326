"""Previews: of each branch one environment, whoever asks at once; it stays while it is used, and no longer."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.errors import DeploymentError, ErrorCode
from domain.page import PageRequest
from domain.project import Environment, Project, UpdateEnvironmentRequest, UpdateProjectRequest
from domain.states import Status
from store.audit_reader import AuditReader
from store.database import Database
from store.environments import remove
from store.projects import environment_row
from store.seal import Sealer
from tests.servers import eventually
from tests.store.test_environments import House, refused

DAY = 24 * 3600


class Previews(House):
    async def allow(self, **more: Any) -> None:
        said = {"previews": {"refs": ["feature/*", "fix-*"], **more}}
        await self.projects.update_project("shop", UpdateProjectRequest.model_validate(said), "ada")

    async def preview(self, branch: str = "feature/x", **more: Any) -> Deployment:
        asked = {"project_id": "shop", "source_ref": branch, "preview": True, **more}
        return (await self.deployments.trigger(TriggerDeploymentRequest.model_validate(asked), "ada")).answer

    async def done(self, branch: str) -> Deployment:
        deployment = await self.preview(branch)
        await self.end(deployment)
        return deployment

    async def made(self) -> dict[str, Environment]:
        found = (await self.projects.list_environments("shop", PageRequest(limit=100))).items
        return {one.name: one for one in found if one.branch is not None}

    async def let_expire(self) -> None:
        await self.database.fetch_all("update environments set expires_at = now() where branch is not null returning 1")
        await self.environments.expire_due()


@pytest.fixture
async def previews(database: Database, sealer: Sealer, shop: Project) -> Previews:
    house = Previews(database, sealer)
    await house.allow()
    return house


async def test_the_first_deployment_of_a_branch_makes_its_environment_and_each_one_makes_it_stay(
    previews: Previews,
) -> None:
    first = await previews.done("feature/x")
    assert first.configuration.environment == "preview-feature-x"
    [environment] = (await previews.made()).values()
    assert (environment.id, environment.type, environment.branch) == (first.environment_id, "preview", "feature/x")
    assert environment.expires_at is not None
    left = environment.expires_at - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
    await previews.allow(ttlSeconds=30 * DAY)
    assert (await previews.done("feature/x")).environment_id == environment.id
    later = (await previews.made())["preview-feature-x"].expires_at
    assert later is not None
    assert later - datetime.now(UTC) > timedelta(days=29)


async def test_triggers_of_one_new_branch_at_once_make_one_environment(previews: Previews) -> None:
    told = await asyncio.gather(*(previews.preview(concurrency="parallel") for _ in range(50)))
    assert len({one.environment_id for one in told}) == 1
    assert sorted(one.sequence for one in told) == list(range(1, 51))
    assert len(await previews.made()) == 1


async def test_each_preview_has_a_lane_of_its_own(previews: Previews) -> None:
    await previews.preview("feature/x")
    await previews.preview("feature/y")
    await refused(previews.preview("feature/x"), ErrorCode.ALREADY_RUNNING)


async def test_branches_that_read_alike_get_environments_of_their_own(previews: Previews) -> None:
    await previews.environment("preview-fix-taken")
    for branch in ("feature/a-b", "feature/a/b", "fix-taken"):
        await previews.done(branch)
    names = {one.branch: one.name for one in (await previews.made()).values()}
    assert names["feature/a-b"] == "preview-feature-a-b"
    assert names["feature/a/b"].startswith("preview-feature-a-b-")
    assert names["fix-taken"].startswith("preview-fix-taken-")


async def test_what_is_no_preview_is_refused_and_makes_nothing(previews: Previews) -> None:
    said = await refused(previews.preview("main"), ErrorCode.INVALID_SOURCE_REF)
    assert "feature/*" in said
    await refused(previews.preview("feature/x", environment_id="e"), ErrorCode.INVALID_REQUEST)
    await refused(previews.preview("feature/x", configuration={"environment": "e"}), ErrorCode.INVALID_REQUEST)
    await refused(previews.preview("a" * 40), ErrorCode.INVALID_SOURCE_REF)
    await previews.allow(base="nowhere")
    assert "nowhere" in await refused(previews.preview(), ErrorCode.ENVIRONMENT_NOT_FOUND)
    await previews.projects.update_project("shop", UpdateProjectRequest(previews=None), "ada")
    assert "`previews`" in await refused(previews.preview(), ErrorCode.ENVIRONMENT_NOT_FOUND)
    assert await previews.made() == {}


async def test_a_preview_lies_on_its_base_as_that_is_now_and_begins_with_its_rules(previews: Previews) -> None:
    variables = {"A": "base", "B": "base", "C": "base"}
    base = await previews.environment(
        "template",
        concurrency="queue",
        protection={"allowedRefs": ["feature/*"]},
        configuration={"environmentVariables": variables, "secrets": {"KEY": "a-secret-of-the-base"}},
    )
    await previews.allow(base="template")
    first = await previews.done("feature/x")
    assert first.configuration.environment_variables == variables
    assert first.configuration.secrets == {"KEY": "***", "NPM_TOKEN": "***"}
    assert (first.secret_versions["KEY"].scope, first.secret_versions["NPM_TOKEN"].scope) == ("base", "project")
    [made] = (await previews.made()).values()
    assert (made.concurrency, made.protection.allowed_refs, made.configuration) == ("queue", ["feature/*"], {})
    for environment, changed in ((base.id, {"A": "newer"}), (made.id, {"B": "own"})):
        said = {"configuration": {"environmentVariables": changed}}
        await previews.projects.update_environment(environment, UpdateEnvironmentRequest.model_validate(said), "ada")
    asked = {"environmentVariables": {"C": "asked"}}
    second = await previews.preview("feature/x", configuration=asked)
    assert second.configuration.environment_variables == {"A": "newer", "B": "own", "C": "asked"}
    assert second.configuration_digest != first.configuration_digest
    assert "feature/*" in await refused(previews.preview("fix-1"), ErrorCode.INVALID_SOURCE_REF)
    assert len(await previews.made()) == 1, "what is refused makes no environment"


async def test_one_that_expired_is_deleted_once_nothing_runs_there(previews: Previews, database: Database) -> None:
    running = await previews.preview("feature/x")
    await previews.done("feature/y")
    await previews.let_expire()
    assert list(await previews.made()) == ["preview-feature-x"]
    await previews.end(running)
    await asyncio.gather(*(previews.environments.expire_due() for _ in range(3)))
    assert await previews.made() == {}
    deeds = await database.fetch_all("select actor, reason from audit where action = 'environment.delete'")
    assert [row["actor"] for row in deeds] == ["headway", "headway"]
    assert all(row["reason"].startswith("it expired at 2") for row in deeds)
    assert (await AuditReader(database).verify(["shop"])).valid
    again = await previews.preview("feature/x")
    assert again.environment_id != running.environment_id
    assert again.sequence == 1


async def test_of_an_expiry_and_a_trigger_at_once_one_wins_whole(previews: Previews, database: Database) -> None:
    before: str | None = None
    kept = 0
    for number in range(20):
        deployment = await previews.done("feature/x")
        before = deployment.environment_id
        await database.fetch_all("update environments set expires_at = now() where branch is not null returning 1")
        both = [previews.environments.expire_due(), previews.preview("feature/x")]
        first = number % 2
        await asyncio.gather(both[first], both[1 - first])
        [environment] = (await previews.made()).values()
        [latest] = await database.fetch_all("select * from deployments where status = 'created'")
        assert str(latest["environment_id"]) == environment.id, "what was triggered has an environment"
        kept += environment.id == before
        assert environment.expires_at is not None
        assert environment.expires_at > datetime.now(UTC)
        await previews.end(await previews.deployments.get(str(latest["id"])))
    [deleted] = await database.fetch_all("select count(*) as number from environments where deleted_at is not null")
    assert deleted["number"] == 20 - kept


async def test_at_the_maximum_the_one_that_is_idle_the_longest_ends(previews: Previews) -> None:
    await previews.allow(maximum=2)
    for branch in ("feature/1", "feature/2", "feature/1"):
        await previews.done(branch)
    third = await previews.preview("feature/3")
    assert sorted(await previews.made()) == ["preview-feature-1", "preview-feature-3"]
    await previews.preview("feature/1")
    said = await refused(previews.preview("feature/2"), ErrorCode.CONFLICT)
    assert "maximum is 2" in said
    assert sorted(await previews.made()) == ["preview-feature-1", "preview-feature-3"]
    await previews.end(third)
    await previews.preview("feature/2")
    assert sorted(await previews.made()) == ["preview-feature-1", "preview-feature-2"]


async def test_one_that_ends_while_it_is_waited_for_makes_room(previews: Previews, database: Database) -> None:
    await previews.allow(maximum=1)
    await previews.done("feature/1")
    [old] = (await previews.made()).values()
    async with database.transaction() as connection:
        await remove(connection, await environment_row(connection, old.id, lock=True), "ada")
        asked = asyncio.create_task(previews.preview("feature/2"))

        async def waits() -> bool:
            row = await database.fetch_one(
                "select count(*) as number from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
            return row is not None and row["number"] == 1

        await eventually(waits)
    assert (await asked).configuration.environment == "preview-feature-2"
    assert list(await previews.made()) == ["preview-feature-2"]


async def test_one_that_cannot_be_deleted_keeps_no_other_from_it(previews: Previews, database: Database) -> None:
    for branch in ("feature/1", "feature/2", "feature/3"):
        await previews.done(branch)
    async with database.connection() as connection:
        await connection.execute(
            "create function stays() returns trigger language plpgsql as"
            " $$ begin if old.branch = 'feature/1' and new.deleted_at is not null then raise 'it stays'; end if;"
            " return new; end $$"
        )
        await connection.execute(
            "create trigger stays before update on environments for each row execute function stays()"
        )
    await previews.let_expire()
    assert list(await previews.made()) == ["preview-feature-1"]


async def test_take_downs_that_fail_again_and_again_keep_no_other_waiting(
    previews: Previews, database: Database
) -> None:
    for branch in ("feature/1", "feature/2"):
        await previews.done(branch)
    await previews.let_expire()
    claimed = []
    for _ in range(4):
        claimed += await previews.environments.claim_take_downs(1)
        await database.fetch_all(
            "update environments set take_down_asked_at = take_down_asked_at - interval '2 minutes' returning id"
        )
    assert claimed[:2] == claimed[2:]
    assert len(set(claimed)) == 2


async def test_many_new_branches_at_once_keep_to_the_maximum(previews: Previews) -> None:
    await previews.allow(maximum=5)
    told = await asyncio.gather(*(previews.preview(f"feature/{n}") for n in range(12)), return_exceptions=True)
    assert sum(isinstance(one, Deployment) for one in told) == 5
    assert {one.code for one in told if isinstance(one, DeploymentError)} == {ErrorCode.CONFLICT}
    assert len(await previews.made()) == 5


async def test_who_has_made_a_preview_the_default_one_keeps_it(previews: Previews) -> None:
    made = await previews.done("feature/x")
    assert made.status is Status.CREATED
    await previews.projects.update_environment(
        made.environment_id, UpdateEnvironmentRequest.model_validate({"isDefault": True}), "ada"
    )
    await previews.let_expire()
    assert list(await previews.made()) == ["preview-feature-x"]
