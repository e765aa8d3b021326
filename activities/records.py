"""The steps at our own records: how a deployment ends."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from temporalio import activity

from activities.failures import failing_plainly
from activities.heartbeat import beating
from activities.steps import Finish, OfDeployment
from domain.build import Build
from domain.errors import DeploymentError
from domain.gate import Look
from domain.states import Status

if TYPE_CHECKING:
    from store.gate import GateStore
    from store.logs import LogStore
    from store.progress import ProgressStore


MERGE_SECONDS = 30
"""Of the time that the step has."""


class RecordActivities:
    def __init__(
        self,
        progress: "ProgressStore",
        gate: "GateStore",
        logs: "LogStore",
        wake: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`wake` brings on at once whose turn has come; without, the dispatcher does so in its next round."""
        self._progress = progress
        self._gate = gate
        self._logs = logs
        self._wake = wake

    @activity.defn
    @beating
    @failing_plainly
    async def look_at_gate(self, step: OfDeployment) -> Look:
        """Whether the deployment may go now: its environment's rules, then its lane."""
        return await self._gate.look(step.deployment_id)

    @activity.defn
    @beating
    @failing_plainly
    async def build_to_restore(self, step: OfDeployment) -> Build | None:
        """The build that the deployment makes live again, where there is one."""
        return await self._progress.build_to_restore(step.deployment_id)

    @activity.defn
    @beating
    @failing_plainly
    async def finish(self, step: Finish) -> Status:
        """The final status, the result and the freed lane, in one transaction. Says what the record says then.

        The log is merged afterwards; what hinders that hinders no ending, and is made up for by `keep_logs`.
        """
        status = (await self._progress.finish(step.deployment_id, step.ending)).status
        if self._wake is not None:
            with contextlib.suppress(DeploymentError):
                await self._wake()
        try:
            await asyncio.wait_for(self._logs.merge(step.deployment_id), MERGE_SECONDS)
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - a bug of ours, too, comes after the ending
            activity.logger.warning("the log of %s is not merged yet: %r", step.deployment_id, error)
        return status
