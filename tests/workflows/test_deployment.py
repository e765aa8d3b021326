"""How deployments end, in Temporal's own eyes and in the record, and the traps on the way there."""

import asyncio
import random
from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError

from activities import builds
from activities.steps import BuildOutcome
from domain.build import Build
from domain.ending import Ending
from domain.errors import ErrorCode
from domain.gate import Look
from domain.result import Failure
from domain.states import Status
from tests.workflows.doubles import GO, Handle, Script, at_once, record_worker, start, workers
from workflows import policies
from workflows.deployment import DeploymentWorkflow

MAX_EVENTS = 40
ANSWER_SECONDS = 20


async def forever() -> None:
    await asyncio.Event().wait()


async def status_of(handle: Handle) -> WorkflowExecutionStatus | None:
    return (await handle.describe()).status


async def ended(handle: Handle) -> BaseException | str | None:
    """The result, or why there is none."""
    try:
        return await asyncio.wait_for(handle.result(), ANSWER_SECONDS)
    except WorkflowFailureError as failure:
        return failure.cause


def ending_of(script: Script, handle: Handle) -> Status:
    return script.endings[handle.id.removeprefix("deployment-")].status


async def test_a_deployment_that_succeeds_is_completed_with_a_short_history(client: Client) -> None:
    script = Script()
    async with workers(client, script):
        handle = await start(client)
        assert await ended(handle) == "succeeded"
    assert await status_of(handle) == WorkflowExecutionStatus.COMPLETED
    assert len((await handle.fetch_history()).events) <= MAX_EVENTS


async def test_a_history_does_not_grow_with_the_build(client: Client) -> None:
    async def build() -> None:
        await asyncio.sleep(2)  # forty heartbeats

    script = Script(follow=build)
    async with workers(client, script):
        handle = await start(client)
        assert await ended(handle) == "succeeded"
    assert len((await handle.fetch_history()).events) <= MAX_EVENTS


async def test_skip_deploy_builds_without_publishing(client: Client) -> None:
    script = Script()
    async with workers(client, script):
        handle = await start(client, skip_deploy=True)
        assert await ended(handle) == "succeeded"
    assert script.published == set()


async def test_a_failed_build_fails_the_workflow_with_its_code(client: Client) -> None:
    failure = Failure(code=ErrorCode.BUILD_FAILED, message="step build ended with exit code 7", exit_code=7)
    script = Script(outcome=BuildOutcome(stage="failed", failure=failure))
    async with workers(client, script):
        handle = await start(client)
        cause = await ended(handle)
    assert isinstance(cause, ApplicationError)
    assert cause.type == ErrorCode.BUILD_FAILED
    assert await status_of(handle) == WorkflowExecutionStatus.FAILED
    ending = script.endings[handle.id.removeprefix("deployment-")]
    assert (ending.failure, ending.report.artifact_id) == (failure, "sha256:1")


@pytest.mark.parametrize("step", ["start", "publish"])
async def test_an_error_that_cannot_be_mended_fails_with_its_code_and_details(client: Client, step: str) -> None:
    async def refuse() -> None:
        raise ApplicationError(
            "not yours", {"hint": "ask"}, type=ErrorCode.INSUFFICIENT_PERMISSIONS, non_retryable=True
        )

    script = Script()
    setattr(script, step, refuse)
    async with workers(client, script):
        handle = await start(client)
        await ended(handle)
    failure = script.endings[handle.id.removeprefix("deployment-")].failure
    assert failure is not None
    assert (failure.code, failure.message, failure.hint) == (ErrorCode.INSUFFICIENT_PERMISSIONS, "not yours", "ask")


async def test_figures_that_cannot_be_had_are_a_warning(client: Client) -> None:
    async def fail() -> None:
        raise ApplicationError("disk is gone", non_retryable=True)

    script = Script(collect=fail)
    async with workers(client, script):
        handle = await start(client)
        assert await ended(handle) == "succeeded"
    [warning] = script.endings[handle.id.removeprefix("deployment-")].report.warnings
    assert "disk is gone" in warning.message


