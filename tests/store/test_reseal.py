"""A key of the ring is replaced while everything goes on: nothing is lost, and afterwards the old one is not needed."""

import asyncio
import base64
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from domain.configuration import ConfigurationChange
from domain.deployment import TriggerDeploymentRequest
from domain.log import LogBatch
from domain.page import PageRequest
from domain.project import CreateProjectRequest, UpdateEnvironmentRequest, UpdateProjectRequest
from store.audit_reader import AuditReader
from store.database import Database
from store.deployments import DeploymentStore
from store.idempotency import IdempotentRequest
from store.limits import TriggerLimiter
from store.logs import LogStore
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.reseal import SecretKeyStore
from store.seal import CannotOpen, Sealer
from tests.servers import eventually
from tests.store.conftest import line
from tests.store.test_data_keys import sealed_by_the_ring

OLD, NEW = (f"{name}:{base64.b64encode(name.encode() * 16).decode()}" for name in ("k1", "k2"))
STREAM = "build"


@dataclass(frozen=True)
class Process:
    """What one process does to secrets, with the keys that it was started with."""

    database: Database
    ring: Sealer

    @property
    def projects(self) -> ProjectStore:
        return ProjectStore(self.database, self.ring)

    @property
    def deployments(self) -> DeploymentStore:
        return DeploymentStore(self.database, self.ring, TriggerLimiter(self.database, 10_000))

    @property
    def logs(self) -> LogStore:
        return LogStore(self.database, self.ring)

    @property
    def keys(self) -> SecretKeyStore:
        return SecretKeyStore(self.database, self.ring)

    async def create(self, project_id: str) -> None:
        asked = {"id": project_id, "provider": "internal", "configuration": {"secrets": {"KEY": "first"}}}
        await self.projects.create_project(CreateProjectRequest.model_validate(asked), "ada", again(project_id))

    async def set_key(self, project_id: str, value: str) -> None:
        change = UpdateProjectRequest(configuration=ConfigurationChange(secrets={"KEY": value}))
        await self.projects.update_project(project_id, change, "ada")

    async def set_own(self, project_id: str, value: str) -> None:
        environment = (await self.projects.list_environments(project_id, PageRequest())).items[0]
        change = UpdateEnvironmentRequest(configuration=ConfigurationChange(secrets={"OWN": value}))
        await self.projects.update_environment(environment.id, change, "ada")

    async def trigger(self, project_id: str, key: str) -> str:
        asked = TriggerDeploymentRequest(project_id=project_id, source_ref="main", concurrency="parallel")
        return (await self.deployments.trigger(asked, "ada", again(key))).answer.id

    async def log(self, deployment_id: str, number: int) -> None:
        memory = {"masks": [f"mask-{number}"]}
        after, cursor = ("" if number == 0 else str(number)), str(number + 1)
        batch = LogBatch(stream=STREAM, after=after, cursor=cursor, lines=[line("x")], memory=memory)
        await self.logs.append(deployment_id, batch)

    async def masks(self, deployment_id: str) -> Any:
        return (await self.logs.position(deployment_id, STREAM)).memory.get("masks")

    async def secrets(self, deployment_id: str) -> dict[str, str]:
        return (await ProgressStore(self.database, self.ring).build_request(deployment_id, timedelta())).secrets


def again(key: str) -> IdempotentRequest:
    return IdempotentRequest(scope="", route="x", key=key, fingerprint=b"x")


def process(database: Database, *keys: str) -> Process:
    return Process(database, Sealer(",".join(keys)))


async def test_after_each_step_every_process_reads_what_the_others_write(database: Database) -> None:
    steps = [(OLD,), (OLD, NEW), (NEW, OLD), (NEW,)]
    for number, (before, after) in enumerate(pairwise(steps)):
        one, other = process(database, *before), process(database, *after)
        if after == (NEW,):
            await one.keys.reseal()
            assert (await one.keys.list_keys()).left == 0
        for writer, reader, name in ((one, other, f"a{number}"), (other, one, f"b{number}")):
            await writer.create(name)
            deployment_id = await writer.trigger(name, f"key-{name}")
            await writer.log(deployment_id, 0)
            assert await reader.secrets(deployment_id) == {"KEY": "first"}
            assert await reader.trigger(name, f"key-{name}") == deployment_id
            assert await reader.masks(deployment_id) == ["mask-0"]


