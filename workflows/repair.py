"""Finishes a deployment whose own workflow is closed and could not do it: an operator has terminated it, most often.

Rules:
1. What Temporal knows counts: a workflow that has completed, failed or was canceled ended its deployment so.
2. Publishing is the point of no return here, too: it is brought to its end. A build is stopped; where its provider says
   that it had ended, that counts. Nothing goes live that was not about to.
3. The lane is waited for: a provider that does not answer soon keeps it no longer. It is asked again afterwards.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.builds import BuildActivities
    from activities.reconcile import ReconcileActivities
    from activities.records import RecordActivities
    from activities.steps import BuildOutcome, BuildStep, Finish, OfDeployment, StartBuild
    from domain.build import Build
    from domain.deployment import Deployment
    from domain.ending import Ending
    from domain.errors import ErrorCode
    from domain.reconciliation import Closed, Unfinished, WorkflowState
    from domain.result import BuildReport, Failure
    from domain.states import Status
    from domain.wire import Wire
    from providers.base import BuildStage
    from workflows.plan import BUILD_QUEUE
    from workflows.policies import CANCEL_TIMEOUT, LATE, REPAIR_TIMEOUT, bounds, until_done

_WORDS: dict[Closed, str] = {
    "completed": "its workflow has completed",
    "canceled": "canceled on request",
    "failed": "its workflow has failed",
    "terminated": "its workflow was terminated by an operator",
    "timed-out": "its workflow ran out of the time that Temporal gave it",
}
_ENDED: dict[BuildStage, Status] = {"failed": Status.FAILED, "timeout": Status.TIMEOUT}


class Repair(Wire):
    deployment_id: str
    state: WorkflowState


@workflow.defn
class RepairWorkflow:
    @workflow.init
    def __init__(self, repair: Repair) -> None:
        self._id = repair.deployment_id
        self._state = repair.state
        self._build: Build | None = None
        self._left: str | None = None
        """What may still run or go live at the provider."""

    @workflow.run
    async def run(self, _: Repair) -> str:
        found = await workflow.execute_activity_method(
            ReconcileActivities.read_unfinished, OfDeployment(deployment_id=self._id), **until_done()
        )
        if found is None:
            return "it has ended"
        self._build = found.build
        ending = await self._ending(found)
        status = await workflow.execute_activity_method(
            RecordActivities.finish, Finish(deployment_id=self._id, ending=ending), **until_done()
        )
        if self._left is not None:
            await self._look_later(found.deployment)
        return str(status)

    async def _ending(self, found: Unfinished) -> Ending:
        deployment, closed = found.deployment, self._state.closed
        if closed == "completed":
            return await self._succeeded(deployment)
        if closed in {"terminated", "timed-out"}:
            if deployment.status is Status.DEPLOYING and await self._publish(found):
                return await self._succeeded(deployment)
            if deployment.status is not Status.QUEUED and deployment.status is not Status.DEPLOYING:
                return await self._as_it_says(found, await self._stop(deployment))
        return self._unsuccessful(deployment)

    async def _as_it_says(self, found: Unfinished, outcome: BuildOutcome | None) -> Ending:
        """A build that had ended before it was to be stopped."""
        if outcome is None or found.deployment.cancel_requested_at is not None:
            return self._unsuccessful(found.deployment)
        if outcome.live and await self._publish(found):
            return await self._succeeded(found.deployment)
        if outcome.stage in _ENDED:
            return Ending(status=_ENDED[outcome.stage], failure=outcome.failure)
        return self._unsuccessful(found.deployment)

    async def _succeeded(self, deployment: Deployment) -> Ending:
        if self._build is None:
            return Ending(status=Status.SUCCEEDED)
        try:
            report = await workflow.execute_activity_method(
                BuildActivities.collect_result,
                _step(deployment, self._build),
                task_queue=self._build.task_queue or BUILD_QUEUE,
                **bounds(REPAIR_TIMEOUT),
            )
        except ActivityError:
            report = BuildReport()
        return Ending(status=Status.SUCCEEDED, report=report)

    async def _publish(self, found: Unfinished) -> bool:
        """Whether it is live: it was about to be, or was already."""
        if found.deployment.deployment_url is not None or self._build is None:
            return True  # without a build of its own: one of before was made live again, and its address is known
        try:
            await workflow.execute_activity_method(
                BuildActivities.publish_build,
                _step(found.deployment, self._build),
                task_queue=self._build.task_queue or BUILD_QUEUE,
                **bounds(REPAIR_TIMEOUT),
            )
        except ActivityError as error:
            self._left = f"it was being published, and may be live: {error.cause}"
            return False
        return True

    async def _stop(self, deployment: Deployment) -> BuildOutcome | None:
        """Ends the build, as far as one is known or can be found, and says how it ended."""
        provider = deployment.provider
        try:
            if self._build is None:
                self._left = f"{provider} may have a build of it, which is looked for again later"
                self._build = await self._find(deployment)
            if self._build is not None:
                self._left = f"build {self._build.build_id} may still run at {provider}, and may go live"
                outcome = await self._cancel(deployment, self._build, REPAIR_TIMEOUT)
                self._left = None
                return outcome
        except ActivityError as error:
            workflow.logger.warning("%s: %s", self._left, error.cause)
        return None

    async def _find(self, deployment: Deployment) -> Build | None:
        start = StartBuild(deployment_id=deployment.id, provider=deployment.provider, build_timeout_seconds=0)
        return await workflow.execute_activity_method(
            BuildActivities.find_build, start, task_queue=BUILD_QUEUE, **bounds(REPAIR_TIMEOUT)
        )

    async def _cancel(self, deployment: Deployment, build: Build, limit: timedelta) -> BuildOutcome | None:
        return await workflow.execute_activity_method(
            BuildActivities.cancel_build,
            _step(deployment, build),
            task_queue=build.task_queue or BUILD_QUEUE,
            **bounds(limit),
        )

    async def _look_later(self, deployment: Deployment) -> None:
        """A step that ran when the workflow was terminated may have started a build since; or the provider is back."""
        await asyncio.sleep(LATE.total_seconds())
        try:
            build = self._build or await self._find(deployment)
            if build is not None and deployment.status is not Status.DEPLOYING:
                await self._cancel(deployment, build, CANCEL_TIMEOUT)
        except ActivityError as error:
            workflow.logger.warning("%s: %s", self._left, error.cause)

    def _unsuccessful(self, deployment: Deployment) -> Ending:
        state, closed = self._state, self._state.closed or "terminated"
        said = _WORDS[closed] + (f": {state.reason}" if state.reason else "")
        if deployment.cancel_requested_at is not None or closed == "canceled":
            status, code = Status.CANCELED, str(ErrorCode.CANCELED)
        elif closed == "failed":
            status = Status.TIMEOUT if state.failure_type == ErrorCode.TIMEOUT else Status.FAILED
            code = state.failure_type or ErrorCode.INTERNAL
        else:
            status, code = Status.FAILED, ErrorCode.TERMINATED
        failure = Failure(code=code, message=said, phase=deployment.status, retryable=True, hint=self._left)
        return Ending(status=status, failure=failure)


def _step(deployment: Deployment, build: Build) -> BuildStep:
    """The build's own time is over: what is asked of it now has another bound."""
    return BuildStep(build=build, provider=deployment.provider, build_timeout_seconds=0)
