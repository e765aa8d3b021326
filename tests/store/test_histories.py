"""Random histories of an environment: after each rollback all of what ran is back, and what was rolled back stays away.

`python -m benchmarks.rollback --histories 100` runs more of them.
"""

import random
from datetime import timedelta
from typing import Any

import pytest

from domain.configuration import ConfigurationChange
from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.project import Project, UpdateEnvironmentRequest
from domain.secret import document
from domain.states import Status
from store.database import Database
from store.projects import ProjectStore
from store.seal import Sealer
from tests.store.test_rollbacks import BACK, Shop

REFS = ("main", "next", "release/1")


class History:
    """Whatever happens to an environment, by a seed; `attempts` counts what tried to bring back what was held."""

    def __init__(self, shop: Shop, database: Database, seed: int) -> None:
        self.shop = shop
        self.database = database
        self.chance = random.Random(seed)
        self.number = 0
        self.live: list[Deployment] = []
        self.artifacts: dict[str, str] = {}
        self.rollbacks = 0
        self.attempts = 0

    async def run(self, steps: int) -> None:
        await self.deploy(Status.SUCCEEDED)
        kinds = (self.succeed, self.end_early, self.roll_back, self.go_bad, self.change_environment)
        for step in range(steps):
            await (self.roll_back if step == steps - 1 else self.chance.choice(kinds))()

    async def deploy(self, status: Status, **more: Any) -> Deployment:
        made = await self.trigger(**more)
        return await self.end(made, status)

    async def trigger(self, **more: Any) -> Deployment:
        self.number += 1
        await self.shop.configure(self.number)
        made = await self.shop.trigger(source_ref=self.chance.choice(REFS), **more)
        if made.waiting_on == "approval":
            await self.shop.gate.decide(made.id, "bob", "approve", None)
        return made

    async def end(self, made: Deployment, status: Status) -> Deployment:
        ended = await self.shop.end(made, status, int(made.commit_sha or f"{self.number:x}", 16))
        if status is Status.SUCCEEDED:
            self.live.append(ended)
            self.artifacts.setdefault(ended.restores or ended.id, ended.artifact_id or "")
        return ended

    async def succeed(self) -> None:
        await self.deploy(Status.SUCCEEDED)

    async def end_early(self) -> None:
        await self.deploy(self.chance.choice((Status.FAILED, Status.CANCELED, Status.TIMEOUT)))

    async def change_environment(self) -> None:
        self.number += 1
        configuration = {"environmentVariables": {"OF": f"{self.number}"}, "secrets": {"OWN": f"own-{self.number}"}}
        change = UpdateEnvironmentRequest(configuration=ConfigurationChange.model_validate(configuration))
        await self.shop.projects.update_environment(self.live[0].environment_id, change, "root")

    async def roll_back(self) -> None:
        *earlier, last = self.live
        if not earlier:
            return await self.succeed()
        target = self.chance.choice(earlier)
        await self.change_environment()
        return await self.is_back(await self.shop.rollback(last, target.id), target, last)

    async def go_bad(self) -> None:
        target = self.live[-1]
        bad = await self.shop.goes_bad(await self.trigger(**BACK))
        await self.is_back(await self.shop.newest(), target, bad)

    async def is_back(self, back: Deployment, target: Deployment, rolled_back: Deployment) -> None:
        self.rollbacks += 1
        assert back.rollback_of == rolled_back.id
        assert await self.ran_with(back) == await self.ran_with(target)
        build = await self.shop.progress.build_to_restore(back.id)
        assert build is not None
        done = await self.end(back, Status.SUCCEEDED)
        assert done.artifact_id == self.artifacts[build.deployment_id] == target.artifact_id
        held = await self.shop.held_ref(back)
        assert held == (None if rolled_back.rollback_of else rolled_back.source_ref)
        if held is not None:
            await self.stays_away(rolled_back)

    async def stays_away(self, bad: Deployment) -> None:
        """Neither a trigger nor a push of the ref, nor the commit by another name, goes by itself."""
        asked = TriggerDeploymentRequest(project_id="shop", source_ref=bad.source_ref, concurrency="queue")
        again = [(await self.shop.deployments.trigger(asked, "ada")).answer]
        async with self.database.transaction() as connection:
            for request in (asked, asked.model_copy(update={"source_ref": "alias"})):
                pushed = self.shop.deployments.accept(
                    connection, request, "push", trigger="webhook", commit=bad.commit_sha
                )
                again.append(await pushed)
        for one in again:
            look = await self.shop.gate.look(one.id)
            assert (look.may_go, (await self.shop.deployments.get(one.id)).waiting_on) == (False, "approval")
            await self.shop.end(one, Status.CANCELED, self.number)
        self.attempts += len(again)

    async def ran_with(self, deployment: Deployment) -> tuple[Any, ...]:
        request = await self.shop.progress.build_request(deployment.id, timedelta())
        return (
            deployment.configuration_digest,
            request.configuration,
            request.commit_sha,
            request.secrets,
            document(deployment.secret_versions),
        )


@pytest.mark.parametrize("seed", range(3))
async def test_after_every_rollback_what_runs_is_what_ran(
    database: Database, sealer: Sealer, projects: ProjectStore, shop: Project, seed: int
) -> None:
    history = History(Shop(database, sealer, projects), database, seed)
    await history.run(12)
    assert history.rollbacks
