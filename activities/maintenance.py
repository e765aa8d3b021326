"""What is done to the house now and then, by schedules."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from temporalio import activity

from activities.failures import failing_plainly
from activities.heartbeat import beating
from domain.log import LogSweep
from providers.base import Provider

if TYPE_CHECKING:
    from store.log_upkeep import LogUpkeep


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


class LogActivities:
    def __init__(self, upkeep: "LogUpkeep") -> None:
        self._upkeep = upkeep

    @activity.defn
    @beating
    @failing_plainly
    async def keep_logs(self) -> LogSweep:
        """Merges, archives and drops what is due. Says what was done, for the schedule's history."""
        return await self._upkeep.sweep()
