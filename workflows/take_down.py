"""What a deleted environment had live is taken down, by each builder that holds something of it.

Started by the dispatcher for each deleted environment until the record says that it is done: a builder that is away for
long is asked again and again, and no kill in between loses anything.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.environments import EnvironmentActivities
    from workflows.policies import ATTEMPT, HEARTBEAT, RETRY

_LIMIT = timedelta(days=1)
"""For a builder to come back; then the dispatcher begins anew."""


def workflow_id(environment_id: str) -> str:
    return f"take-down-{environment_id}"


@workflow.defn
class TakeDownWorkflow:
    @workflow.run
    async def run(self, environment_id: str) -> None:
        queues = await workflow.execute_activity_method(
            EnvironmentActivities.builders_of,
            environment_id,
            start_to_close_timeout=ATTEMPT,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RETRY,
        )
        done = await asyncio.gather(
            *(self._take_down(environment_id, queue) for queue in queues), return_exceptions=True
        )
        for failure in done:
            if failure is not None:
                raise failure
        await workflow.execute_activity_method(
            EnvironmentActivities.note_taken_down,
            environment_id,
            start_to_close_timeout=ATTEMPT,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RETRY,
        )

    async def _take_down(self, environment_id: str, task_queue: str) -> None:
        await workflow.execute_activity_method(
            EnvironmentActivities.take_down,
            environment_id,
            task_queue=task_queue,
            schedule_to_close_timeout=_LIMIT,
            start_to_close_timeout=ATTEMPT,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RETRY,
        )
