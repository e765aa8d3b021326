"""A worker that a test stops in the middle of a step: `python -m tests.providers.internal.stopped ORDER` (see `Order`).

It says how the step ended for it: `done`, or the type of the error.
"""

import asyncio
import dataclasses
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.builds import BuildActivities
from activities.steps import BuildStep
from domain.wire import Wire
from providers.health import AddressChecks
from providers.internal.edge import Edge
from providers.internal.provider import Internal
from store.database import Database
from store.logs import LogStore
from store.progress import ProgressStore
from store.seal import Sealer
from tests.conftest import SECRET_KEYS


class Order(Wire):
    """`attempt` is when Temporal would have scheduled it."""

    database_url: str
    root: Path
    admin_url: str
    public_url: str
    name: str
    step: BuildStep
    attempt: datetime


async def carry_out(order: Order) -> Any:
    edge = Edge(order.admin_url, order.public_url)
    internal = Internal(order.root, edge, task_queue="builds-here", allow_private_addresses=True)
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, current_attempt_scheduled_time=order.attempt)
    sealer = Sealer(SECRET_KEYS)
    async with Database(order.database_url, queue_seconds=60) as database:
        progress, logs = ProgressStore(database, sealer), LogStore(database, sealer)
        steps = BuildActivities({"internal": internal}, progress, logs, AddressChecks())
        try:
            return await environment.run(getattr(steps, order.name), order.step)
        finally:
            await edge.close()


async def main(order: str) -> None:
    try:
        await carry_out(Order.model_validate_json(order))
    except ApplicationError as error:
        sys.stdout.write(f"{error.type}\n")
    else:
        sys.stdout.write("done\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
