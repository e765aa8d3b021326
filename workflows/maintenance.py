"""What is done now and then, each by its schedule: a builder's disk is cleaned; logs are merged, archived, dropped."""

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
    ScheduleUpdate,
    ScheduleUpdateInput,
)

with workflow.unsafe.imports_passed_through():
    from activities.maintenance import LogActivities, MaintenanceActivities
    from domain.log import LogSweep
    from workflows.plan import TASK_QUEUE
    from workflows.policies import HEARTBEAT, RETRY

EVERY = timedelta(hours=1)
KEEP_LOGS = "keep-logs"
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


@workflow.defn
class KeepLogsWorkflow:
    @workflow.run
    async def run(self) -> LogSweep:
        return await workflow.execute_activity_method(
            LogActivities.keep_logs,
            start_to_close_timeout=_LIMIT,
            schedule_to_close_timeout=_LIMIT,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RETRY,
        )


async def schedule_clean_up(client: Client, task_queue: str) -> None:
    """Makes sure that the builder behind `task_queue` is cleaned."""
    name = f"clean-up-{task_queue}"
    await _schedule(client, name, CleanUpWorkflow, task_queue, summary="old builds and releases", every=EVERY)


async def schedule_log_upkeep(client: Client, every: timedelta = EVERY) -> None:
    """Makes sure that logs are merged, archived and dropped in time."""
    await _schedule(client, KEEP_LOGS, KeepLogsWorkflow, summary="old logs", every=every)


async def _schedule(client: Client, name: str, what: type, *arguments: str, summary: str, every: timedelta) -> None:
    """One that is there becomes what this version wants; it stays paused when an operator has paused it."""
    action = ScheduleActionStartWorkflow(
        what.__name__, args=arguments, id=name, task_queue=TASK_QUEUE, static_summary=summary
    )
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)])
    wanted = Schedule(action=action, spec=spec, policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP))

    def renewed(found: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state = found.description.schedule.state
        return ScheduleUpdate(wanted)

    try:
        await client.create_schedule(name, wanted)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(name).update(renewed)