async def test_a_cancel_while_building_stops_the_build_and_is_told_by_temporal(client: Client) -> None:
    script = Script(follow=forever)
    async with workers(client, script):
        handle = await start(client)
        while not script.started:
            await asyncio.sleep(0.01)
        await handle.cancel()
        assert isinstance(await ended(handle), CancelledError)
    assert await status_of(handle) == WorkflowExecutionStatus.CANCELED
    assert ending_of(script, handle) is Status.CANCELED
    assert script.stopped == script.started


async def test_a_cancel_before_the_first_step_is_not_lost(client: Client) -> None:
    script = Script(follow=forever)
    handle = await start(client)
    await handle.cancel()
    async with workers(client, script):
        assert isinstance(await ended(handle), CancelledError)
    assert ending_of(script, handle) is Status.CANCELED
    assert script.stopped == script.started


async def test_a_cancel_that_lands_with_a_completion_loses_neither_itself_nor_the_build(client: Client) -> None:
    """A cancel in the same workflow task as a step's completion raises nothing, or discards the step's result."""
    chance = random.Random(7)

    async def brief() -> None:
        await asyncio.sleep(chance.random() * 0.05)

    script = Script(start=brief, follow=brief)

    async def cancel_somewhen(handle: Handle) -> None:
        await asyncio.sleep(chance.random() * 0.4)
        await handle.cancel()

    async with workers(client, script):
        handles = [await start(client) for _ in range(40)]
        await asyncio.gather(*(cancel_somewhen(handle) for handle in handles))
        await asyncio.gather(*(ended(handle) for handle in handles))
    for handle in handles:
        identity = handle.id.removeprefix("deployment-")
        told = WorkflowExecutionStatus.COMPLETED if identity in script.published else WorkflowExecutionStatus.CANCELED
        assert await status_of(handle) == told
        assert ending_of(script, handle) == ("succeeded" if identity in script.published else "canceled")
        if identity in script.started - script.published:
            # Stopped, or seen to have ended by itself.
            assert identity in script.stopped or script.endings[identity].report.artifact_id


async def test_what_is_published_has_succeeded_whatever_cancel_comes(client: Client) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def publish() -> None:
        begun.set()
        await go_on.wait()

    script = Script(publish=publish)
    async with workers(client, script):
        handle = await start(client)
        await begun.wait()
        await handle.cancel()
        go_on.set()
        assert await ended(handle) == "succeeded"
    assert ending_of(script, handle) is Status.SUCCEEDED


async def test_the_deadline_ends_a_deployment_as_timeout_with_its_build_stopped(client: Client) -> None:
    script = Script(follow=forever)
    async with workers(client, script):
        handle = await start(client, timeout_seconds=0.5)
        cause = await ended(handle)
    assert isinstance(cause, ApplicationError)
    assert cause.type == ErrorCode.TIMEOUT
    assert ending_of(script, handle) is Status.TIMEOUT
    assert script.stopped == script.started != set()


@pytest.mark.parametrize("by", ["cancel", "deadline"])
async def test_a_deployment_that_no_builder_takes_ends_at_once_all_the_same(client: Client, by: str) -> None:
    script = Script()
    async with record_worker(client, script):
        handle = await start(client, timeout_seconds=60 if by == "cancel" else 0.5)
        if by == "cancel":
            await handle.cancel()
        await ended(handle)
    assert ending_of(script, handle) == ("canceled" if by == "cancel" else "timeout")
    assert script.started == set()


async def looked(script: Script, times: int = 1) -> None:
    """Returns when the workflow has looked at its record so often."""
    async with asyncio.timeout(ANSWER_SECONDS):
        while script.looks < times:
            await asyncio.sleep(0.01)


async def test_whoever_waits_starts_when_it_is_told_and_the_record_lets_it(client: Client) -> None:
    script = Script()
    async with workers(client, script):
        handle = await start(client, gated=True)
        await looked(script)
        await handle.signal(DeploymentWorkflow.look_again)  # too early, or twice
        await looked(script, 2)
        assert script.started == set()
        script.look = GO
        await handle.signal(DeploymentWorkflow.look_again)
        assert await ended(handle) == "succeeded"
    assert script.looks == 3


