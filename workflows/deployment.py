"""The life of one deployment: start the build, follow it, publish it, collect what it left, finish.

Rule: this is the one place that decides how a deployment ends. What was learnt on the way was written down by the
steps themselves; the ending is written once, by `finish`, and Temporal's own status says the same.
"""

import asyncio
import contextlib
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType
from temporalio.exceptions import TimeoutError as StepTimeout

with workflow.unsafe.imports_passed_through():
    from activities.builds import BuildActivities
    from activities.records import RecordActivities
    from activities.steps import BuildOutcome, BuildStep, Finish, OfDeployment, RestoreBuild, StartBuild
    from domain.build import Build
    from domain.ending import Ending
    from domain.errors import RETRYABLE, ErrorCode
    from domain.gate import Look
    from domain.result import BuildReport, DeploymentWarning, Failure
    from domain.states import Status
    from domain.webhook import Hint
    from workflows.guard import Guard, shielded, to_its_end
    from workflows.plan import BUILD_QUEUE, SHOWN, DeploymentPlan
    from workflows.policies import (
        ATTEMPT,
        BUILDER_AWAY,
        CANCEL_TIMEOUT,
        COLLECT_TIMEOUT,
        FIND_TIMEOUT,
        LOOK_AGAIN,
        TAKEN_TIMEOUT,
        bounds,
        until_done,
    )
    from workflows.search import STATUS


STATUS_OF_STAGE = {"failed": Status.FAILED, "canceled": Status.CANCELED, "timeout": Status.TIMEOUT}
WAIT = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
"""A step that is canceled is waited for: it must not write after the deployment has ended."""
NEWEST = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE
_SLACK = timedelta(minutes=1)
"""What a step may take longer than the build or the deployment itself: these have their own, precise deadlines."""

Answer = TypeVar("Answer")


