"""Tells Temporal what has been committed, at once and in the background.

Rule: a delivery that fails is nobody's loss: what is not marked as delivered is delivered by the worker's dispatcher.
"""

from domain.deployment import Deployment
from domain.states import Status
from store.outbox import Outbox
from workflows.control import DeploymentWorkflows
from workflows.dispatch import WebhookCourier


class Delivery:
    def __init__(self, workflows: DeploymentWorkflows, outbox: Outbox, webhooks: WebhookCourier) -> None:
        self._workflows = workflows
        self._outbox = outbox
        self._webhooks = webhooks
        self._delivering = False
        self._more = False

    async def start(self, deployment: Deployment) -> None:
        await self._workflows.start(deployment)
        await self._outbox.mark_started(deployment.id)

    async def wake(self, deployment: Deployment) -> None:
        """Its workflow looks at the record again."""
        await self._workflows.wake(deployment.id)
        await self._outbox.mark_woken(deployment.id)

    async def cancel(self, deployment: Deployment, reason: str) -> None:
        if deployment.status is Status.CREATED:
            await self.start(deployment)  # a cancel that overtakes the start would find no workflow, and be lost
        await self._workflows.cancel(deployment.id, reason)
        await self._outbox.mark_canceled(deployment.id)

    async def webhooks(self) -> None:
        """One round at a time, however many come: the next round takes what came during this one."""
        self._more = True
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._more:
                self._more = False
                await self._webhooks.deliver()
        finally:
            self._delivering = False
