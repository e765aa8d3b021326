"""The gate: who may approve what, what an approval is bound to, and what keeps a deployment without any person."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.descent import Descent
from domain.ending import Ending
from domain.errors import DeploymentError, ErrorCode
from domain.project import CreateEnvironmentRequest, Environment, Project, UpdateEnvironmentRequest
from domain.states import Status
from store.database import Database
from store.deployments import DeploymentStore
from store.gate import Decision, GateStore
from store.limits import TriggerLimiter
from store.outbox import Outbox
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.seal import Sealer

ALWAYS_FROZEN = {"start": "* * * * *", "duration": 3600, "reason": "inventory"}


class Guarded:
    """The environment `production` of `shop`, with rules."""

    def __init__(self, database: Database, sealer: Sealer, projects: ProjectStore, environment: Environment) -> None:
        self.database = database
        self.projects = projects
        self.environment = environment
        self.deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 10_000))
        self.gate = GateStore(database)
        self.progress = ProgressStore(database, sealer)

    async def rules(self, **protection: Any) -> None:
        await self.change(protection=protection)

    async def change(self, **fields: Any) -> None:
        change = UpdateEnvironmentRequest.model_validate(fields)
        await self.projects.update_environment(self.environment.id, change, "root")

    async def hold(self, ref: str, commit: str) -> None:
        await self.database.fetch_all(
            "update environments set held_ref = %(ref)s, held_commit = %(commit)s where id = %(id)s returning id",
            {"ref": ref, "commit": commit, "id": self.environment.id},
        )

    async def trigger(self, by: str = "ada", **more: Any) -> Deployment:
        asked = {"project_id": "shop", "source_ref": "main", "environment_id": self.environment.id, **more}
        return (await self.deployments.trigger(TriggerDeploymentRequest.model_validate(asked), by)).answer

    async def approve(self, deployment: Deployment, who: str, decision: Decision = "approve") -> Deployment:
        return await self.gate.decide(deployment.id, who, decision, None)

    async def finish(self, deployment: Deployment, status: Status = Status.SUCCEEDED) -> Deployment:
        return await self.progress.finish(deployment.id, Ending(status=status))


@pytest.fixture
async def guarded(database: Database, sealer: Sealer, projects: ProjectStore, shop: Project) -> Guarded:
    asked = CreateEnvironmentRequest(name="guarded", type="production", concurrency="queue")
    environment = (await projects.create_environment("shop", asked, "root")).answer
    return Guarded(database, sealer, projects, environment)


async def refused(call: Any) -> ErrorCode:
    with pytest.raises(DeploymentError) as caught:
        await call
    return caught.value.code


async def test_a_deployment_waits_for_as_many_people_as_the_rule_says(guarded: Guarded) -> None:
    await guarded.rules(required_approvals=2)
    waiting = await guarded.trigger()
    assert (waiting.waiting_on, waiting.waiting_reason) == ("approval", "0 of 2 approvals")
    for _ in range(2):  # saying it twice is saying it once
        once = await guarded.approve(waiting, "bob")
    assert (once.waiting_reason, [said.subject for said in once.approvals]) == ("1 of 2 approvals", ["bob"])
    assert not (await guarded.gate.look(waiting.id)).may_go
    assert (await guarded.approve(waiting, "eve")).waiting_on is None
    assert (await guarded.gate.look(waiting.id)).may_go


async def test_nobody_approves_alone_what_they_triggered_unless_that_is_said(guarded: Guarded) -> None:
    await guarded.rules(required_approvals=1)
    waiting = await guarded.trigger(by="ada")
    assert await refused(guarded.approve(waiting, "ada")) is ErrorCode.INSUFFICIENT_PERMISSIONS
    assert (await guarded.deployments.get(waiting.id)).approvals == []
    await guarded.rules(required_approvals=1, allow_self_approval=True)
    assert (await guarded.approve(waiting, "ada")).waiting_on is None


async def test_only_those_named_may_approve_or_reject(guarded: Guarded) -> None:
    await guarded.rules(required_approvals=1, approvers=["bob"])
    waiting = await guarded.trigger()
    assert waiting.waiting_reason == "0 of 1 approvals by one of bob"
    for decision in ("approve", "reject"):
        assert await refused(guarded.approve(waiting, "eve", decision)) is ErrorCode.INSUFFICIENT_PERMISSIONS
    assert (await guarded.approve(waiting, "bob")).waiting_on is None


async def test_a_rejection_ends_it(guarded: Guarded) -> None:
    await guarded.rules(required_approvals=2)
    waiting = await guarded.trigger()
    await guarded.gate.decide(waiting.id, "bob", "reject", "not on a Friday")
    await guarded.progress.pin_commit(waiting.id, "c" * 40)
    ending = (await guarded.gate.look(waiting.id)).ending
    assert ending is not None
    assert ending.failure is not None
    assert (ending.status, ending.failure.message) == (Status.CANCELED, "rejected by bob: not on a Friday")
    await guarded.progress.finish(waiting.id, ending)
    assert await refused(guarded.approve(waiting, "eve")) is ErrorCode.CONFLICT


async def test_an_approval_is_bound_to_the_commit_it_was_given_for(guarded: Guarded) -> None:
    await guarded.rules(required_approvals=2)
    waiting = await guarded.trigger()
    before = (await guarded.approve(waiting, "bob")).approvals[0].digest
    await guarded.progress.pin_commit(waiting.id, "c" * 40)
    await guarded.progress.pin_commit(waiting.id, "d" * 40)  # what was pinned stays
    after = await guarded.approve(waiting, "eve")
    assert (after.commit_sha, after.waiting_reason) == ("c" * 40, "1 of 2 approvals")
    assert after.approvals[1].digest != before
    assert (await guarded.approve(waiting, "bob")).waiting_on is None


async def test_fifty_that_wait_for_approval_hold_no_lane(guarded: Guarded) -> None:
    await guarded.rules(required_approvals=1)
    waiting = [await guarded.trigger() for _ in range(50)]
    free = await guarded.trigger(break_glass="the shop is down")
    assert (free.waiting_on, free.break_glass) == (None, "the shop is down")
    assert (await guarded.gate.look(free.id)).may_go
    approved = await guarded.approve(waiting[7], "bob")
    assert (approved.waiting_on, approved.queue_position) == ("lane", 1)


async def test_what_is_older_than_what_was_deployed_no_longer_goes_out(guarded: Guarded) -> None:
    await guarded.rules(required_approvals=1)
    older = await guarded.trigger()
    newer = await guarded.trigger()
    await guarded.approve(newer, "bob")
    await guarded.finish(newer)
    assert await refused(guarded.approve(older, "bob")) == ErrorCode.CONFLICT
    look = await guarded.gate.look(older.id)
    assert look.ending is not None
    assert look.ending.failure is not None
    assert look.ending.failure.message == f"superseded by deployment {newer.id}"
    ended = await guarded.progress.finish(older.id, look.ending)
    assert (ended.status, ended.superseded_by) == (Status.CANCELED, newer.id)


async def test_what_failed_stands_in_nobodys_way(guarded: Guarded) -> None:
    await guarded.rules(required_approvals=1)
    older, newer = await guarded.trigger(), await guarded.trigger()
    await guarded.approve(newer, "bob")
    await guarded.finish(newer, Status.FAILED)
    assert (await guarded.approve(older, "bob")).waiting_on is None


async def test_a_ref_that_is_not_admitted_is_refused_at_the_door(guarded: Guarded) -> None:
    await guarded.rules(allowed_refs=["main", "release/*"])
    assert await refused(guarded.trigger(source_ref="feature/x")) is ErrorCode.INVALID_SOURCE_REF
    assert (await guarded.trigger(source_ref="release/2")).waiting_on is None
    assert (await guarded.trigger(source_ref="hotfix", break_glass="fire")).break_glass == "fire"


async def test_a_frozen_environment_waits_says_until_when_and_may_be_approved_meanwhile(guarded: Guarded) -> None:
    await guarded.rules(freeze_windows=[ALWAYS_FROZEN], required_approvals=1)
    waiting = await guarded.trigger()
    assert waiting.waiting_on == "approval"
    frozen = await guarded.approve(waiting, "bob")
    assert frozen.waiting_on == "schedule"
    assert (frozen.waiting_reason or "").endswith(": inventory")
    look = await guarded.gate.look(waiting.id)
    assert not look.may_go
    assert look.look_again_seconds is not None
    assert 0 < look.look_again_seconds <= 3600
    await guarded.rules(required_approvals=1)
    assert await Outbox(guarded.database).not_woken() == []  # its workflow has not been started yet
    await Outbox(guarded.database).mark_started(waiting.id)
    assert await Outbox(guarded.database).not_woken() == [waiting.id]
    assert (await guarded.gate.look(waiting.id)).may_go


async def test_a_commit_has_to_prove_itself_elsewhere(guarded: Guarded, projects: ProjectStore) -> None:
    await guarded.rules(minimum_soak=3600)
    commit = "c" * 40
    waiting = await guarded.trigger(source_ref=commit)
    assert waiting.waiting_reason == "its commit has not run in another environment yet"
    staging = (await projects.create_environment("shop", CreateEnvironmentRequest(name="staging"), "root")).answer
    proven = await guarded.trigger(environment_id=staging.id, source_ref=commit)
    await guarded.finish(proven)
    assert not (await guarded.gate.look(waiting.id)).may_go
    assert "has to run elsewhere until" in ((await guarded.deployments.get(waiting.id)).waiting_reason or "")
    await guarded.database.fetch_all(
        "update deployments set finished_at = finished_at - interval '1 hour' where id = %(id)s returning id",
        {"id": proven.id},
    )
    assert (await guarded.gate.look(waiting.id)).may_go


async def test_a_held_ref_waits_until_somebody_lets_it_back(guarded: Guarded) -> None:
    await guarded.change(held_ref="main")
    held = await guarded.trigger()
    assert held.waiting_reason == "main was rolled back here and is held; 0 of 1 approvals"
    assert (await guarded.trigger(source_ref="other")).waiting_on is None
    assert (await guarded.approve(held, "ada")).waiting_on == "lane"
    assert (await guarded.projects.get_environment(guarded.environment.id)).held_ref is None


@pytest.mark.parametrize(
    ("descends", "why", "goes", "reason"),
    [
        (False, "", True, None),
        (True, "", False, "its history has bbbbbbbbbbbb, which was rolled back here, as main; 0 of 1 approvals"),
        (
            None,
            "away",
            False,
            "main was rolled back here; whether its history has that commit is not known yet (away); 0 of 1 approvals",
        ),
    ],
)
async def test_what_descends_from_what_is_held_waits_and_so_does_what_may(
    guarded: Guarded, descends: bool | None, why: str, goes: bool, reason: str | None
) -> None:
    held = "b" * 40
    await guarded.hold("main", held)
    other = await guarded.trigger(source_ref="fix")
    assert other.waiting_on == "approval"
    look = await guarded.gate.look(other.id)
    assert (look.may_go, look.pin, look.ask) == (False, True, held)
    await guarded.progress.pin_commit(other.id, "c" * 40)
    assert await guarded.progress.held_commit(other.id) == held
    await guarded.progress.note_descent(other.id, Descent(held=held, commit="a" * 40, descends=False))
    assert (await guarded.gate.look(other.id)).ask == held  # that was about another commit
    await guarded.progress.note_descent(other.id, Descent(held=held, commit="c" * 40, descends=descends, why=why))
    look = await guarded.gate.look(other.id)
    assert (look.may_go, look.ask) == (goes, None)
    assert (await guarded.deployments.get(other.id)).waiting_reason == reason


async def test_an_approval_that_lifts_a_hold_lets_all_look_again_that_it_kept(guarded: Guarded) -> None:
    await guarded.hold("main", "b" * 40)
    held = [await guarded.trigger(source_ref=ref) for ref in ("main", "main", "b" * 40)]
    for one in held:
        await Outbox(guarded.database).mark_started(one.id)
        assert (await guarded.gate.look(one.id)).ask is None
    await guarded.approve(held[0], "bob")
    assert set(await Outbox(guarded.database).not_woken()) == {one.id for one in held}
    assert (await guarded.gate.look(held[2].id)).may_go is False
    assert (await guarded.deployments.get(held[2].id)).waiting_on == "lane"


async def test_approvals_end_when_their_time_is_over(guarded: Guarded) -> None:
    await guarded.rules(required_approvals=1, approval_timeout=60)
    waiting = await guarded.trigger()
    await guarded.database.fetch_all(
        "update deployments set created_at = created_at - interval '61 seconds' where id = %(id)s returning id",
        {"id": waiting.id},
    )
    ending = (await guarded.gate.look(waiting.id)).ending
    assert ending is not None
    assert ending.status is Status.TIMEOUT


async def test_approvals_at_once_count_each_person_and_open_the_gate_once(guarded: Guarded) -> None:
    await guarded.rules(required_approvals=10)
    waiting = await guarded.trigger()
    people = [f"person-{number}" for number in range(10)]
    words = await asyncio.gather(*(guarded.approve(waiting, person) for person in people * 2), return_exceptions=True)
    # Whoever comes after the tenth finds nothing to approve.
    assert {type(word) for word in words} <= {Deployment, DeploymentError}
    now = await guarded.deployments.get(waiting.id)
    assert sorted(said.subject for said in now.approvals) == people
    assert now.waiting_on is None


def test_times_of_the_day_are_the_windows_own() -> None:
    window = {"start": "0 18 * * 5", "duration": 60 * 3600, "timezone": "Europe/Berlin"}
    [parsed] = UpdateEnvironmentRequest.model_validate(
        {"protection": {"freezeWindows": [window]}}
    ).protection.freeze_windows  # type: ignore[union-attr]
    monday = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
    assert parsed.ends(monday - timedelta(seconds=1)) == monday
    assert parsed.ends(monday + timedelta(seconds=1)) is None
    assert parsed.ends(datetime(2026, 11, 20, 16, 59, 59, tzinfo=UTC)) is None
    assert parsed.ends(datetime(2026, 11, 20, 17, 0, tzinfo=UTC)) == monday