@workflow.defn
class DeploymentWorkflow:
    @workflow.init
    def __init__(self, plan: DeploymentPlan) -> None:
        self._plan = plan
        self._build: Build | None = None
        self._asked = False
        self._outcome: BuildOutcome | None = None
        self._deadline: asyncio.Timeout | None = None
        self._told = False
        self._gated = plan.gated
        self._status: Status | None = None
        self._hints = 0
        self._last_hint: str | None = None

    @workflow.run
    async def run(self, _: DeploymentPlan) -> str:
        ending = await self._decide()
        ending = await shielded(self._leave_nothing_running(ending))
        status = await shielded(self._finish(self._build, ending))
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._mirror(status, ending)

    async def _decide(self) -> Ending:
        """How the deployment ends. Every way out of the story comes by here."""
        try:
            if self._gated and (ending := await self._pass_gate()) is not None:
                return ending
            self._gated = False
            async with asyncio.timeout(self._plan.timeout_seconds) as self._deadline:
                return await self._deploy(Guard(self._deadline))
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - a bug of ours, too, has to end in the record
            if workflow.cancellation_reason() is not None:
                return self._canceled()
            if self._deadline is not None and self._deadline.expired():
                return self._overdue()
            return self._failed(error)

    @workflow.signal
    def look_again(self) -> None:
        """There may be something new in the record: an approval, a free lane. A hint; the record decides."""
        self._told = True

    @workflow.signal
    def webhook(self, hint: Hint) -> None:
        """The provider told that there is news. It moves nothing: who follows the build asks the provider."""
        self._hints += hint.count
        self._last_hint = hint.kind
        self._describe()

    async def _pass_gate(self) -> Ending | None:
        """Returns when the deployment may go, or how it ends without."""
        pinned = False
        asked: set[str] = set()
        while True:
            self._told = False
            look: Look = await workflow.execute_activity_method(
                RecordActivities.look_at_gate,
                OfDeployment(deployment_id=self._plan.deployment_id),
                cancellation_type=WAIT,
                **until_done(),
            )
            if workflow.cancellation_reason() is not None:
                raise asyncio.CancelledError
            if look.may_go or look.ending is not None:
                return look.ending
            self._show(Status.QUEUED)
            if (look.pin and not pinned) or (look.ask is not None and look.ask not in asked):
                pinned, asked = True, asked | {look.ask or ""}
                await self._pin_commit()
                continue
            pause = min(LOOK_AGAIN, timedelta(seconds=look.look_again_seconds or LOOK_AGAIN.total_seconds()))
            with contextlib.suppress(asyncio.TimeoutError):
                await workflow.wait_condition(lambda: self._told, timeout=pause, timeout_summary="before its turn")
            # Whoever waits for long begins a new history where it is told much, or under the newest version of the
            # workers where they have versions: the record has all that counts.
            now = workflow.info()
            told_much = now.is_continue_as_new_suggested() and workflow.patched("gate-anew")
            if told_much or now.is_target_worker_deployment_version_changed():
                workflow.continue_as_new(self._plan, initial_versioning_behavior=NEWEST)

    async def _pin_commit(self) -> None:
        """What people approve is one commit. Where it cannot be had they approve a ref, and the record shows it.

        Where a commit is held, the same step finds out whether this one descends from it.
        """
        try:
            await workflow.execute_activity_method(
                BuildActivities.pin_commit,
                self._start(),
                task_queue=BUILD_QUEUE,
                cancellation_type=WAIT,
                **bounds(ATTEMPT),
            )
        except ActivityError as error:
            if workflow.cancellation_reason() is None:
                workflow.logger.warning("the commit of %s is not known: %s", self._plan.source_ref, error.cause)

    async def _deploy(self, guard: Guard) -> Ending:
        if self._plan.restores is not None and await self._restore():
            return Ending(status=Status.SUCCEEDED)
        guard.check()
        self._asked = True
        self._build = build = await self._start_build()
        guard.check()
        self._show(Status.BUILDING)
        self._outcome = outcome = await self._follow_build(build)
        guard.check()
        if outcome.stage != "built":
            return Ending(status=STATUS_OF_STAGE[outcome.stage], failure=outcome.failure)
        if not self._plan.skip_deploy:
            self._show(Status.DEPLOYING)
            # The point of no return: what is published has succeeded, even when a cancel came meanwhile.
            await self._publish_build(build)
        return Ending(status=Status.SUCCEEDED)

    async def _restore(self) -> bool:
        """Whether what was built before is live again."""
        plan = self._plan
        build = await workflow.execute_activity_method(
            RecordActivities.build_to_restore,
            OfDeployment(deployment_id=plan.deployment_id),
            cancellation_type=WAIT,
            **self._until_the_deadline(),
        )
        if build is None:
            return False
        step = workflow.start_activity_method(
            BuildActivities.restore_build,
            RestoreBuild(deployment_id=plan.deployment_id, build=build, provider=plan.provider),
            task_queue=build.task_queue or BUILD_QUEUE,
            summary=f"build {build.build_id[:SHOWN]} again",
            cancellation_type=WAIT,
            schedule_to_start_timeout=BUILDER_AWAY,
            **self._until_the_deadline(),
        )
        try:
            if not await to_its_end(step):
                return False
        except ActivityError as error:
            if isinstance(error.cause, StepTimeout) and error.cause.type is TimeoutType.SCHEDULE_TO_START:
                return False
            raise
        self._build, self._outcome = build, BuildOutcome(stage="built")
        return True

    async def _start_build(self) -> Build:
        plan = self._plan
        step = workflow.start_activity_method(
            BuildActivities.start_build,
            self._start(),
            task_queue=BUILD_QUEUE,
            summary=f"{plan.provider}: {plan.source_ref[:SHOWN]}",
            cancellation_type=WAIT,
            **self._until_the_deadline(),
        )
        return await to_its_end(step)

    async def _follow_build(self, build: Build) -> BuildOutcome:
        limit = timedelta(seconds=self._build_seconds(build)) + _SLACK
        return await workflow.execute_activity_method(
            BuildActivities.follow_build,
            self._step(build),
            task_queue=build.task_queue or BUILD_QUEUE,
            summary=f"build {build.build_id[:SHOWN]}",
            cancellation_type=WAIT,
            **{**bounds(limit), "start_to_close_timeout": limit},
        )

    async def _publish_build(self, build: Build) -> None:
        step = workflow.start_activity_method(
            BuildActivities.publish_build,
            self._step(build),
            task_queue=build.task_queue or BUILD_QUEUE,
            summary=f"{self._plan.environment} of {self._plan.project_id}",
            cancellation_type=WAIT,
            **self._until_the_deadline(),
        )
        await to_its_end(step)

    async def _leave_nothing_running(self, ending: Ending) -> Ending:
        """Ends a build that may still run. One that cannot be stopped does not keep the deployment from ending: it is
        told in the ending."""
        cut_off = ending.status in {Status.CANCELED, Status.TIMEOUT}
        try:
            if self._build is None and self._asked and cut_off and workflow.patched("find-build"):
                self._build = await self._find_build()
        except ActivityError as error:
            return _telling(ending, f"{self._plan.provider} may have a build of it, which then runs on", error)
        build = self._build
        if build is None or (self._outcome is not None and self._outcome.stage != "timeout"):
            return ending
        try:
            await self._stop_build(build)
        except ActivityError as error:
            return _telling(ending, f"build {build.build_id} may still run at {self._plan.provider}", error)
        return ending

    async def _find_build(self) -> Build | None:
        """The build of a start that was cut off: it may have been made all the same."""
        return await workflow.execute_activity_method(
            BuildActivities.find_build,
            self._start(),
            task_queue=BUILD_QUEUE,
            schedule_to_start_timeout=TAKEN_TIMEOUT,
            **bounds(FIND_TIMEOUT),
        )

    async def _stop_build(self, build: Build) -> None:
        await workflow.execute_activity_method(
            BuildActivities.cancel_build,
            self._step(build),
            task_queue=build.task_queue or BUILD_QUEUE,
            **bounds(CANCEL_TIMEOUT),
        )

    async def _finish(self, build: Build | None, ending: Ending) -> Status:
        if build is not None and self._outcome is not None:
            ending = ending.model_copy(update={"report": await self._collect(build)})
        finish = Finish(deployment_id=self._plan.deployment_id, ending=ending)
        try:
            status: Status = await workflow.execute_activity_method(RecordActivities.finish, finish, **until_done())
        except ActivityError as error:
            raise _without_record(error) from error
        self._show(status)
        return status

    async def _collect(self, build: Build) -> BuildReport:
        """What the build left. Figures that cannot be had are a warning, not a failure."""
        try:
            return await workflow.execute_activity_method(
                BuildActivities.collect_result,
                self._step(build),
                task_queue=build.task_queue or BUILD_QUEUE,
                **bounds(COLLECT_TIMEOUT),
            )
        except ActivityError as error:
            message = f"the figures of the build could not be collected: {error.cause}"
            return BuildReport(warnings=[DeploymentWarning(message=message)])

    def _until_the_deadline(self) -> dict[str, Any]:
        """A provider that is away, or a builder that is not free, is waited for as long as the deployment may take."""
        return bounds(timedelta(seconds=self._plan.timeout_seconds) + _SLACK)

    def _start(self) -> StartBuild:
        plan = self._plan
        return StartBuild(
            deployment_id=plan.deployment_id,
            provider=plan.provider,
            build_timeout_seconds=plan.build_timeout_seconds,
        )

    def _step(self, build: Build) -> BuildStep:
        return BuildStep(build=build, provider=self._plan.provider, build_timeout_seconds=self._build_seconds(build))

    def _build_seconds(self, build: Build) -> float:
        """A build on a host of ours has its own limit. A provider has limits itself, and may be away for longer."""
        plan = self._plan
        return plan.timeout_seconds if build.task_queue is None else plan.build_timeout_seconds

    def _show(self, status: Status) -> None:
        """What operators see in Temporal's UI."""
        workflow.upsert_search_attributes([STATUS.value_set(str(status))])
        self._status = status
        self._describe()

    def _describe(self) -> None:
        own = f"/v1/deployments/{self._plan.deployment_id}"
        build = f"build `{self._build.build_id}`" if self._build else ""
        hints = f"webhooks: {self._hints}, last `{self._last_hint}`" if self._hints else ""
        status = f"**{self._status}**" if self._status else ""
        parts = [status, build, hints, f"log: `{own}/logs` · result: `{own}/result`"]
        workflow.set_current_details("\n\n".join(part for part in parts if part))

    def _canceled(self) -> Ending:
        failure = Failure(code=ErrorCode.CANCELED, message="canceled on request", phase=self._phase(), retryable=True)
        return Ending(status=Status.CANCELED, failure=failure)

    def _overdue(self) -> Ending:
        message = f"the deployment did not end within {self._plan.timeout_seconds:g} s"
        failure = Failure(
            code=ErrorCode.TIMEOUT,
            message=message,
            phase=self._phase(),
            retryable=True,
            hint="raise configuration.timeoutSeconds, at most 86400",
        )
        return Ending(status=Status.TIMEOUT, failure=failure)

    def _failed(self, error: BaseException) -> Ending:
        return Ending(status=Status.FAILED, failure=_failure_of(error, self._phase()))

    def _phase(self) -> str:
        if self._build is None:
            return Status.QUEUED if self._gated else Status.INITIALIZING
        return Status.BUILDING if self._outcome is None else Status.DEPLOYING

    def _mirror(self, status: Status, ending: Ending) -> str:
        """Temporal's own status tells the real ending."""
        if status is Status.SUCCEEDED:
            return str(status)
        failure = ending.failure or Failure(code=ErrorCode.INTERNAL, message=f"ended as {status}")
        if status is Status.CANCELED and workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError(failure.message)
        raise ApplicationError(failure.message, type=failure.code, non_retryable=True)


