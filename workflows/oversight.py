"""Temporal as the reconciler sees it: which workflows are open, how others were closed, and how to mend that."""

from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistoryEventFilterType,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from domain.deployment import Deployment, workflow_id
from domain.reconciliation import Closed, WorkflowState
from workflows.control import DeploymentWorkflows
from workflows.deployment import DeploymentWorkflow
from workflows.plan import TASK_QUEUE
from workflows.repair import Repair, RepairWorkflow

_OPEN = f"WorkflowType = '{DeploymentWorkflow.__name__}' AND ExecutionStatus = 'Running'"
_PREFIX = workflow_id("")
_CLOSED: dict[WorkflowExecutionStatus, Closed] = {
    WorkflowExecutionStatus.COMPLETED: "completed",
    WorkflowExecutionStatus.CANCELED: "canceled",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.TERMINATED: "terminated",
    WorkflowExecutionStatus.TIMED_OUT: "timed-out",
}


class Oversight:
    """Raises `RPCError` where Temporal is out of reach."""

    def __init__(self, client: Client, workflows: DeploymentWorkflows) -> None:
        self._client = client
        self._workflows = workflows

    async def all_open(self) -> set[str]:
        """Deployments whose workflow is open, as far as has come round: a list is a little late."""
        return {
            found.id.removeprefix(_PREFIX)
            async for found in self._client.list_workflows(_OPEN)
            if found.id.startswith(_PREFIX)
        }

    async def state(self, deployment_id: str) -> WorkflowState:
        """Exactly."""
        handle = self._handle(deployment_id)
        try:
            described = await handle.describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return WorkflowState()
            raise
        closed = None if described.status is None else _CLOSED.get(described.status)
        if closed is None:
            return WorkflowState(is_open=True)
        return WorkflowState(closed=closed, **await _why(handle, closed))

    async def start(self, deployment: Deployment) -> None:
        await self._workflows.start(deployment)

    async def repair(self, deployment: Deployment, state: WorkflowState) -> None:
        """Finishes it; one repair at a time."""
        await self._client.start_workflow(
            RepairWorkflow.run,
            Repair(deployment_id=deployment.id, state=state),
            id=f"repair-{deployment.id}",
            task_queue=TASK_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"{deployment.project_id}: finishes a deployment whose workflow is {state.closed}",
        )

    async def end(self, deployment_id: str, reason: str, *, by_force: bool) -> None:
        handle = self._handle(deployment_id)
        try:
            await (handle.terminate(reason=reason) if by_force else handle.cancel(reason=reason))
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    def _handle(self, deployment_id: str) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(workflow_id(deployment_id))


async def _why(handle: WorkflowHandle[Any, Any], closed: Closed) -> dict[str, str | None]:
    """Of one that was terminated the operator's reason, of one that has failed its failure."""
    if closed == "terminated":
        async for event in handle.fetch_history_events(event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
                return {"reason": event.workflow_execution_terminated_event_attributes.reason or None}
    if closed == "failed":
        try:
            await handle.result()
        except WorkflowFailureError as error:
            if isinstance(error.cause, ApplicationError):
                return {"reason": error.cause.message, "failure_type": error.cause.type}
    return {}
