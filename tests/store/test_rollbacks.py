"""Rollbacks: all of what ran comes back, and what was rolled back does not come back by itself."""

from datetime import timedelta
from typing import Any

import pytest

from domain.audit import SYSTEM
from domain.build import Build
from domain.configuration import ConfigurationChange
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
from domain.project import Project, UpdateEnvironmentRequest, UpdateProjectRequest
from domain.result import BuildReport, Failure
from domain.secret import document
from domain.states import Status
from store.database import Database
from store.deployments import DeploymentStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.outbox import Outbox
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.seal import Sealer

BACK: dict[str, Any] = {"configuration": {"rollbackOnFailure": True}}


class Shop:
    """Deployments of `shop` to its default environment."""

    def __init__(self, database: Database, sealer: Sealer, projects: ProjectStore) -> None:
        self.deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 10_000))
        self.progress = ProgressStore(database, sealer)
        self.gate = GateStore(database)
        self.projects = projects

    async def configure(self, number: int) -> None:
        """The project's defaults for the deployments that follow."""
        configuration = {"environmentVariables": {"VERSION": str(number)}, "secrets": {"KEY": f"secret-{number}"}}
        change = ConfigurationChange.model_validate(configuration)
        await self.projects.update_project("shop", UpdateProjectRequest(configuration=change), "ada")

    async def deploy(self, number: int, status: Status = Status.SUCCEEDED, **more: Any) -> Deployment:
        await self.configure(number)
        return await self.end(await self.trigger(**more), status, number)

    async def end(self, made: Deployment, status: Status, number: int) -> Deployment:
        build = Build(deployment_id=made.id, project_id="shop", environment="production", build_id=f"b{number}")
        await self.progress.note_build(build)
        await self.progress.reach(made.id, Status.BUILDING, commit_sha=f"{number:040x}")
        report = BuildReport(artifact_id=f"sha256:{number}")
        return await self.progress.finish(made.id, Ending(status=status, report=report))

    async def goes_bad(self, made: Deployment, status: Status = Status.FAILED) -> Deployment:
        """It went live, and its address was not well."""
        url = "https://shop.example.org/"
        await self.progress.reach(made.id, Status.DEPLOYING, deployment_url=url, commit_sha="b" * 40)
        failure = Failure(code=ErrorCode.DEPLOY_FAILED, message="status 500, wanted 200", phase="deploying")
        return await self.progress.finish(made.id, Ending(status=status, failure=failure))

    async def trigger(self, **more: Any) -> Deployment:
        asked = {"project_id": "shop", "source_ref": "main", "concurrency": "queue", **more}
        return (await self.deployments.trigger(TriggerDeploymentRequest.model_validate(asked), "ada")).answer

    async def newest(self) -> Deployment:
        return (await self.deployments.list_of_project("shop", ListDeploymentsOptions(), PageRequest(limit=1))).items[0]

    async def rollback(self, deployment: Deployment, target: str | None = None) -> Deployment:
        asked = RollbackRequest(target_deployment_id=target)
        return (await self.deployments.rollback(deployment.id, asked, "bob")).answer

    async def ran_with(self, deployment: Deployment) -> tuple[Any, ...]:
        """Commit, configuration and secrets, as a build gets them, and the secrets' versions."""
        request = await self.progress.build_request(deployment.id, timedelta())
        versions = document(deployment.secret_versions)
        return (deployment.configuration_digest, request.commit_sha, request.secrets["KEY"], versions)

    async def held_ref(self, deployment: Deployment) -> str | None:
        return (await self.projects.get_environment(deployment.environment_id)).held_ref


@pytest.fixture
async def shop_of(database: Database, sealer: Sealer, projects: ProjectStore, shop: Project) -> Shop:
    return Shop(database, sealer, projects)


async def test_artifact_configuration_and_secrets_of_then_come_back(shop_of: Shop) -> None:
    first = await shop_of.deploy(1)
    await shop_of.deploy(2, Status.FAILED)
    bad = await shop_of.deploy(3)
    await shop_of.configure(4)
    back = await shop_of.rollback(bad)
    assert (back.rollback_of, back.restores, back.triggered_by) == (bad.id, first.id, "bob")
    assert await shop_of.ran_with(back) == await shop_of.ran_with(first)
    build = await shop_of.progress.build_to_restore(back.id)
    assert build is not None
    assert (build.deployment_id, build.build_id) == (first.id, "b1")


