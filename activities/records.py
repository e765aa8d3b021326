"""The steps at our own records: how a deployment ends."""

from typing import TYPE_CHECKING

from temporalio import activity

from activities.failures import failing_plainly
from activities.heartbeat import beating
from activities.steps import Finish, InLine
from domain.states import Status

if TYPE_CHECKING:
    from store.progress import ProgressStore


class RecordActivities:
    def __init__(self, progress: "ProgressStore") -> None:
        self._progress = progress

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
        """The final status, the result and the freed lane, in one transaction. Says what the record says then."""
        return (await self._progress.finish(step.deployment_id, step.ending)).status