async def test_a_turn_that_came_before_the_workflow_looked_is_not_missed(client: Client) -> None:
    script = Script(look=GO)
    async with workers(client, script):
        assert await ended(await start(client, gated=True)) == "succeeded"
    assert script.looks == 1


async def test_a_rule_that_time_meets_is_looked_at_when_its_time_has_come(client: Client) -> None:
    script = Script(look=Look(look_again_seconds=0.5))
    async with workers(client, script):
        handle = await start(client, gated=True)
        await looked(script)
        script.look = GO
        assert await ended(handle) == "succeeded"


@pytest.mark.parametrize("can_pin", [True, False])
async def test_what_is_to_be_approved_is_pinned_once_where_that_can_be(client: Client, can_pin: bool) -> None:
    script = Script(look=Look(pin=True), can_pin=can_pin)
    async with workers(client, script):
        handle = await start(client, gated=True)
        await looked(script, 2)
        script.look = GO
        await handle.signal(DeploymentWorkflow.look_again)
        assert await ended(handle) == "succeeded"
    assert script.pinned == 1


async def test_a_history_is_asked_for_once_for_each_commit_that_is_held(client: Client) -> None:
    script = Script(look=Look(ask="a" * 40, look_again_seconds=0.1))
    async with workers(client, script):
        handle = await start(client, gated=True)
        while script.looks < 4:
            await asyncio.sleep(0.01)
        script.look = Look(ask="b" * 40, look_again_seconds=0.1)
        while script.pinned < 2:
            await asyncio.sleep(0.01)
        script.look = GO
        assert await ended(handle) == "succeeded"
    assert script.pinned == 2


@pytest.mark.parametrize("by", ["its turn", "cancel"])
async def test_whoever_is_told_a_lot_while_it_waits_begins_a_new_history_in_time(client: Client, by: str) -> None:
    script = Script(look=Look(pin=True))
    async with workers(client, script):
        handle = await start(client, gated=True)
        first = (await handle.describe()).run_id
        while (now := await handle.describe()).run_id == first:
            assert now.history_length < 1000
            await asyncio.gather(*(handle.signal(DeploymentWorkflow.look_again) for _ in range(20)))
        if by == "cancel":
            await handle.cancel()
            await ended(handle)
        else:
            script.look = GO
            await handle.signal(DeploymentWorkflow.look_again)
            assert await ended(handle) == "succeeded"
    assert ending_of(script, handle) == ("canceled" if by == "cancel" else "succeeded")


async def test_whoever_is_canceled_while_it_waits_never_starts(client: Client) -> None:
    script = Script()
    async with workers(client, script):
        handle = await start(client, gated=True)
        await looked(script)
        await handle.cancel()
        assert isinstance(await ended(handle), CancelledError)
    assert ending_of(script, handle) is Status.CANCELED
    assert script.started == set()


async def test_whoever_will_never_go_ends_as_the_record_says(client: Client) -> None:
    failure = Failure(code=ErrorCode.CANCELED, message="rejected by bob")
    script = Script(look=Look(ending=Ending(status=Status.CANCELED, failure=failure)))
    async with workers(client, script):
        handle = await start(client, gated=True)
        await ended(handle)
    assert script.endings[handle.id.removeprefix("deployment-")].failure == failure
    assert script.started == set()


async def test_the_time_before_its_turn_is_not_taken_from_the_deployments_own(client: Client) -> None:
    script = Script()
    async with workers(client, script):
        handle = await start(client, gated=True, timeout_seconds=1.0)
        await looked(script)
        await asyncio.sleep(1.5)
        script.look = GO
        await handle.signal(DeploymentWorkflow.look_again)
        assert await ended(handle) == "succeeded"


EARLIER = Build(deployment_id="d0", project_id="shop", environment="production", build_id="b0")


async def test_what_was_built_before_is_live_again_without_a_build(client: Client) -> None:
    script = Script(earlier=EARLIER)
    async with workers(client, script):
        handle = await start(client, restores="d0")
        assert await ended(handle) == "succeeded"
    assert (script.started, len(script.restored)) == (set(), 1)
    assert script.endings[handle.id.removeprefix("deployment-")].report.artifact_id == "sha256:1"


