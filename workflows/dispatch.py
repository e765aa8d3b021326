"""Delivers to Temporal what was accepted while it was away, or by an API process that died before it could."""

import asyncio
from typing import Protocol

import structlog

from domain.deployment import Deployment
from domain.errors import DeploymentError
from domain.webhook import News
from workflows.control import DeploymentWorkflows

EVERY_SECONDS = 1.0

_log = structlog.get_logger()


class Undelivered(Protocol):
    """The store's outbox."""

    async def not_started(self) -> list[Deployment]: ...
    async def not_canceled(self) -> list[str]: ...
    async def not_woken(self) -> list[str]: ...
    async def mark_started(self, deployment_id: str) -> None: ...
    async def mark_canceled(self, deployment_id: str) -> None: ...
    async def mark_woken(self, deployment_id: str) -> None: ...
    async def claim_news(self) -> list[News]: ...
    async def mark_told_news(self, news: list[News]) -> None: ...


class Pushes(Protocol):
    """The store's pushes."""

    async def trigger_due(self) -> list[Deployment]: ...


class Courier(Protocol):
    """Brings on what one part of the store has for Temporal."""

    async def deliver(self) -> None: ...


class EndingEnvironments(Protocol):
    """The store's environments."""

    async def expire_due(self) -> None: ...
    async def claim_take_downs(self) -> list[str]: ...


class EnvironmentCourier:
    """Ends environments whose time is over, and lets what deleted ones had live be taken down."""

    def __init__(self, environments: EndingEnvironments, workflows: DeploymentWorkflows) -> None:
        self._environments = environments
        self._workflows = workflows

    async def deliver(self) -> None:
        """Raises DeploymentError (unavailable); what was not delivered is there again after a minute."""
        await self._environments.expire_due()
        for environment_id in await self._environments.claim_take_downs():
            await self._workflows.take_down(environment_id)


class WebhookCourier:
    """Brings on what webhooks have brought, each thing once, however many do so."""

    def __init__(self, outbox: Undelivered, pushes: Pushes, workflows: DeploymentWorkflows) -> None:
        self._outbox = outbox
        self._pushes = pushes
        self._workflows = workflows

    async def deliver(self) -> None:
        """Raises DeploymentError (unavailable); what was not delivered is there for the next time."""
        for deployment in await self._pushes.trigger_due():
            await self._workflows.start(deployment)
            await self._outbox.mark_started(deployment.id)
        while news := await self._outbox.claim_news():
            await asyncio.gather(*(self._workflows.hint(one) for one in news))
            await self._outbox.mark_told_news(news)


class Dispatcher:
    """Any number may run: starting twice is starting once, and so is canceling."""

    def __init__(self, outbox: Undelivered, workflows: DeploymentWorkflows, *couriers: Courier) -> None:
        self._outbox = outbox
        self._workflows = workflows
        self._couriers = couriers

    async def run(self) -> None:
        """Until it is canceled."""
        while True:
            try:
                await self.deliver()
            except DeploymentError as error:
                _log.warning("dispatcher waits", reason=error.message)
            await asyncio.sleep(EVERY_SECONDS)

    async def deliver(self) -> None:
        """Raises DeploymentError (unavailable) when Temporal or the database is away; the next round goes on."""
        await self.wake()
        for deployment_id in await self._outbox.not_canceled():
            await self._workflows.cancel(deployment_id, "requested")
            await self._outbox.mark_canceled(deployment_id)
        for courier in self._couriers:
            await courier.deliver()

    async def wake(self) -> None:
        """Starts what has not been started, and tells workflows that there is something new to see in their record.

        Raises DeploymentError (unavailable).
        """
        for deployment in await self._outbox.not_started():
            await self._workflows.start(deployment)
            await self._outbox.mark_started(deployment.id)
        for deployment_id in await self._outbox.not_woken():
            await self._workflows.wake(deployment_id)
            await self._outbox.mark_woken(deployment_id)
