"""How the rest of the service reaches workflows: start one, cancel one. Durable once Temporal has answered."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.runtime import Runtime
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from activities.steps import Reconcile
from domain.deployment import Deployment, workflow_id
from domain.errors import DeploymentError, ErrorCode
from domain.reconciliation import Round
from domain.webhook import Hint, News
from workflows import take_down
from workflows.codec import SealedPayloads, Seals, data_converter
from workflows.deployment import DeploymentWorkflow
from workflows.maintenance import ReconcileWorkflow
from workflows.plan import SHOWN, TASK_QUEUE, UPKEEP_QUEUE, plan_of
from workflows.search import attributes_of
from workflows.take_down import TakeDownWorkflow

_PATIENCE_SECONDS = 3.0
_ROUND_SECONDS = 15.0
_RETRY_AFTER_SECONDS = 2
_ASKED_LATELY = timedelta(seconds=75)
"""A worker's question is answered after 60 s at the latest, and asked again."""
_BRIEF = RetryConfig(max_retries=3, max_elapsed_time_millis=1500)
"""A connected client would otherwise try for 9 s before it says that the server is away."""

Answer = TypeVar("Answer")
Handle = WorkflowHandle[Any, Any]


class DeploymentWorkflows:
    """Connects when it is first used, so that the service starts without Temporal."""

    def __init__(self, address: str, namespace: str, seals: Seals) -> None:
        self._address = address
        self._namespace = namespace
        self._seals = seals
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def start(self, deployment: Deployment) -> None:
        """Starts the deployment's workflow; one that was started before, running or closed, is left alone.

        Raises:
            DeploymentError: unavailable, when Temporal is out of reach. It may have been started all the same.
        """
        try:
            await self._ask(self._start(deployment))
        except WorkflowAlreadyStartedError:
            return

    async def cancel(self, deployment_id: str, reason: str) -> None:
        """Asks the workflow to cancel; one that is closed is left alone.

        Raises:
            DeploymentError: unavailable.
        """
        await self._ask(self._tell(deployment_id, lambda handle: handle.cancel(reason=reason)))

    async def wake(self, deployment_id: str) -> None:
        """Tells the workflow to look at its record again; one that is closed is left alone.

        Raises:
            DeploymentError: unavailable.
        """
        await self._ask(self._tell(deployment_id, lambda handle: handle.signal(DeploymentWorkflow.look_again)))

    async def hint(self, news: News) -> None:
        """Shows the workflow what webhooks have brought; one that is closed is left alone.

        Raises:
            DeploymentError: unavailable.
        """
        hint = Hint(count=len(news.webhook_ids), kind=news.kind)
        await self._ask(self._tell(news.deployment_id, lambda handle: handle.signal(DeploymentWorkflow.webhook, hint)))

    async def take_down(self, environment_id: str) -> None:
        """Starts taking down what a deleted environment had live; one that is under way is left alone.

        Raises:
            DeploymentError: unavailable.
        """
        await self._ask(self._take_down(environment_id))

    async def ping(self) -> None:
        """Raises DeploymentError (unavailable) when Temporal does not answer."""
        await self._ask(self._ping())

    async def reconcile(self) -> Round:
        """One round of the reconciler, made now by a worker.

        Raises:
            DeploymentError: unavailable.
        """
        return await self._ask(self._reconcile(), _ROUND_SECONDS)

    async def workers(self, task_queue: str, *, workflows: bool) -> int:
        """How many processes asked that queue for work lately.

        Raises:
            DeploymentError: unavailable.
        """
        return await self._ask(self._workers(task_queue, workflows=workflows))

    async def _reconcile(self) -> Round:
        return await (await self._connected()).execute_workflow(
            ReconcileWorkflow.run,
            Reconcile(),
            id="reconcile-now",
            task_queue=UPKEEP_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            execution_timeout=timedelta(seconds=_ROUND_SECONDS),
            static_summary="records and workflows side by side, by request",
        )

    async def _workers(self, task_queue: str, *, workflows: bool) -> int:
        client = await self._connected()
        kind = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW if workflows else TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
        described = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self._namespace, task_queue=TaskQueue(name=task_queue), task_queue_type=kind
            )
        )
        since = datetime.now(UTC) - _ASKED_LATELY
        return len({p.identity for p in described.pollers if p.last_access_time.ToDatetime(UTC) >= since})

    async def _start(self, deployment: Deployment) -> None:
        configuration = deployment.configuration
        client = await self._connected()
        await client.start_workflow(
            DeploymentWorkflow.run,
            plan_of(deployment),
            id=workflow_id(deployment.id),
            task_queue=TASK_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=attributes_of(deployment),
            # A flood of one project does not keep the others waiting: queues serve projects in turn.
            priority=Priority(fairness_key=deployment.project_id),
            static_summary=f"{deployment.project_id} → {configuration.environment}: {deployment.source_ref[:SHOWN]}",
            static_details=f"deployment `{deployment.id}`, triggered by {deployment.triggered_by}",
        )

    async def _take_down(self, environment_id: str) -> None:
        client = await self._connected()
        await client.start_workflow(
            TakeDownWorkflow.run,
            environment_id,
            id=take_down.workflow_id(environment_id),
            task_queue=TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"what was live of the deleted environment {environment_id}",
        )

    async def _tell(self, deployment_id: str, what: Callable[[Handle], Awaitable[None]]) -> None:
        handle = (await self._connected()).get_workflow_handle(workflow_id(deployment_id))
        try:
            await what(handle)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def _ping(self) -> None:
        await (await self._connected()).service_client.check_health()

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None:
                self._client = await connect(self._address, self._namespace, self._seals, retry_config=_BRIEF)
            return self._client

    async def _ask(self, question: Awaitable[Answer], seconds: float = _PATIENCE_SECONDS) -> Answer:
        try:
            return await asyncio.wait_for(question, seconds)
        except (RPCError, RuntimeError, TimeoutError, WorkflowFailureError) as error:
            raise DeploymentError(
                ErrorCode.UNAVAILABLE,
                f"Temporal does not answer ({type(error).__name__}: {str(error)[:200]})",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            ) from error


async def connect(
    address: str,
    namespace: str,
    seals: Seals,
    *,
    retry_config: RetryConfig | None = None,
    runtime: Runtime | None = None,
) -> Client:
    """A client that speaks as our workers do: the one place where clients are made, so that none forgets to seal.

    Raises:
        RuntimeError: the server is out of reach.
    """
    return await Client.connect(
        address,
        namespace=namespace,
        data_converter=data_converter(SealedPayloads(seals, namespace)),
        retry_config=retry_config,
        runtime=runtime,
    )
