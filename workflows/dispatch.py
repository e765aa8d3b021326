"""Delivers to Temporal what was accepted while it was away, or by an API process that died before it could.

Rule: while Temporal answers, what cannot be delivered is put off, for longer each time, and the others have their turn.
"""

import asyncio
import time
from collections.abc import Awaitable, Collection
from typing import Protocol

import structlog

from domain.deployment import Deployment
from domain.errors import DeploymentError
from domain.webhook import News
from workflows.control import DeploymentWorkflows

EVERY_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
"""Between two tries of what cannot be delivered."""
_FORGOTTEN_SECONDS = 600.0

_log = structlog.get_logger()


class Undelivered(Protocol):
    """The store's outbox."""

    async def not_started(self, without: Collection[str]) -> list[Deployment]: ...
    async def not_canceled(self, without: Collection[str]) -> list[str]: ...
    async def not_woken(self, without: Collection[str]) -> list[str]: ...
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


class Tries:
    """Deliveries, of which each may fail by itself."""

    def __init__(self, workflows: DeploymentWorkflows) -> None:
        self._workflows = workflows
        self._failed: dict[str, tuple[int, float]] = {}
        """How often in a row, and until when it is put off."""

    def put_off(self) -> list[str]:
        """Whose turn is not now."""
        now = time.monotonic()
        self._failed = {one: tried for one, tried in self._failed.items() if tried[1] > now - _FORGOTTEN_SECONDS}
        return [one for one, (_, until) in self._failed.items() if until > now]

    async def deliver(self, identity: str, what: Awaitable[None]) -> bool:
        """Whether it was delivered. Raises DeploymentError (unavailable) when Temporal does not answer at all."""
        try:
            await what
        except Exception as error:  # noqa: BLE001 - whatever it is with this one, the others are delivered
            await self._workflows.ping()
            times = self._failed.get(identity, (0, 0.0))[0] + 1
            self._failed[identity] = times, time.monotonic() + min(LONGEST_PAUSE_SECONDS, 2.0 ** min(times, 10) / 2)
            _log.error("cannot be delivered now", id=identity, times=times, reason=str(error)[:500])
            return False
        self._failed.pop(identity, None)
        return True


class EnvironmentCourier:
    """Ends environments whose time is over, and lets what deleted ones had live be taken down."""

    def __init__(self, environments: EndingEnvironments, workflows: DeploymentWorkflows) -> None:
        self._environments = environments
        self._workflows = workflows
        self._tries = Tries(workflows)

    async def deliver(self) -> None:
        """Raises DeploymentError (unavailable); what was not delivered is there again after a minute."""
        await self._environments.expire_due()
        for environment_id in await self._environments.claim_take_downs():
            await self._tries.deliver(environment_id, self._workflows.take_down(environment_id))


class WebhookCourier:
    """Brings on what webhooks have brought, each thing once, however many do so."""

    def __init__(self, outbox: Undelivered, pushes: Pushes, workflows: DeploymentWorkflows) -> None:
        self._outbox = outbox
        self._pushes = pushes
        self._workflows = workflows
        self._tries = Tries(workflows)

    async def deliver(self) -> None:
        """Raises DeploymentError (unavailable); what was not delivered is there for the next time."""
        for deployment in await self._pushes.trigger_due():
            if await self._tries.deliver(deployment.id, self._workflows.start(deployment)):
                await self._outbox.mark_started(deployment.id)
        while news := await self._outbox.claim_news():
            told = await asyncio.gather(
                *(self._tries.deliver(one.deployment_id, self._workflows.hint(one)) for one in news)
            )
            await self._outbox.mark_told_news([one for one, done in zip(news, told, strict=True) if done])


class Dispatcher:
    """Any number may run: starting twice is starting once, and so is canceling."""

    def __init__(self, outbox: Undelivered, workflows: DeploymentWorkflows, *couriers: Courier) -> None:
        self._outbox = outbox
        self._workflows = workflows
        self._couriers = couriers
        self._tries = Tries(workflows)

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
        for deployment_id in await self._outbox.not_canceled(self._tries.put_off()):
            if await self._tries.deliver(deployment_id, self._workflows.cancel(deployment_id, "requested")):
                await self._outbox.mark_canceled(deployment_id)
        for courier in self._couriers:
            await courier.deliver()

    async def wake(self) -> None:
        """Starts what has not been started, and tells workflows that there is something new to see in their record.

        Raises DeploymentError (unavailable).
        """
        for deployment in await self._outbox.not_started(self._tries.put_off()):
            if await self._tries.deliver(deployment.id, self._workflows.start(deployment)):
                await self._outbox.mark_started(deployment.id)
        for deployment_id in await self._outbox.not_woken(self._tries.put_off()):
            if await self._tries.deliver(deployment_id, self._workflows.wake(deployment_id)):
                await self._outbox.mark_woken(deployment_id)