@pytest.mark.parametrize("earlier", [None, EARLIER])
async def test_what_is_gone_is_built_anew(client: Client, earlier: Build | None) -> None:
    script = Script(earlier=earlier, can_restore=False)
    async with workers(client, script):
        handle = await start(client, restores="d0")
        assert await ended(handle) == "succeeded"
    assert len(script.published) == 1


async def test_what_is_on_a_builder_that_stays_away_is_built_anew(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "BUILDER_AWAY", timedelta(seconds=1))
    script = Script(earlier=EARLIER.model_copy(update={"task_queue": "of-a-host-that-is-gone"}))
    async with workers(client, script):
        handle = await start(client, restores="d0")
        assert await ended(handle) == "succeeded"
    assert (len(script.restored), len(script.published)) == (0, 1)


async def test_a_bug_in_the_workflow_ends_in_the_record_instead_of_wedging(client: Client) -> None:
    """An outcome that no row of the table knows raises KeyError inside the workflow."""
    script = Script(outcome=BuildOutcome(stage="initializing"))
    async with workers(client, script):
        handle = await start(client)
        cause = await ended(handle)
    assert isinstance(cause, ApplicationError)
    assert cause.type == ErrorCode.INTERNAL
    assert ending_of(script, handle) is Status.FAILED


LOST = Build(deployment_id="", project_id="shop", environment="production", build_id="b9")


async def away() -> None:
    raise ApplicationError("acme answered 503", type=ErrorCode.UNAVAILABLE)


async def told_of_provider(client: Client, script: Script, handle: Handle) -> Failure:
    """The failure of a deployment that is canceled while its start is tried again and again."""
    async with workers(client, script):
        while not script.started:
            await asyncio.sleep(0.01)
        await handle.cancel()
        assert isinstance(await ended(handle), CancelledError)
    failure = script.endings[handle.id.removeprefix("deployment-")].failure
    assert failure is not None
    return failure


async def test_a_build_whose_start_was_cut_off_is_looked_for_and_stopped(client: Client) -> None:
    script = Script(start=away, lost=LOST)
    handle = await start(client)
    failure = await told_of_provider(client, script, handle)
    assert script.stopped == script.started
    assert failure.hint is None


@pytest.mark.parametrize("lost", [None, LOST])
async def test_what_may_be_left_running_is_told(
    client: Client, monkeypatch: pytest.MonkeyPatch, lost: Build | None
) -> None:
    """What cannot be asked for, or not stopped, does not keep the deployment from ending."""
    monkeypatch.setattr(policies, "FIND_TIMEOUT", timedelta(seconds=1))
    monkeypatch.setattr(policies, "CANCEL_TIMEOUT", timedelta(seconds=1))
    script = Script(start=away, find=at_once if lost else away, stop=away, lost=lost)
    handle = await start(client, provider="acme")
    failure = await told_of_provider(client, script, handle)
    what = "build b9 may still run at acme" if lost else "acme may have a build of it, which then runs on"
    assert failure.hint is not None
    assert failure.hint.startswith(what)
    assert "acme answered 503" in failure.hint


async def test_a_build_at_a_provider_has_the_whole_time_of_the_deployment(client: Client) -> None:
    followed = asyncio.Event()

    async def follow() -> None:
        followed.set()
        await forever()

    async with workers(client, Script(follow=follow)):
        handle = await start(client, timeout_seconds=5000, build_timeout_seconds=60)
        await followed.wait()
        await handle.cancel()
        await ended(handle)
    events = (await handle.fetch_history()).events
    scheduled = [event.activity_task_scheduled_event_attributes for event in events]
    [limit] = [one.start_to_close_timeout for one in scheduled if one.activity_type.name == "follow_build"]
    assert limit.ToTimedelta() > timedelta(seconds=5000)


def test_an_attempt_to_start_a_build_ends_before_the_next_begins() -> None:
    assert timedelta(seconds=builds.START_SECONDS) < policies.ATTEMPT