def _telling(ending: Ending, what: str, error: ActivityError) -> Ending:
    """The ending, which says what was left behind."""
    workflow.logger.warning("%s: %s", what, error.cause)
    said = f"{what}, and may go live: it could not be stopped ({error.cause})"
    if ending.failure is None:
        return ending
    hint = "; ".join(part for part in (ending.failure.hint, said) if part)
    return ending.model_copy(update={"failure": ending.failure.model_copy(update={"hint": hint})})


def _without_record(error: ActivityError) -> BaseException:
    """The database was set back to an older state, or is another one: nobody waits for this deployment."""
    cause = error.cause
    if not isinstance(cause, ApplicationError) or cause.type != ErrorCode.NOT_FOUND:
        return error
    return ApplicationError(f"ends without a record: {cause.message}", type=cause.type, non_retryable=True)


def _failure_of(error: BaseException, phase: str) -> Failure:
    """The record's failure from Temporal's."""
    cause = error.cause if isinstance(error, ActivityError) else error
    if not isinstance(cause, ApplicationError) or cause.type not in set(ErrorCode):
        # A step that ran out of its time, or a bug of ours: the details are in Temporal's history and in the logs.
        message = f"the step did not come to an end: {type(cause).__name__}"
        return Failure(code=ErrorCode.INTERNAL, message=message, phase=phase, retryable=True)
    details = cause.details[0] if cause.details and isinstance(cause.details[0], dict) else {}
    return Failure.model_validate(
        {"phase": phase, **details, "code": cause.type, "message": cause.message, "retryable": cause.type in RETRYABLE}
    )
