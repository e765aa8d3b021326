"""The clean-up of one builder's disk, started by a schedule on that builder's own queue."""

from datetime import timedelta

from temporalio import workflow
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)

with workflow.unsafe.imports_passed_through():
    from activities.maintenance import MaintenanceActivities
    from workflows.plan import TASK_QUEUE
    from workflows.policies import HEARTBEAT, RETRY

CLEAN_UP_EVERY = timedelta(hours=1)
_LIMIT = timedelta(minutes=30)


@workflow.defn
class CleanUpWorkflow:
    @workflow.run
    async def run(self, task_queue: str) -> None:
        await workflow.execute_activity_method(
            MaintenanceActivities.clean_up,
            task_queue=task_queue,
            start_to_close_timeout=_LIMIT,
            schedule_to_close_timeout=_LIMIT,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RETRY,
        )


async def schedule_clean_up(client: Client, task_queue: str) -> None:
    """Makes sure that the builder behind `task_queue` is cleaned; a schedule that is there stays as it is."""
    name = f"clean-up-{task_queue}"
    action = ScheduleActionStartWorkflow(
        CleanUpWorkflow.run, task_queue, id=name, task_queue=TASK_QUEUE, static_summary="old builds and releases"
    )
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=CLEAN_UP_EVERY)])
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP)
    try:
        await client.create_schedule(name, Schedule(action=action, spec=spec, policy=policy))
    except ScheduleAlreadyRunningError:
        return
