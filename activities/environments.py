"""The steps after an environment was deleted: whoever holds something of it takes it down."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from temporalio import activity

from activities.failures import failing_plainly
from activities.heartbeat import beating
from providers.base import Provider

if TYPE_CHECKING:
    from store.environments import EnvironmentStore


class EnvironmentActivities:
    """`providers` are those of this builder; where none is, nothing is to be taken down."""

    def __init__(self, environments: "EnvironmentStore", providers: Mapping[str, Provider]) -> None:
        self._environments = environments
        self._providers = providers

    @activity.defn
    @beating
    @failing_plainly
    async def builders_of(self, environment_id: str) -> list[str]:
        """The task queues of those who hold something of it."""
        return await self._environments.builders_of(environment_id)

    @activity.defn
    @beating
    @failing_plainly
    async def take_down(self, environment_id: str) -> None:
        """On a builder: its sites, releases and builds of that environment."""
        removed = await self._environments.removed(environment_id)
        if removed is not None:
            for provider in self._providers.values():
                await provider.take_down(removed)

    @activity.defn
    @beating
    @failing_plainly
    async def note_taken_down(self, environment_id: str) -> None:
        await self._environments.note_taken_down(environment_id)