async def test_what_was_rolled_back_waits_until_somebody_lets_it_back(shop_of: Shop) -> None:
    await shop_of.deploy(1)
    bad = await shop_of.deploy(2)
    back = await shop_of.rollback(bad)
    await shop_of.end(back, Status.SUCCEEDED, 1)
    assert await shop_of.held_ref(bad) == "main"
    asked = TriggerDeploymentRequest(project_id="shop", source_ref="main")
    again = (await shop_of.deployments.trigger(asked, "ada")).answer
    assert again.waiting_on == "approval"
    assert not (await shop_of.gate.look(again.id)).may_go
    await shop_of.gate.decide(again.id, "bob", "approve", None)
    assert (await shop_of.gate.look(again.id)).may_go
    assert await shop_of.held_ref(bad) is None


async def test_a_rollback_of_a_rollback_goes_forward_again(shop_of: Shop) -> None:
    await shop_of.deploy(1)
    second = await shop_of.deploy(2)
    back = await shop_of.end(await shop_of.rollback(second), Status.SUCCEEDED, 1)
    forward = await shop_of.rollback(back)
    assert (forward.restores, await shop_of.held_ref(back)) == (second.id, None)
    assert await shop_of.ran_with(forward) == await shop_of.ran_with(second)


async def test_a_rollback_to_one_that_was_restored_finds_its_build(shop_of: Shop) -> None:
    first = await shop_of.deploy(1)
    back = await shop_of.end(await shop_of.rollback(await shop_of.deploy(2)), Status.SUCCEEDED, 1)
    await shop_of.projects.update_environment(back.environment_id, UpdateEnvironmentRequest(held_ref=None), "root")
    third = await shop_of.deploy(3)
    assert (await shop_of.rollback(third)).restores == first.id


async def test_a_rollback_takes_the_lane(shop_of: Shop) -> None:
    await shop_of.deploy(1)
    bad = await shop_of.deploy(2)
    asked = TriggerDeploymentRequest(project_id="shop", source_ref="main", concurrency="queue")
    running, waiting = [(await shop_of.deployments.trigger(asked, "ada")).answer for _ in range(2)]
    back = await shop_of.rollback(bad)
    for one in (running, waiting):
        now = await shop_of.deployments.get(one.id)
        assert (now.superseded_by, now.cancel_requested_at is not None) == (back.id, True)
    await shop_of.progress.finish(running.id, Ending(status=Status.CANCELED))
    assert (await shop_of.gate.look(back.id)).may_go


async def test_what_cannot_be_gone_back_to_is_refused_with_what_can(shop_of: Shop) -> None:
    first = await shop_of.deploy(1)
    for target in (None, first.id, "no-such-deployment"):
        with pytest.raises(DeploymentError) as refused:
            await shop_of.rollback(first, target)
        assert refused.value.code is ErrorCode.CONFLICT
    second = await shop_of.deploy(2, Status.FAILED)
    with pytest.raises(DeploymentError) as refused:
        await shop_of.rollback(first, second.id)
    assert refused.value.details["available"] == []
    with pytest.raises(DeploymentError) as refused:
        await shop_of.rollback(second, second.id)
    assert refused.value.details["available"] == [first.id]


async def test_a_preview_names_what_would_change_and_shows_no_secret(shop_of: Shop) -> None:
    first = await shop_of.deploy(1)
    bad = await shop_of.deploy(2)
    preview = await shop_of.deployments.preview_rollback(bad.id, RollbackRequest())
    assert (preview.target.id, preview.held_ref) == (first.id, "main")
    changes = {change.path: (change.before, change.after) for change in preview.changes}
    assert changes == {
        "artifactId": ("sha256:2", "sha256:1"),
        "commitSha": (f"{2:040x}", f"{1:040x}"),
        "configuration.environmentVariables.VERSION": ("2", "1"),
        "secrets.KEY": ("v2", "v1"),
    }
    assert await shop_of.held_ref(bad) is None


async def test_a_retry_publishes_what_was_built_where_it_is_unchanged(shop_of: Shop) -> None:
    failed = await shop_of.deploy(1, Status.FAILED)
    again = (await shop_of.deployments.retry(failed.id, RetryRequest(from_stage="deploy"), "ada")).answer
    assert (again.restores, again.metadata.parent_deployment_id) == (failed.id, failed.id)
    with pytest.raises(DeploymentError, match="there is no build to publish"):
        await shop_of.deployments.retry(failed.id, RetryRequest(from_stage="deploy", source_ref="other"), "ada")


