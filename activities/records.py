"""The steps at our own records: how a deployment ends."""

import asyncio
from typing import TYPE_CHECKING

from temporalio import activity

from activities.failures import failing_plainly
from activities.heartbeat import beating
from activities.steps import Finish, InLine
from domain.states import Status

if TYPE_CHECKING:
    from store.logs import LogStore
    from store.progress import ProgressStore


MERGE_SECONDS = 30
"""Of the time that the step has."""


class RecordActivities:
    def __init__(self, progress: "ProgressStore", logs: "LogStore") -> None:
        self._progress = progress
        self._logs = logs

    @activity.defn
    @beating
    @failing_plainly
    async def wait_in_line(self, step: InLine) -> str:
        """What the lane of a deployment is, who waits for it being `queued`: `waiting`, `held`, `released`."""
        return await self._progress.wait_in_line(step.deployment_id)

    @activity.defn
    @beating
    @failing_plainly
    async def finish(self, step: Finish) -> Status:
        """The final status, the result and the freed lane, in one transaction. Says what the record says then.

        The log is merged afterwards; what hinders that hinders no ending, and is made up for by `keep_logs`.
        """
        status = (await self._progress.finish(step.deployment_id, step.ending)).status
        try:
            await asyncio.wait_for(self._logs.merge(step.deployment_id), MERGE_SECONDS)
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - a bug of ours, too, comes after the ending
            activity.logger.warning("the log of %s is not merged yet: %r", step.deployment_id, error)
        return status