async def test_without_the_first_step_a_process_of_before_cannot_read(database: Database) -> None:
    old, new = process(database, OLD), process(database, NEW, OLD)
    await new.create("site")
    deployment_id = await new.trigger("site", "k")
    with pytest.raises(CannotOpen, match="HEADWAY_SECRET_KEYS"):
        await old.secrets(deployment_id)


async def test_writers_go_on_while_a_key_is_replaced_and_nothing_is_lost(database: Database) -> None:
    names = [f"p{number}" for number in range(4)]
    for name in names:
        await process(database, OLD).create(name)
    rounds = 6
    ended: dict[str, list[str]] = {name: [] for name in names}

    async def write(name: str, number: int) -> None:
        # Those with an even number have been started again already.
        one = process(database, *((NEW, OLD) if number % 2 else (OLD, NEW)))
        logged = await one.trigger(name, f"{name}-logged")
        for step in range(rounds):
            await one.set_key(name, f"{name}-{step}")
            await one.set_own(name, f"own-{step}")
            ended[name].append(await one.trigger(name, f"{name}-{step}"))
            await one.log(logged, step)
        ended[name].append(logged)

    async def replace() -> None:
        while True:
            await process(database, NEW, OLD).keys.reseal()

    async with asyncio.TaskGroup() as group:
        sweeps = [group.create_task(replace()) for _ in range(2)]
        await asyncio.gather(*(write(name, number) for number, name in enumerate(names)))
        for sweep in sweeps:
            sweep.cancel()
    await process(database, NEW, OLD).keys.reseal()
    alone = process(database, NEW)
    assert (await alone.keys.count_sealed_by()).keys() == {"k2"}
    for name in names:
        *deployments, logged = ended[name]
        for step, deployment_id in enumerate(deployments):
            assert await alone.secrets(deployment_id) == {"KEY": f"{name}-{step}", "OWN": f"own-{step}"}
            assert await alone.trigger(name, f"{name}-{step}") == deployment_id
        assert await alone.masks(logged) == [f"mask-{rounds - 1}"]
        assert (await alone.projects.get_project(name)).secret_versions["KEY"].version == rounds + 1
    assert (await AuditReader(database).verify(None, [])).valid


async def test_a_sweep_that_dies_has_done_what_it_has_done_and_the_next_one_goes_on(database: Database) -> None:
    old, new = process(database, OLD), process(database, NEW, OLD)
    await old.create("site")
    await old.trigger("site", "k")
    sealed = await sealed_by_the_ring(database, old.ring, 1500)
    before = (await new.keys.list_keys()).left
    assert before > sealed
    dying = asyncio.create_task(new.keys.reseal())

    async def under_way() -> bool:
        return (await new.keys.list_keys()).left < before

    await eventually(under_way)
    dying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await dying
    left = (await new.keys.list_keys()).left
    assert 0 < left < before
    assert await new.keys.reseal() == left
    assert (await process(database, NEW).keys.list_keys()).left == 0


async def test_what_cannot_be_opened_is_left_and_counted(database: Database) -> None:
    other = process(database, f"gone:{base64.b64encode(bytes(32)).decode()}")
    one = process(database, OLD)
    await other.create("foreign")
    await one.create("site")
    await database.fetch_all(
        "update projects set secrets = %(sealed)s where id = 'foreign' returning id",
        {"sealed": one.ring.seal(b'{"KEY": "x"}', "project foreign")},
    )
    new = process(database, NEW, OLD)
    await new.keys.reseal()
    keys = await new.keys.list_keys()
    told = {key.id: (key.seals, key.known, key.values) for key in keys.keys}
    assert told == {"gone": (False, False, 2), "k1": (False, True, 1), "k2": (True, True, 2)}
    assert keys.left == 3


async def test_answers_that_no_longer_count_are_removed(database: Database) -> None:
    one = process(database, OLD)
    await one.create("site")
    await database.fetch_all("update idempotency set created_at = now() - interval '25 hours' returning key")
    await one.keys.reseal()
    assert await database.fetch_all("select key from idempotency") == []