async def test_what_went_live_and_is_not_well_is_rolled_back_by_itself(shop_of: Shop, database: Database) -> None:
    first = await shop_of.deploy(1)
    bad = await shop_of.trigger(**BACK)
    waiting = await shop_of.trigger()
    ended = await shop_of.goes_bad(bad)
    assert ended.error is not None
    assert (ended.status, ended.error.hint) == (
        Status.FAILED,
        f"deployment {first.id}, which was live before, comes back by itself",
    )
    back = await shop_of.newest()
    assert (back.rollback_of, back.restores, back.triggered_by) == (bad.id, first.id, SYSTEM)
    assert (back.message, back.waiting_on) == (f"{bad.id} went live and failed: status 500, wanted 200", None)
    assert await shop_of.ran_with(back) == await shop_of.ran_with(first)
    assert await shop_of.held_ref(bad) == "main"
    assert (await shop_of.deployments.get(waiting.id)).superseded_by == back.id
    assert [one.id for one in await Outbox(database).not_started()] == [back.id]
    result = await shop_of.deployments.result(bad.id)
    assert result is not None
    assert [warning.message for warning in result.warnings] == [ended.error.hint]
    told = await database.fetch_all("select action, actor, reason from audit order by sequence desc limit 4")
    assert [(one["action"], one["actor"], one["reason"]) for one in reversed(told)] == [
        ("deployment.finish", SYSTEM, None),
        ("deployment.supersede", SYSTEM, None),
        ("deployment.rollback", SYSTEM, back.message),
        ("environment.hold", SYSTEM, None),
    ]


async def test_a_rollback_that_cannot_be_made_hinders_no_ending(
    shop_of: Shop, database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    first = await shop_of.deploy(1)
    bad = await shop_of.trigger(**BACK)
    waiting = await shop_of.trigger()
    await database.fetch_all(
        "update deployments set secrets = %(sealed)s where id = %(id)s returning id",
        {"sealed": Sealer(f"lost:{'A' * 43}=").seal(b"{}", f"deployment {first.id}"), "id": first.id},
    )
    ended = await shop_of.goes_bad(bad)
    assert (ended.status, (await shop_of.newest()).id) == (Status.FAILED, waiting.id)
    assert (await shop_of.gate.look(waiting.id)).may_go
    result = await shop_of.deployments.result(bad.id)
    assert ended.error is not None
    assert result is not None
    [warning] = result.warnings
    assert warning.message == ended.error.hint
    assert f"deployment {first.id} does not come back by itself" in warning.message
    assert "lacks key 'lost'" in warning.message
    assert "nothing is rolled back" in "".join(capfd.readouterr())


async def test_a_rollback_that_fails_is_not_rolled_back(shop_of: Shop) -> None:
    await shop_of.deploy(1, **BACK)
    await shop_of.goes_bad(await shop_of.trigger(**BACK))
    back = await shop_of.newest()
    ended = await shop_of.goes_bad(back)
    assert (await shop_of.newest()).id == back.id
    assert ended.error is not None
    assert f"`headway rollback {back.id}` brings back" in (ended.error.hint or "")


async def test_without_the_word_it_stays_live_and_says_how_to_go_back(shop_of: Shop) -> None:
    await shop_of.deploy(1)
    bad = await shop_of.trigger()
    ended = await shop_of.goes_bad(bad)
    assert ended.error is not None
    hint = f"it is live all the same; `headway rollback {bad.id}` brings back what was live before"
    assert (ended.error.hint, (await shop_of.newest()).id) == (hint, bad.id)
    assert await shop_of.held_ref(bad) is None


async def test_with_nothing_before_it_there_is_a_warning(shop_of: Shop) -> None:
    bad = await shop_of.trigger(**BACK)
    await shop_of.goes_bad(bad)
    result = await shop_of.deployments.result(bad.id)
    assert result is not None
    assert [warning.message for warning in result.warnings] == [
        "it is live all the same; nothing succeeded here before it that could be brought back"
    ]
    assert (await shop_of.newest()).id == bad.id


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMEOUT, Status.CANCELED])
async def test_what_never_went_live_or_is_no_longer_live_leaves_all_as_it_is(shop_of: Shop, status: Status) -> None:
    await shop_of.deploy(1)
    unseen = await shop_of.end(await shop_of.trigger(**BACK), status, 2)
    overtaken = await shop_of.trigger(**BACK, concurrency="parallel")
    newer = await shop_of.deploy(3, concurrency="parallel")
    await shop_of.goes_bad(overtaken, status)
    assert (await shop_of.newest()).id == newer.id
    assert unseen.error is None


async def test_a_rollback_by_itself_waits_for_what_runs_beside_to_end(shop_of: Shop) -> None:
    first = await shop_of.deploy(1)
    beside = await shop_of.trigger()
    bad = await shop_of.trigger(**BACK, force=True)
    await shop_of.goes_bad(bad)
    back = await shop_of.newest()
    assert (back.restores, back.waiting_on) == (first.id, "lane")
    assert (await shop_of.deployments.get(beside.id)).cancel_requested_at is not None
    await shop_of.progress.finish(beside.id, Ending(status=Status.CANCELED))
    assert (await shop_of.gate.look(back.id)).may_go
