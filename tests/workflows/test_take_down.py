"""What a deleted environment had live is taken down by each builder, also by one that was away."""

import asyncio
from uuid import uuid4

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from store.seal import Sealer
from tests.servers import eventually
from workflows.control import DeploymentWorkflows
from workflows.dispatch import EnvironmentCourier
from workflows.plan import TASK_QUEUE
from workflows.take_down import TakeDownWorkflow, workflow_id


class House:
    """The steps' outside world: two builders hold something."""

    def __init__(self) -> None:
        self.environment = str(uuid4())
        self.queues = [f"builder-{uuid4().hex}" for _ in range(2)]
        self.told: list[str] = []
        self.tries = 0

    async def expire_due(self) -> None:
        """Nothing is due."""

    async def claim_take_downs(self) -> list[str]:
        return [self.environment]

    @activity.defn
    async def builders_of(self, environment_id: str) -> list[str]:
        assert environment_id == self.environment
        return self.queues

    @activity.defn
    async def take_down(self, environment_id: str) -> None:
        assert environment_id == self.environment
        self.tries += 1
        if self.tries == 1:
            raise RuntimeError("the edge is away")
        self.told.append(activity.info().task_queue)

    @activity.defn
    async def note_taken_down(self, environment_id: str) -> None:
        self.told.append("done")

    def builder(self, client: Client, queue: str) -> Worker:
        return Worker(client, task_queue=queue, activities=[self.take_down], build_id="test")


async def test_it_is_done_once_every_builder_has_done_it(client: Client, temporal: str, sealer: Sealer) -> None:
    house = House()
    courier = EnvironmentCourier(house, DeploymentWorkflows(temporal, "default", sealer))
    records = Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[TakeDownWorkflow],
        activities=[house.builders_of, house.note_taken_down],
        build_id="test",
    )
    first, second = house.queues
    async with records, house.builder(client, first):
        for _ in range(3):
            await courier.deliver()
        handle = client.get_workflow_handle(workflow_id(house.environment))

        async def half_done() -> bool:
            return house.told == [first]

        await eventually(half_done)
        async with house.builder(client, second):
            await asyncio.wait_for(handle.result(), 30)
    assert house.told == [first, second, "done"]
