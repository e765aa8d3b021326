"""What is done to the house now and then, by a schedule."""

from collections.abc import Mapping

from temporalio import activity

from activities.failures import failing_plainly
from activities.heartbeat import beating
from providers.base import Provider


class MaintenanceActivities:
    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._providers = providers

    @activity.defn
    @beating
    @failing_plainly
    async def clean_up(self) -> None:
        """Removes the builds and releases that retention no longer keeps."""
        for provider in self._providers.values():
            await provider.clean_up()
